"""`python -m tui_pruner.engine`: the engine process."""

import logging

from tui_pruner.engine.server import serve

if __name__ == "__main__":
    logging.basicConfig()  # to stderr, which is the log file
    logging.getLogger("tui_pruner").setLevel(logging.INFO)
    serve()
