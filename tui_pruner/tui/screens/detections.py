"""The detections of two stages on the same validation images, side by side: half blocks, or the terminal's own graphics if it has them."""

from __future__ import annotations

import fcntl
import importlib
import io
import os
import struct
import sys
import termios
import time
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from rich.color import Color
from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import Horizontal, Vertical
from textual.strip import Strip
from textual.widget import Widget

from tui_pruner.domain.formatting import clock, legible, plural, score
from tui_pruner.tui import colours
from tui_pruner.tui.actions import DETECTIONS, Registry, bindings
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.controllers.lists import ImageListController
from tui_pruner.tui.drawing import ASCII, GLYPHS, SIGNS, fit, fit_middle, half_blocks, sixel_widget, sixels_of, wrapped
from tui_pruner.tui.job_specs.job import CANCELLED, FAILED, RUNNING, QueuedJob
from tui_pruner.tui.panes.bars import fitting, with_short_labels
from tui_pruner.tui.panes.widgets import Lines
from tui_pruner.tui.screens.base import ActionScreen

if TYPE_CHECKING:
    from PIL.Image import Image

    from tui_pruner.engine.job_messages import Box, DetectedImage
    from tui_pruner.tui.job_specs.export import StagePair
    from tui_pruner.tui.screens.workbench import Workbench

VARIABLE = "TUI_PRUNER_PICTURES"
SHARED = ("help",)
EVERY = 0.25
KITTY = ("xterm-kitty", "xterm-ghostty")
SIXEL = ("foot", "mlterm", "contour", "xterm-256color-sixel")
SIXEL_PROGRAMS = ("WezTerm", "iTerm.app")
COLOURS = 64
"""Colours of a picture in half blocks: fewer bytes for the terminal, with hardly a visible difference."""


def cannot_draw(no_color: bool) -> str:
    """Why no picture can be drawn here; empty where it can."""
    if no_color:
        return "no pictures without colours (NO_COLOR)"
    if SIGNS is ASCII:
        return "no pictures in ASCII"
    return "no pictures in the terminal's own 16 colours: choose another theme (ctrl+p)" if colours.in_use().ansi else ""


