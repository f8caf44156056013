"""`python -m tui_pruner.engine`: the engine process."""

from tui_pruner.engine.server import serve

if __name__ == "__main__":
    serve()
