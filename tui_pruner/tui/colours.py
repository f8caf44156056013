"""The palettes, and the colours of the one in use as constants: `colours.WARNING`. Colour is never the only sign of a meaning."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from textual.css.stylesheet import Stylesheet
from textual.theme import Theme

PREFIX = "tui-pruner-"


@dataclass(frozen=True)
class Palette:
    """Colours by their meaning, as Rich names them; `strong`, `heading` and, with few colours, `muted` are styles.

    `ansi`: they are the terminal's own 16, of which only the default is a background: others are shown in reverse video.
    """

    name: str
    dark: bool
    background: str
    surface: str
    band: str
    selection: str
    cut_tint: str
    pending_tint: str
    conflict_tint: str
    border: str
    text: str
    strong: str
    muted: str
    faint: str
    blue: str
    heading: str
    good: str
    warning: str
    bad: str
    purple: str
    ansi: bool = False

    @property
    def status_colours(self) -> dict[str, str]:
        """The colour of each status of a layer."""
        return {"free": self.text, "coupled": self.blue, "linked": self.purple, "locked": self.muted}

    @property
    def theme(self) -> Theme:
        """The palette as a Textual theme."""
        of = _ansi_name if self.ansi else str
        return Theme(
            name=PREFIX + self.name,
            dark=self.dark,
            ansi=self.ansi,
            primary=of(self.blue),
            secondary=of(self.purple),
            accent=of(self.warning),
            warning=of(self.warning),
            error=of(self.bad),
            success=of(self.good),
            foreground=of(self.text),
            background=of(self.background),
            surface=of(self.surface),
            panel=of(self.band),
            boost=of(self.band),
            variables=self._variables(of(self.border), of(self.selection)),
        )

    def _variables(self, border: str, selection: str) -> dict[str, str]:
        plain = {"border-blurred": border, "selection": selection}
        return plain | _ANSI_VARIABLES if self.ansi else plain


_ANSI_VARIABLES = {
    "ansi-background": "ansi_black",
    "ansi-foreground": "ansi_white",
    **{f"{part}-foreground": "ansi_black" for part in ("block-cursor", "input-cursor", "input-selection", "screen-selection")},
    **{f"{part}-background": "ansi_blue" for part in ("block-cursor", "input-cursor", "input-selection", "screen-selection")},
}


def _ansi_name(colour: str) -> str:
    return f"ansi_{colour}"


DARK = Palette(
    name="dark",
    dark=True,
    background="#1a1b26",
    surface="#1f2133",
    band="#24283b",
    selection="#2a3862",
    cut_tint="#26382f",
    pending_tint="#40382a",
    conflict_tint="#482a38",
    border="#3b4261",
    text="#c0caf5",
    strong="bold #dfe6ff",
    muted="#a0a6cc",
    faint="#6f76a0",
    blue="#8aaefa",
    heading="bold #7dcfff",
    good="#9ece6a",
    warning="#e0af68",
    bad="#ff8a9f",
    purple="#bb9af7",
)
LIGHT = Palette(
    name="light",
    dark=False,
    background="#fafafc",
    surface="#f1f2f7",
    band="#e6e8f1",
    selection="#c3d4f7",
    cut_tint="#d6edd3",
    pending_tint="#f6e7c3",
    conflict_tint="#f9d5dc",
    border="#a9afc6",
    text="#2b3050",
    strong="bold #10142e",
    muted="#525876",
    faint="#7a809c",
    blue="#2148b5",
    heading="bold #07567a",
    good="#25601a",
    warning="#7a4a00",
    bad="#a51236",
    purple="#5f35a8",
)
HIGH_CONTRAST = Palette(
    name="high-contrast",
    dark=True,
    background="#000000",
    surface="#000000",
    band="#1f1f1f",
    selection="#003a75",
    cut_tint="#003300",
    pending_tint="#332600",
    conflict_tint="#4d0012",
    border="#ffffff",
    text="#ffffff",
    strong="bold #ffffff",
    muted="#d0d0d0",
    faint="#8a8a8a",
    blue="#a6d4ff",
    heading="bold #7fe8ff",
    good="#8dff8d",
    warning="#ffdd55",
    bad="#ffc2c2",
    purple="#e6c2ff",
)
ANSI = Palette(
    name="ansi",
    dark=True,
    background="default",
    surface="default",
    band="default",
    selection="blue",
    cut_tint="green",
    pending_tint="yellow",
    conflict_tint="red",
    border="bright_black",
    text="default",
    strong="bold default",
    muted="dim",
    faint="bright_black",
    blue="cyan",
    heading="bold cyan",
    good="green",
    warning="yellow",
    bad="red",
    purple="magenta",
    ansi=True,
)
PALETTES = {palette.name: palette for palette in (DARK, LIGHT, HIGH_CONTRAST, ANSI)}
VARIABLE = "TUI_PRUNER_THEME"
FEW_COLOURS = (None, "standard")


def wanted_palette(colour_system: str | None, no_color: bool) -> tuple[str, str]:
    """The palette that the user chose (TUI_PRUNER_THEME), else one for the terminal's colours; with a message for an unknown name."""
    name = os.environ.get(VARIABLE, "")
    fitting = ANSI.name if no_color or colour_system in FEW_COLOURS else DARK.name
    if not name or name in PALETTES:
        return name or fitting, ""
    return fitting, f"{VARIABLE}: no theme {name!r}: take {', '.join(PALETTES)}"


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
    """Use this palette from now on; the screen has to be drawn again."""
    global _in_use
    _in_use = palette


def in_use() -> Palette:
    """The palette in use."""
    return _in_use


class ParsedOnce(Stylesheet):
    """A stylesheet that is parsed again only when its colours change; Textual parses its default ones at each start."""

    _stale = False

    def set_variables(self, variables: dict[str, str]) -> None:
        """Use these colours from the next parse on."""
        if variables != self._variables:
            super().set_variables(variables)
            self._stale = True

    def reparse(self) -> None:
        """Parse everything again if colours changed; later additions are parsed when a rule is requested."""
        if self._stale:
            super().reparse()
            self._stale = False
