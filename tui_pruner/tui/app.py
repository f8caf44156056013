"""The app: its theme, its first screen, its palette, and its end."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.app import SystemCommand
from textual.binding import BindingType
from textual.filter import LineFilter, NoColor
from textual.screen import Screen
from textual.worker import Worker, WorkerState

from tui_pruner.config import Config
from tui_pruner.leftovers import remove_leftovers
from tui_pruner.printable import legible
from tui_pruner.tui import colours, first_run, terminal
from tui_pruner.tui.actions import ACTIONS
from tui_pruner.tui.actions import keymap as keys
from tui_pruner.tui.filters import InReverse, OnlyAscii, OnlyPrintable
from tui_pruner.tui.glyphs import ASCII, CALM, SIGNS
from tui_pruner.tui.keys_in_order import KeysInOrder
from tui_pruner.tui.messages import ModelChosen, Opened
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.palettes import PALETTES, wanted_palette
from tui_pruner.tui.recent import remember
from tui_pruner.tui.screens.workbench import Workbench
from tui_pruner.tui.unfinished import SessionChosen
from tui_pruner.tui.widgets.lines import Lines
from tui_pruner.unexpected import keep_traceback, one_line

if TYPE_CHECKING:
    from tui_pruner.sessions import SavedSession


class PrunerApp(KeysInOrder):
    """tui-pruner on one checkpoint, or on the start screen without one."""

    CSS_PATH = "app.tcss"
    TITLE = "tui-pruner"
    BINDINGS: ClassVar[list[BindingType]] = []
    NOTIFICATION_TIMEOUT = 4

    def __init__(self, opening: Opening | None, config: Config = Config(), hinting: bool = False) -> None:  # noqa: B008 (it is frozen)
        super().__init__()
        self._hinting = hinting
        self._last_words = ""
        self._opening = opening
        self._config = config
        self._reverse = InReverse()
        self._printable = OnlyPrintable()
        self._only_ascii = OnlyAscii(enabled=SIGNS is ASCII)
        self.set_class(SIGNS is ASCII, "-ascii")
        self.keymap = keys.keymap_of(ACTIONS, config.settings.keymap)
        keys.use(self.keymap)
        name, self._problem = wanted_palette(self.console.color_system, self.no_color)
        for palette in PALETTES.values():
            self.register_theme(palette.theme)
        self.use_palette(name)
        if CALM:
            self.animation_level = "none"

    @property
    def problems(self) -> Sequence[str]:
        """What was wrong with the settings, one line for each mistake."""
        return [problem for problem in (*self._config.problems, *self.keymap.problems, self._problem) if problem]

    def on_mount(self) -> None:
        """Show the workbench at once, or the start screen; give the terminal back on signals too."""
        self.set_keymap(dict(self.keymap.overrides))
        self.push_screen(self._first_screen())
        self.call_after_refresh(self._tell_problems)
        self.run_worker(remove_leftovers, name="removing leftovers", thread=True, exit_on_error=False)
        terminal.on_hangup(lambda status: self.exit(status, return_code=status), self.kill_children)

    @on(Worker.StateChanged)
    def tell_failed_work(self, event: Worker.StateChanged) -> None:
        """Say what went wrong in work of the app itself, which goes on."""
        error = event.worker.error
        if event.state is WorkerState.ERROR and error is not None:
            keep_traceback(error)
            self.notify(one_line(event.worker.name, error), severity="warning", timeout=8, markup=False)

    def notify(self, message: str, **options: Any) -> None:
        """As Textual does, with each byte of a file's name that is no UTF-8 in sight."""
        super().notify(legible(message), **options)

    def use_palette(self, name: str) -> None:
        """Draw everything in other colours from now on; without colour there is only one palette."""
        palette = PALETTES["ansi" if self.no_color else name]
        colours.use(palette)
        self._reverse.enabled = palette.ansi
        self.theme = palette.theme.name
        for screen in self.screen_stack if self.is_running else []:
            for lines in screen.query(Lines):
                lines.redraw()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """What every line goes through. Textual's own way without colour is grey on black, which a light terminal cannot show."""
        theirs = [NoColor()] if self.no_color else super().get_line_filters()
        return [line_filter for line_filter in (self._printable, self._reverse, *theirs, self._only_ascii) if line_filter.enabled]

    def _first_screen(self) -> Screen[None]:
        if self._opening is not None:
            return self._workbench(self._opening)
        from tui_pruner.tui.screens.start import StartScreen

        return StartScreen()

    def _workbench(self, opening: Opening) -> Workbench:
        bench = Workbench(opening)
        bench.automatic = self._config.settings.validate_every_step
        return bench

    def _tell_problems(self) -> None:
        for problem in self.problems:
            self.notify(problem, severity="warning", timeout=12, markup=False)
            if isinstance(self.screen, Workbench):
                self.screen.note(problem, failed=True)

    def on_model_chosen(self, event: ModelChosen) -> None:
        """Open what was chosen on the start screen."""
        settings = self._opening or Opening(event.model)
        self._opening = Opening(
            event.model, settings.imgsz, settings.classes, event.data or settings.data, settings.images, settings.device
        )
        self.switch_screen(self._workbench(self._opening))

    def on_session_chosen(self, event: SessionChosen) -> None:
        """Go on with a session that was chosen on the start screen."""
        self._opening = event.opening
        self.switch_screen(self._workbench(event.opening))

    @on(Opened)
    def remember_model(self, event: Opened) -> None:
        """It can be opened: the start screen may offer it from now on."""
        remember(event.result.model.path)
        if self._hinting and not event.replayed:
            self.screen.mount(first_run.hint())

    async def on_event(self, event: events.Event) -> None:
        """Any key or click makes the hint of the first run go away, and does what it does besides."""
        if isinstance(event, (events.Key, events.MouseDown)) and self._hinting and self.screen.query("#hint"):
            self._hinting = False
            first_run.is_over()
            await self.screen.query("#hint").remove()
        await super().on_event(event)

    async def action_quit(self) -> None:
        """Quit through the workbench's question."""
        workbench = next((screen for screen in self.screen_stack if isinstance(screen, Workbench)), None)
        if workbench is None:
            self.exit(0)
        elif self.screen is workbench:
            workbench.action_quit()

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """The palette: every action of the workbench, or of the jobs' screen, by name, from any pane."""
        if not getattr(screen, "has_palette", False):
            return
        for action in self.keymap.actions:
            if not hasattr(screen, f"action_{action.method}"):
                continue
            yield SystemCommand(action.title, action.help, lambda name=action.name: self.call_later(screen.run_action, name))

    def _handle_exception(self, error: Exception) -> None:
        from tui_pruner.tui.crash import last_words, write_report

        if not self._last_words:
            self._last_words = last_words(error, write_report(error))
            self.kill_children()
        super()._handle_exception(error)

    def _print_error_renderables(self) -> None:
        # Textual would print the traceback with all local variables; the report has it without them.
        if self._last_words:
            print(self._last_words, file=sys.stderr)

    def kill_children(self) -> None:
        """End every child process at once."""
        for screen in self.screen_stack:
            if isinstance(screen, Workbench):
                screen.close_children()


def run_app(
    model: str | None,
    *,
    imgsz: int | None = None,
    classes: int | None = None,
    data: str | None = None,
    images: int | None = None,
    device: str = "",
    plan: dict[str, Any] | None = None,
    saved: SavedSession | None = None,
    config: Config = Config(),  # noqa: B008 (it is frozen)
) -> int:
    """Run the app until the user quits; gives the exit status. What is not given is as the settings say; `saved` goes before all of it."""
    terminal.tolerate_stray_bytes()
    settings = config.settings
    opening = None
    if saved is not None:
        opening = Opening.of(saved)
    elif model is not None:
        opening = Opening(model, imgsz or settings.imgsz, classes, data, images or settings.images, device, plan)
    app = PrunerApp(opening, config, hinting=first_run.is_now())
    status = app.run()
    return status if isinstance(status, int) else app.return_code or 0
