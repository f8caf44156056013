"""The start screen: type a path, take a checkpoint that is near, or the demo."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import Screen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from tui_pruner import places
from tui_pruner.tui.messages import ModelChosen
from tui_pruner.tui.recent import checkpoints_near

DEMO = "demo"


class StartScreen(Screen[None]):
    """Asks which checkpoint to prune."""

    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,ctrl+q", "app.quit", "Quit", show=False)]

    def __init__(self, path: str = "", problem: str = "") -> None:
        super().__init__()
        self._path = path
        self._problem = problem

    def compose(self) -> ComposeResult:
        """The path, and a list of what is near."""
        with Vertical(id="start", classes="dialog wide") as box:
            box.border_title = "tui-pruner"
            box.border_subtitle = "enter opens    tab moves    escape quits"
            yield Static("Which checkpoint is to be pruned?", classes="question")
            field = Input(self._path, placeholder="path/to/best.pt, or yolov8n.yaml", id="path", select_on_focus=False)
            field.cursor_blink = False
            yield field
            yield Static(self._problem, id="problem", markup=False)
            yield OptionList(*self._options(), id="near", markup=False)

    @on(Input.Submitted)
    def typed(self, event: Input.Submitted) -> None:
        """Open the typed path, or say why not."""
        event.stop()
        path = Path(event.value.strip()).expanduser()
        if not event.value.strip():
            return
        if path.suffix != ".yaml" and not path.is_file():
            what = "is a folder, not a checkpoint" if path.is_dir() else "does not exist"
            self.query_one("#problem", Static).update(f"{path} {what}")
            return
        self.post_message(ModelChosen(str(path)))

    @on(OptionList.OptionSelected)
    def chosen(self, event: OptionList.OptionSelected) -> None:
        """Open what was chosen."""
        event.stop()
        name = event.option.id or ""
        if name == DEMO:
            folder = places.demo_folder()
            self.post_message(ModelChosen(str(folder / "digits.pt"), str(folder / "digits.yaml")))
        else:
            self.post_message(ModelChosen(name))

    def _options(self) -> list[Option]:
        near = [Option(str(path), id=str(path)) for path in checkpoints_near(Path())]
        if (places.demo_folder() / "digits.pt").is_file():
            near.append(Option("demo: handwritten digits, YOLOv8n, ten classes", id=DEMO))
        return near
