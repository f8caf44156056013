"""A file picker: folders, .pt and .yaml files, what a file seems to be, and how each is shown."""

from __future__ import annotations

import contextlib
import os
import re
import zipfile
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import ClassVar

from rich.markup import escape
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input

from tui_pruner.domain.formatting import ago, file_size, plural
from tui_pruner.tui import colours
from tui_pruner.tui.drawing import fit, fit_middle
from tui_pruner.tui.panes.widgets import Lines
from tui_pruner.tui.screens.entry_list import ChooserInput, Entries, Entry

YAMLS = (".yaml", ".yml")
SUFFIXES = (".pt", *YAMLS)
PARENT = ".."


@dataclass(frozen=True)
class FolderEntry:
    """A folder or a file in a listing."""

    path: Path
    name: str
    is_folder: bool


def entries_in(folder: Path) -> list[FolderEntry]:
    """The folder above, subfolders, and files that can be opened, by name; hidden ones left out.

    Raises:
        OSError: the folder cannot be listed.
    """
    found = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(".") and (is_folder := _is_folder(entry)) is not None:
                found.append(FolderEntry(Path(entry.path), entry.name, is_folder))
    found.sort(key=lambda place: (not place.is_folder, place.name.lower(), place.name))
    return [FolderEntry(folder.parent, PARENT, True), *found] if folder.parent != folder else found


def matching(places: list[FolderEntry], words: str) -> list[FolderEntry]:
    """The entries whose name has all of these words, in any case; the folder above always stays."""
    wanted = words.lower().split()
    return [place for place in places if place.name == PARENT or all(word in place.name.lower() for word in wanted)]


def day(seconds: float) -> str:
    """A date that sorts as text: 2026-11-22 06:07."""
    return datetime.fromtimestamp(seconds).strftime("%Y-%m-%d %H:%M")


def _is_folder(entry: os.DirEntry[str]) -> bool | None:
    """Whether it is a folder; None for what is neither a folder nor a file that can be opened."""
    try:
        if entry.is_dir():
            return True
        return False if entry.name.lower().endswith(SUFFIXES) and entry.is_file() else None
    except OSError:
        return None


FIRST_BYTES = 8192
LONGEST_PICKLE = 4 << 20
TASKS = {
    b"ClassificationModel": "classify",
    b"YOLOESegModel": "segment",
    b"SemanticSegmentationModel": "semantic",
    b"SegmentationModel": "segment",
    b"PoseModel": "pose",
    b"OBBModel": "obb",
    b"DepthModel": "depth",
    b"DetectionModel": "detect",
    b"WorldModel": "detect",
    b"YOLOEModel": "detect",
}
PRUNED = b"tui_pruner"
DATA_SET = "a data set, not a model"
SIGNATURES = {
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"version https://git-lfs": "a pointer of git LFS, not the file itself",
    b"\x08": "an ONNX export, perhaps",
    b"\x80": "a bare pickle",
}


def kind_of(path: Path) -> str:
    """A short description of a file: "checkpoint, detect, pruned here"; or why it is not a checkpoint."""
    try:
        facts = path.stat()
        return _kind(path, facts.st_mtime, facts.st_size)
    except OSError as error:
        return (error.strerror or "cannot be read").lower()


