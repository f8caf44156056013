"""UTF-8 mode, whatever the locale says: in it, every file's name is the same text in all of our processes and files."""

from __future__ import annotations

import os
import sys

VARIABLE = "PYTHONUTF8"
ASCII = "TUI_PRUNER_ASCII"


def ensure_utf8() -> None:
    """Start this process anew in Python's UTF-8 mode, unless names of files are UTF-8 already; what it starts follows it.

    The locale is still that of a terminal which may have no more than ASCII, so signs of the app are drawn in that.
    """
    if sys.getfilesystemencoding() == "utf-8":
        return
    os.environ[VARIABLE] = "1"
    os.environ.setdefault(ASCII, "1")
    os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
