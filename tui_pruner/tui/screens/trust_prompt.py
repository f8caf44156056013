"""Asks whether a file that runs code of its own is trusted: its user types the beginning of its SHA-256."""

from __future__ import annotations

from tui_pruner.trust import SHORTEST, begins, short
from tui_pruner.tui.screens.path_prompt import PathPrompt

ASKS = (
    "It can do whatever you can do, as a program that you start. If you trust whoever made it, type the first {digits} digits of its "
    "SHA-256, {shown}; the app remembers the file."
)


class TrustPrompt(PathPrompt):
    """Takes at least eight digits of the file's own SHA-256 and nothing else; escape gives None."""

    def __init__(self, reason: str, sha256: str) -> None:
        self._asks = ASKS.format(digits=SHORTEST, shown=short(sha256))
        super().__init__("Trust this file?", f"{reason}.\n\n{self._asks}", "")
        self._sha256 = sha256

    def take(self, text: str) -> None:
        """Give the digits if they are the file's."""
        if begins(text, self._sha256):
            self.dismiss(text)
        else:
            self.tell(f"{text!r} is not how its SHA-256 begins. {self._asks}")