@lru_cache(256)
def _kind(path: Path, changed: float, size: int) -> str:
    if size == 0:
        return "empty"
    if path.suffix.lower() != ".pt":
        return _yaml_kind(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _archive_kind(archive)
    except (zipfile.BadZipFile, ValueError, KeyError, NotImplementedError, RuntimeError):
        return _other_kind(path)


def _archive_kind(archive: zipfile.ZipFile) -> str:
    names = archive.namelist()
    if any(name.endswith("constants.pkl") for name in names):
        return "a TorchScript export, not a checkpoint"
    pickle = next((name for name in names if name.endswith("data.pkl")), "")
    if not pickle or archive.getinfo(pickle).file_size > LONGEST_PICKLE:
        return "a zip without a PyTorch checkpoint"
    content = archive.read(pickle)
    task = next((task for name, task in TASKS.items() if name in content), "")
    return ", ".join(["checkpoint", *([task] if task else ["of no Ultralytics model"]), *(["pruned here"] if PRUNED in content else [])])


def _other_kind(path: Path) -> str:
    with path.open("rb") as stream:
        first = stream.read(FIRST_BYTES)
    if first.startswith(b"PK"):
        return "a truncated checkpoint"
    return next((kind for signature, kind in SIGNATURES.items() if first.startswith(signature)), "not a PyTorch checkpoint")


def _yaml_kind(path: Path) -> str:
    with path.open("rb") as stream:
        text = stream.read(FIRST_BYTES)
    if re.search(rb"^backbone\s*:", text, re.MULTILINE):
        return "an architecture, with random weights"
    return DATA_SET if re.search(rb"^(train|val)\s*:", text, re.MULTILINE) else "no architecture"


def data_near(model: str, recorded: str = "", most: int = 9) -> list[str]:
    """The data yamls beside a checkpoint and in the current folder, after those that its training has recorded if they exist.

    `recorded`: what the checkpoint itself names.
    """
    try:
        here, folder = Path.cwd(), Path(model).absolute().parent
    except FileNotFoundError:  # the current folder was removed
        here, folder = None, Path(model).parent
        if not folder.is_absolute():
            return []
    found = [path for path in (Path(recorded),) if _is_data_set(path)]
    found += [path for place in (folder, folder.parent) if (path := _recorded_data(place / "args.yaml")) is not None]
    for place in dict.fromkeys((folder, here or folder)):
        with contextlib.suppress(OSError):
            found += sorted(path for path in place.iterdir() if path.suffix.lower() in YAMLS and kind_of(path) == DATA_SET)
    unique = dict.fromkeys(path.absolute() for path in found)
    return [str(path.relative_to(here) if here and path.is_relative_to(here) else path) for path in unique][:most]


def _recorded_data(file: Path) -> Path | None:
    """The existing data yaml that a training's `args.yaml` names."""
    with contextlib.suppress(OSError):
        line = re.search(r"^data\s*:\s*(\S.*?)\s*$", file.read_text(encoding="utf-8", errors="replace")[:FIRST_BYTES], re.MULTILINE)
        path = Path(line[1].strip("'\"")) if line else file
        return path if path != file and _is_data_set(path) else None
    return None


def _is_data_set(path: Path) -> bool:
    with contextlib.suppress(OSError, ValueError):  # any text may be recorded
        return path.suffix.lower() in YAMLS and path.is_file() and kind_of(path) == DATA_SET
    return False


SIZE, DAY = 9, 16
WIDTH_FOR_DAY, WIDTH_FOR_SIZE = 50, 30


def place_line(place: FolderEntry, width: int) -> Text:
    """One line of a folder's listing; a folder has a slash and no size."""
    if place.is_folder:
        title = f"{PARENT}  the folder above" if place.name == PARENT else f"{place.name}{os.sep}"
        return Text.assemble(" ", (fit_middle(title, width - 2), colours.BLUE))
    return file_line(place.name, place.path, width)


def file_line(name: str, path: Path, width: int) -> Text:
    """A file with its size and date, as far as there is space."""
    try:
        facts = path.stat()
        size, changed = file_size(facts.st_size), day(facts.st_mtime)
    except OSError as error:
        size, changed = "", (error.strerror or "").lower()
    columns = [(fit(size, SIZE, right=True), WIDTH_FOR_SIZE), (fit(changed, DAY), WIDTH_FOR_DAY)]
    return _with_columns(name, [text for text, space in columns if width >= space], width)


def recent_line(path: Path, opened: float, problem: str, width: int) -> Text:
    """A recent checkpoint: its name, its folder, and when it was opened; dimmed with the reason where it cannot be opened."""
    tail = problem or ago(opened)
    space = max(width - len(tail) - 4, 8)
    name = fit_middle(path.name, space)
    folder = fit_middle(_short(path.parent), space - len(name) - 2) if space - len(name) > 6 else ""
    gap = " " * max(space - len(name) - len(folder) - 2, 0)
    style = colours.FAINT if problem else colours.TEXT
    return Text.assemble(" ", (name, style), "  ", (folder, colours.FAINT if problem else colours.MUTED), gap, " ", (tail, colours.MUTED))


def heading(title: str) -> Text:
    """The title of a part of a list."""
    return Text(title, colours.HEADING)


def _short(folder: Path) -> str:
    home = Path.home()
    return f"~{os.sep}{folder.relative_to(home)}" if folder.is_relative_to(home) else str(folder)


def _with_columns(name: str, columns: list[str], width: int) -> Text:
    space = width - 2 - sum(len(column) + 2 for column in columns)
    return Text.assemble(" ", (fit(fit_middle(name, space), space), colours.TEXT), *(("  " + column, colours.MUTED) for column in columns))


class FilePicker(ModalScreen[str]):
    """Browses folders until a file is chosen; escape gives the empty text."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "leave", "Back", show=False)]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        self._places: list[FolderEntry] = []
        self._shown: dict[str, FolderEntry] = {}
        self._problem = ""

    def compose(self) -> ComposeResult:
        """Compose the filter, the folder's entries, and a line about the one under the cursor."""
        with Vertical(classes="dialog wide picker") as box:
            box.border_subtitle = "type filters  enter opens  backspace up  escape back"
            yield ChooserInput("", "filter, or a path", upward=True)
            yield Entries("places")
            yield Lines(id="about", expected=70)

    def on_mount(self) -> None:
        """Show the current folder."""
        self._enter(self._folder)

    @on(Input.Changed)
    def typed(self, event: Input.Changed) -> None:
        """Filter the entries; a path to a folder opens it."""
        event.stop()
        if event.value != self._input.value:
            return
        path = self._folder / Path(event.value).expanduser() if event.value.endswith("/") else None
        if path is not None and path.is_dir():
            self._enter(path.resolve())
        else:
            self._show()

    @on(Input.Submitted)
    def submitted(self, event: Input.Submitted) -> None:
        """Open the entry under the cursor, or the typed path."""
        event.stop()
        typed = self._folder / Path(event.value.strip()).expanduser()
        if "/" in event.value and typed.is_file():
            self.dismiss(str(typed))
        else:
            self._show(self._entries.key)  # what was typed in the same instant counts
            self._open(self._entries.key)

    @on(Entries.Taken)
    def taken(self, event: Entries.Taken) -> None:
        """Open the clicked entry."""
        event.stop()
        self._open(event.key)

    @on(Entries.Moved)
    def moved(self, event: Entries.Moved) -> None:
        """Describe the entry under the cursor."""
        event.stop()
        self._tell()

    def action_move(self, lines: int) -> None:
        """Move the cursor."""
        self._entries.move(lines)

    def action_page(self, direction: int) -> None:
        """Move the cursor by a page."""
        self._entries.page(direction)

    def action_up(self) -> None:
        """Go to the folder above, the cursor on the one that was left."""
        if self._folder.parent != self._folder:
            self._enter(self._folder.parent, came_from=self._folder.name)

    def action_leave(self) -> None:
        """Return no file."""
        self.dismiss("")

    @property
    def _entries(self) -> Entries:
        return self.query_one(Entries)

    @property
    def _input(self) -> ChooserInput:
        return self.query_one(ChooserInput)

    def _open(self, key: str) -> None:
        place = self._shown.get(key)
        if place is None:
            return
        if place.name == PARENT:
            self.action_up()
        elif place.is_folder:
            self._enter(place.path)
        else:
            self.dismiss(str(place.path))

    def _enter(self, folder: Path, came_from: str = "") -> None:
        try:
            self._places = entries_in(folder)
        except OSError as error:
            self._problem = f"{folder.name or folder} cannot be opened: {(error.strerror or str(error)).lower()}"
            self._tell()
            return
        self._folder, self._problem = folder, ""
        self._input.value = ""
        self._show(came_from)

    def _show(self, at: str = "") -> None:
        shown = matching(self._places, self._input.value)
        self._shown = {place.name: place for place in shown}
        files = [place.name for place in shown if place.path.suffix == ".pt" and not place.is_folder]
        files += [place.name for place in shown if place.name != PARENT]
        box = self.query_one(".picker", Vertical)
        box.border_title = escape(fit_middle(str(self._folder), max(box.size.width - 8, 20)))
        self._entries.show(
            [Entry(partial(place_line, place), place.name) for place in shown], at if at in self._shown else next(iter(files), "")
        )
        self._tell()

    def _tell(self) -> None:
        line = self._about(self._shown.get(self._entries.key))
        self.query_one("#about", Lines).draw(lambda width, _: [line])

    def _about(self, place: FolderEntry | None) -> Text:
        if self._problem:
            return Text(self._problem, colours.BAD)
        if place is not None and not place.is_folder:
            return Text(kind_of(place.path), colours.MUTED)
        if self._input.value and not any(name != PARENT for name in self._shown):
            return Text("nothing here has that in its name", colours.WARNING)
        files = [place.path.suffix.lower() for place in self._places if not place.is_folder]
        checkpoints = files.count(".pt")
        counts = [(checkpoints, "checkpoint"), (len(files) - checkpoints, "yaml")]
        here = ", ".join(plural(number, thing) for number, thing in counts if number)
        return Text(f"{here} here" if here else "no models here", colours.MUTED)