def need_not_draw() -> str:
    """Why pictures are drawn only on request; empty where they are drawn at once."""
    wish = os.environ.get(VARIABLE, "auto")
    if wish == "never":
        return "pictures are switched off (settings: pictures)"
    over_ssh = bool(os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"))
    return "no pictures over SSH, where the line may be slow" if over_ssh and wish == "auto" else ""


def graphics() -> str:
    """The graphics protocol of a known terminal; empty for half blocks.

    The terminal is not asked: its answer would arrive among the keys.
    """
    term, program = os.environ.get("TERM", ""), os.environ.get("TERM_PROGRAM", "")
    if os.environ.get(VARIABLE, "auto") == "blocks" or os.environ.get("TMUX"):
        return ""
    if term in KITTY or os.environ.get("KITTY_WINDOW_ID"):
        return "TGPImage"
    return "SixelImage" if term in SIXEL or program in SIXEL_PROGRAMS else ""


def cell_size() -> dict[str, str]:
    """A cell's size in pixels, as textual-image takes it from the environment; empty where the terminal does not tell the kernel."""
    try:
        rows, columns, width, height = struct.unpack("HHHH", fcntl.ioctl(0, termios.TIOCGWINSZ, b"\0" * 8))
    except OSError:
        return {}
    if not (rows and columns and width and height):
        return {}
    return {"TEXTUAL_CELL_WIDTH": str(width // columns), "TEXTUAL_CELL_HEIGHT": str(height // rows)}


def graphics_widget(name: str) -> type[Any] | None:
    """The widget of textual-image for a graphics protocol; None where the package is not installed.

    On import it queries the terminal unless there is none, and would take the user's keys for the answer.
    """
    os.environ.update(cell_size())
    streams: Any = sys
    terminal, streams.__stdout__ = streams.__stdout__, io.StringIO()
    try:
        found: type[Any] = getattr(importlib.import_module("textual_image.widget"), name)
    except ImportError:
        return None
    finally:
        streams.__stdout__ = terminal
    return found


def rgb(style: str) -> tuple[int, int, int]:
    """A colour of the palette as RGB numbers."""
    triplet = Color.parse(style).get_truecolor()
    return triplet.red, triplet.green, triplet.blue


def colour_of(box: Box, after: bool) -> str:
    """A box's colour: detected at both stages, only at the first, or only at the second."""
    return colours.GOOD if box.matched else colours.WARNING if after else colours.BAD


def label_of(box: Box) -> str:
    """The label of a box."""
    return f"{legible(box.label)} {score(box.score)}"


def with_boxes(file: str, boxes: Sequence[Box], after: bool, size: tuple[int, int] | None = None) -> Image:
    """Draw a frame for each box on the picture; `size` is the space in pixels; without it, the picture keeps its size and gets labels."""
    from PIL import Image, ImageDraw

    with Image.open(file) as stored:
        image: Image.Image = stored.convert("RGB")
    if size is not None:
        scale = min(size[0] / image.width, size[1] / image.height)
        image = image.resize((max(round(image.width * scale), 1), max(round(image.height * scale / 2), 1) * 2))
        image = image.quantize(COLOURS).convert("RGB")
    draw = ImageDraw.Draw(image)
    for box in in_turn(boxes):
        left, upper, right, lower = places(box, image.size)
        draw.rectangle((left, upper, right, lower), outline=rgb(colour_of(box, after)), width=1 if size else 2)
        if size is None:
            draw.text((left + 2, max(upper - 11, 0)), label_of(box), fill=rgb(colour_of(box, after)))
    return image


def in_turn(boxes: Sequence[Box]) -> list[Box]:
    """The boxes in drawing order: changed ones on top of unchanged ones, higher scores on top of lower ones."""
    return sorted(boxes, key=lambda box: (not box.matched, box.score))


def places(box: Box, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The pixel coordinates of a box's sides."""
    left, upper, right, lower = (round(side * (size[number % 2] - 1)) for number, side in enumerate(box.sides))
    return left, upper, right, lower


def picture_rows(image: Image, boxes: Sequence[Box], after: bool) -> list[list[Segment]]:
    """A picture with its boxes as rows of cells, the labels above the boxes or at their upper side."""
    values = image.tobytes()
    rows = half_blocks(list(zip(values[::3], values[1::3], values[2::3], strict=True)), image.width)
    taken: set[tuple[int, int]] = set()
    for box in reversed(in_turn(boxes)):
        left, upper, _, _ = places(box, image.size)
        style = Style(color="black", bgcolor=colour_of(box, after))
        line = max(upper // 2 - 1, 0)
        label = label_of(box)[: len(rows[line])]
        start = min(left, len(rows[line]) - len(label))
        cells = {(line, column) for column in range(start, start + len(label))}
        if cells & taken:
            continue  # half a label would be another one's
        taken |= cells
        for column, sign in enumerate(label, start=start):
            rows[line][column] = Segment(sign, style)
    return rows


def fitted(picture: tuple[int, int], space: tuple[int, int]) -> tuple[int, int]:
    """The cells that a picture takes within this space; by default a cell counts as twice as high as wide."""
    ratio = int(os.environ.get("TEXTUAL_CELL_HEIGHT", 2)) / int(os.environ.get("TEXTUAL_CELL_WIDTH", 1))
    scale = min(space[0] / picture[0], space[1] * ratio / picture[1])
    return max(int(picture[0] * scale), 1), max(int(picture[1] * scale / ratio), 1)


class PictureBox(Widget):
    """One picture in half blocks, centred."""

    DEFAULT_CSS = "PictureBox { width: 1fr; height: 1fr; }"

    def __init__(self, after: bool, id: str) -> None:
        super().__init__(id=id)
        self._after = after
        self._shown: tuple[Any, ...] = ()
        self._rows: list[Strip] = []

    def show(self, image: DetectedImage | None) -> None:
        """Show an image with this side's boxes; nothing where there is none."""
        width, height = self.content_size
        shown = (image.file if image else "", width, height, colours.in_use().name)
        if shown == self._shown:
            return
        self._shown, self._rows = shown, []
        if image is not None and width > 0 and height > 0:
            boxes = image.after if self._after else image.before
            drawn = picture_rows(with_boxes(image.file, boxes, self._after, (width, 2 * height)), boxes, self._after)
            margin, above = (width - len(drawn[0])) // 2, (height - len(drawn)) // 2
            blank = Segment(" " * margin, self.rich_style)
            self._rows = [Strip.blank(width, self.rich_style)] * above + [Strip([blank, *row]).simplify() for row in drawn]
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """Render one row."""
        width = self.content_size.width
        return self._rows[y].adjust_cell_length(width, self.rich_style) if y < len(self._rows) else Strip.blank(width, self.rich_style)


class Detections(ActionScreen, inherit_bindings=False):
    """Shows the progress of the detections' job, then one image after the other."""

    BINDINGS: ClassVar[list[BindingType]] = [
        *bindings(ACTIONS, DETECTIONS),
        *(action.binding for action in ACTIONS if action.id in SHARED),
    ]

    def __init__(self, workbench: Workbench, pair: StagePair) -> None:
        super().__init__()
        self.store = workbench.store
        self.dialogs = workbench.dialogs
        self._controller = ImageListController(self.store.state, workbench.queue, self.dialogs, self, pair)
        shared = [action for action in workbench.registry if action.id in SHARED]
        self.registry = Registry([*self._controller.actions(), *shared])
        self.drawing = not need_not_draw()
        self._graphics: type[Any] | None = None
        self._placed: dict[str, str] = {}

    def compose(self) -> ComposeResult:
        """Compose the header, the two pictures, the changes, and the keys."""
        yield Lines(id="detected", expected=self.app.size.width)
        with Horizontal(id="pair"):
            for side in ("before", "after"):
                yield Vertical(PictureBox(side == "after", id=f"picture-{side}"), id=side, classes="side")
        yield Lines(id="changes", expected=self.app.size.width)
        yield Lines(id="detections-footer", expected=self.app.size.width)

    @property
    def current_pane(self) -> str:
        """What the keys act on: the images."""
        return DETECTIONS

    def on_mount(self) -> None:
        """Draw, and draw again while the job runs."""
        kind = graphics()
        if kind and not cannot_draw(self.app.no_color):
            self.run_worker(lambda: self._load(kind), name="loading textual-image", thread=True, exit_on_error=False)
        self.set_interval(EVERY, self.draw_all)
        self.call_after_refresh(self.draw_all)

    def _load(self, kind: str) -> None:
        """Import the terminal's graphics in a thread: it takes a quarter of a second."""
        self._graphics = graphics_widget(kind)

    def on_resize(self) -> None:
        """Draw for the new size."""
        self._placed.clear()
        self.call_after_refresh(self.draw_all)

    def acted(self) -> None:
        """Show the changes of an action."""
        self.draw_all()

    def leave(self) -> None:
        """Go back."""
        self.dismiss(None)

    def switch_pictures(self) -> None:
        """Show the pictures, or only the results."""
        reason = cannot_draw(self.app.no_color)
        if reason:
            self.dialogs.say(reason, "warning")
        self.drawing = not self.drawing and not reason

    def draw_all(self) -> None:
        """Draw the present state, unless the screen is being left."""
        if self not in self.app.screen_stack or not self.children:
            return
        at, image = self._controller, self._controller.image
        reason = cannot_draw(self.app.no_color) or ("" if self.drawing else need_not_draw() or "no pictures")
        for side, title in zip(("before", "after"), at.pair.titles, strict=True):
            self._draw_side(side, title, image, drawn=not reason)
        self.query_one("#detected", Lines).draw(lambda width, _: [Text(fit(self._heading(image), width), colours.HEADING)])
        told = changed_lines(image, reason) if image is not None else []
        self.query_one("#changes", Lines).draw(lambda width, _: [line for text, style in told for line in wrapped(text, width, style)][:4])
        own = [action for action in self.registry if action.footer]
        off = {action.id for action in own if action.why_disabled(self.store.state)}
        self.query_one("#detections-footer", Lines).draw(lambda width, _: [fitting(with_short_labels(own, width), width, disabled=off)])

    def _draw_side(self, side: str, title: str, image: DetectedImage | None, drawn: bool) -> None:
        box = self.query_one(f"#{side}", Vertical)
        found = (image.after if side == "after" else image.before) if image is not None else []
        counted = f": {len(found)} found" if image is not None else ""
        box.border_title = f"{fit_middle(title, max(box.size.width - len(counted) - 6, 8))}{counted}"
        shown = image if drawn else None
        if self._graphics is None:
            self.query_one(f"#picture-{side}", PictureBox).show(shown)
        elif self._placed.get(side) != (file := shown.file if shown is not None else ""):
            self._placed[side] = file
            box.remove_children()
            if shown is not None:
                picture, space = with_boxes(file, found, side == "after"), (box.content_size.width, box.content_size.height)
                self._place(side, file, picture, fitted(picture.size, space))

    def _place(self, side: str, file: str, picture: Image, cells: tuple[int, int]) -> None:
        """Put a terminal graphic into its place; a sixel picture after it is encoded."""
        if graphics() != "SixelImage":
            self._mount(side, file, self._graphics(picture) if self._graphics else None, cells)
            return

        plain: Any = self._graphics

        def encode() -> None:
            made: Any
            try:
                made = partial(sixel_widget, *sixels_of(picture, cells))
            except (AttributeError, TypeError):  # another version of textual-image, which encodes when it draws
                made = partial(plain, picture)
            self.app.call_from_thread(lambda: self._mount(side, file, made(), cells))

        self.run_worker(encode, name="encoding sixels", group=side, exclusive=True, thread=True, exit_on_error=False)

    def _mount(self, side: str, file: str, made: Widget | None, cells: tuple[int, int]) -> None:
        """Mount a picture if it is still wanted."""
        if made is not None and self._placed.get(side) == file and self in self.app.screen_stack:
            made.styles.width, made.styles.height = cells
            self.query_one(f"#{side}", Vertical).mount(made)

    def _heading(self, image: DetectedImage | None) -> str:
        result, at = self._controller.result, self._controller
        if result is None:
            return f" {under_way(at.job, time.monotonic(), at.running)}"
        if image is None:
            return " no image could be read"
        number = result.images.index(image) + 1
        return f" {number}/{len(result.images)}  {image.image}   changed by {image.changed:.2f}, the most changed first"


def under_way(job: QueuedJob | None, now: float, running: QueuedJob | None = None) -> str:
    """The job's progress, or how it ended; while it waits, the progress of the running one."""
    if job is None:
        return "nothing was detected yet"
    if job.state == RUNNING:
        return _progress(job, now)
    if job.state in (FAILED, CANCELLED):
        return f"{job.state}: {job.error}" if job.error else job.state
    if running is None:
        return "waits for the jobs before it"
    return f"waits for {running.spec.name}: {_progress(running, now)}"


def _progress(job: QueuedJob, now: float) -> str:
    told = job.progress
    counted = f" {told.done}/{told.total}" if told and told.total else ""
    return f"{told.doing if told else 'starting'}{counted}  {clock(job.elapsed(now))}"


def changed_lines(image: DetectedImage, reason: str) -> list[tuple[str, str]]:
    """The boxes of both stages, those of only one, and changed scores, one styled line each."""
    lost, new = [box for box in image.before if not box.matched], [box for box in image.after if not box.matched]
    both = sum(box.matched for box in image.after)
    lines = [(f"{plural(both, 'detection')} in both", colours.GOOD if both else colours.MUTED)]
    if lost:
        lines.append((f"lost: {', '.join(map(label_of, lost))}", colours.BAD))
    if new:
        lines.append((f"new: {', '.join(map(label_of, new))}", colours.WARNING))
    return [*lines, *([(f"{reason} {GLYPHS.dot} p draws them", colours.MUTED)] if reason else [])]
