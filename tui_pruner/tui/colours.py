"""The colours of the palette that is in use, as constants: `colours.WARNING`. Nothing is said by colour alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui_pruner.tui.palettes import DARK, Palette

if TYPE_CHECKING:
    BACKGROUND: str
    SURFACE: str
    BAND: str
    SELECTION: str
    CUT_TINT: str
    PENDING_TINT: str
    CONFLICT_TINT: str
    BORDER: str
    TEXT: str
    STRONG: str
    MUTED: str
    FAINT: str
    BLUE: str
    HEADING: str
    GOOD: str
    WARNING: str
    BAD: str
    PURPLE: str
    STATUS_COLOURS: dict[str, str]
else:

    def __getattr__(name: str) -> Any:
        if not name.isupper():
            raise AttributeError(f"no colour {name}")
        return getattr(_in_use, name.lower())


_in_use: Palette = DARK


def use(palette: Palette) -> None:
    """Draw with this palette from now on; what is drawn already must be drawn again."""
    global _in_use
    _in_use = palette


def in_use() -> Palette:
    """The palette that is drawn with."""
    return _in_use
