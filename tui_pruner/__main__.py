"""The console script: a word that is not a command is a model to open; usage errors are reported before any library is imported.

It runs in Python's UTF-8 mode with any locale, so that every file name is the same text in all of our processes.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "PYTHONUTF8"
ASCII = "TUI_PRUNER_ASCII"


def ensure_utf8() -> None:
    """Restart this process in Python's UTF-8 mode, unless file names are UTF-8 already; child processes inherit the mode.

    The locale stays that of the terminal, which may only support ASCII, so the app draws its signs accordingly.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    os.environ[VARIABLE] = "1"
    os.environ.setdefault(ASCII, "1")
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])


def ensure_streams() -> None:
    """Open those of the three standard streams that were closed (`>&-`), so that no file of ours gets their numbers."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    sys.stdin = sys.stdin or os.fdopen(0, encoding="utf-8", closefd=False)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)


def end_results() -> None:
    """Send what is printed from now on to stderr: code of the user's that waits for the end of the program may print."""
    try:
        sys.stdout.flush()
    except OSError:  # the reader has gone: Python reports what is left
        return
    os.dup2(2, 1)


LOOKING = ("inspect", "contents", "groups", "flow", "explain", "preview", "steps", "coverage", "scan", "plan")
MAKING = ("prune", "prove", "validate", "gate", "bench", "recalibrate", "reconstruct", "finetune", "compress", "export", "report")
OWN = ("open", "demo", "sessions", "locate", "keys", "serve")
COMMANDS = frozenset((*LOOKING, *MAKING, *OWN))
HELPS = frozenset({"--help", "-h", "--version", "--install-completion", "--show-completion"})
COMPLETION = "_TUI_PRUNER_COMPLETE"
"""Set by the shell when it asks for completions of a word."""
TRUSTED = "TUI_PRUNER_TRUSTED"
ENVIRONMENT = {"YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true", "YOLO_VERBOSE": "false", "OMP_WAIT_POLICY": "PASSIVE"}


def main() -> None:
    """Run the command line and exit with its status."""
    try:
        ensure_utf8()
        ensure_streams()
        status = run(sys.argv[1:])
        end_results()
        sys.exit(status)
    except KeyboardInterrupt:  # while the command line itself is being imported
        print("tui-pruner: interrupted", file=sys.stderr)
        sys.exit(130)


def run(arguments: list[str]) -> int:
    """Run one call and return its exit status: 0 yes or done, 1 the answer is no, 2 bad usage or input, 3 a job failed, 130 interrupted."""
    if arguments == ["--version"]:
        from tui_pruner import __version__

        print(f"tui-pruner {__version__}")
        return 0
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    os.environ.pop(TRUSTED, None)  # an environment variable never makes a file trusted
    if COMPLETION in os.environ:
        from tui_pruner.cli.main import call

        return call(arguments)
    if not arguments:
        return opened(None)
    if arguments[0] not in COMMANDS | HELPS:
        if misspelt(arguments[0]):
            return 2
        if len(arguments) == 1 and not arguments[0].startswith("-"):
            return opened(arguments[0])
        arguments = ["open", *arguments]
    from tui_pruner.cli.main import call

    return call(["--help" if argument == "-h" else argument for argument in arguments])


def misspelt(word: str) -> bool:
    """Whether a word is a misspelt command; the nearest commands are reported."""
    from tui_pruner.cli.early_checks import demand_no_misspelt_command
    from tui_pruner.cli.launch import ended

    def look() -> int:
        demand_no_misspelt_command(word, COMMANDS)
        return 0

    return ended(look) != 0


def opened(model: str | None) -> int:
    """Open the app where there is nothing to parse."""
    from tui_pruner.cli.launch import ended, launch

    return ended(lambda: launch(model))


if __name__ == "__main__":
    main()
