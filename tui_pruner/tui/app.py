"""The app: its theme, its first screen, its palette, and its end."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from textual import events, on
from textual.binding import Binding, BindingType
from textual.filter import LineFilter, NoColor
from textual.screen import ModalScreen, Screen
from textual.worker import Worker, WorkerState

from tui_pruner.domain.errors import REFUSED
from tui_pruner.domain.formatting import legible
from tui_pruner.engine.processes import kill_group
from tui_pruner.storage.atomic import remove_leftovers
from tui_pruner.storage.error_log import keep_traceback, one_line
from tui_pruner.storage.model_file import ModuleNames
from tui_pruner.storage.settings import Config
from tui_pruner.storage.trust import fingerprint
from tui_pruner.storage.trust import remember as trust
from tui_pruner.tui import colours, terminal
from tui_pruner.tui.actions import keymap_of, use
from tui_pruner.tui.colours import PALETTES, ParsedOnce, wanted_palette
from tui_pruner.tui.controllers import ACTIONS
from tui_pruner.tui.drawing import ASCII, CALM, SIGNS
from tui_pruner.tui.messages import ModelChosen, Opened, OpenFailed, SessionChosen
from tui_pruner.tui.opening import Opening, remember
from tui_pruner.tui.panes.widgets import Lines
from tui_pruner.tui.screens import help as first_run
from tui_pruner.tui.screens.loading import LoadingScreen
from tui_pruner.tui.terminal import InReverse, KeysInOrder, OnlyAscii, OnlyPrintable

if TYPE_CHECKING:
    from textual.command import Provider

    from tui_pruner.storage.sessions import SavedSession
    from tui_pruner.tui.screens.workbench import Workbench


def action_provider() -> type[Provider]:
    """Load the palette's provider of actions when the palette is first opened."""
    from tui_pruner.tui.screens.help import ActionProvider

    return ActionProvider


SETTLED = 1.0
"""Seconds after opening a checkpoint until its first picture is complete."""


SELDOM = 50
"""Collections of young objects for each of all objects. By Python's 10, one of 150 keys waits for one, as long as two keys take."""


def settle_memory() -> None:
    """Exempt present objects from garbage collection: traversing them takes as long as four keys; traverse later ones seldom."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*gc.get_threshold()[:2], SELDOM)


class PrunerApp(KeysInOrder):
    """tui-pruner on one checkpoint, or on the start screen without one."""

    CSS_PATH = "app.tcss"
    OTHER_STYLES: ClassVar[Path] = Path(__file__).with_name("screens.tcss")
    TITLE = "tui-pruner"
    BINDINGS: ClassVar[list[BindingType]] = [Binding("ctrl+z", "suspend_process", show=False, id="suspend", priority=True)]
    COMMANDS: ClassVar[set[type[Provider] | Callable[[], type[Provider]]]] = {action_provider}
    NOTIFICATION_TIMEOUT = 4

    def __init__(
        self,
        opening: Opening | None,
        config: Config = Config(),  # noqa: B008 (it is frozen)
        hinting: bool = False,
        engine: asyncio.subprocess.Process | None = None,
    ) -> None:
        super().__init__()
        self._engine = engine
        self._hinting = hinting
        self._last_words = ""
        self._opening = opening
        self._config = config
        self._reverse = InReverse()
        self._printable = OnlyPrintable()
        self._only_ascii = OnlyAscii(enabled=SIGNS is ASCII)
        self.set_class(SIGNS is ASCII, "-ascii")
        self.set_class(self.no_color, "-no-color")
        self.keymap = keymap_of(ACTIONS, config.settings.keymap)
        use(self.keymap)
        name, self._problem = wanted_palette(self.console.color_system, self.no_color)
        for palette in PALETTES.values():
            self.register_theme(palette.theme)
        self.use_palette(name)
        self.stylesheet = ParsedOnce(variables=self.get_css_variables())
        if CALM:
            self.animation_level = "none"

    @property
    def problems(self) -> Sequence[str]:
        """The problems of the settings, one line each."""
        return [problem for problem in (*self._config.problems, *self.keymap.problems, self._problem) if problem]

    def on_mount(self) -> None:
        """Show the workbench, or the start screen; restore the terminal on signals too."""
        self.set_keymap(dict(self.keymap.overrides))
        self.push_screen(self._first_screen())
        self.call_after_refresh(gc.enable)
        self.call_after_refresh(self._tell_problems)
        self.run_worker(remove_leftovers, name="removing leftovers", thread=True, exit_on_error=False)
        terminal.on_hangup(lambda status: self.exit(status, return_code=status), self.kill_children)
        terminal.stop_between_frames(self)

    @on(Worker.StateChanged)
    def report_failed_work(self, event: Worker.StateChanged) -> None:
        """Report an error in work of the app itself, which continues."""
        error = event.worker.error
        if event.state is WorkerState.ERROR and error is not None:
            keep_traceback(error)
            self.notify(one_line(event.worker.name, error), severity="warning", timeout=8, markup=False)

    def notify(self, message: str, **options: Any) -> None:
        """Notify as Textual does, with bytes of a file's name that are not UTF-8 made visible."""
        super().notify(legible(message), **options)

    def use_palette(self, name: str) -> None:
        """Switch to another palette; without colour there is only one."""
        palette = PALETTES["ansi" if self.no_color else name]
        colours.use(palette)
        self._reverse.enabled = palette.ansi
        self.theme = palette.theme.name
        for screen in self.screen_stack if self.is_running else []:
            for lines in screen.query(Lines):
                lines.redraw()

    def get_line_filters(self) -> Sequence[LineFilter]:
        """The filters of every line. Textual's own filter without colour is grey on black, which is invisible on a light terminal."""
        theirs = [NoColor()] if self.no_color else super().get_line_filters()
        return [line_filter for line_filter in (self._printable, self._reverse, *theirs, self._only_ascii) if line_filter.enabled]

    def _first_screen(self) -> Screen[None]:
        if self._opening is not None:
            self.call_after_refresh(self._read_other_styles)
            return self._loading(self._opening)
        return self._start_screen()

    def _start_screen(self, model: str = "", problem: str = "") -> Screen[None]:
        from tui_pruner.tui.screens.start import StartScreen

        self._read_other_styles()
        return StartScreen(model, problem)

    def _read_other_styles(self) -> None:
        """Read the styles of all that the loading screen does not have, once: the first frame does not wait until they are parsed."""
        if self.stylesheet.has_source(str(self.OTHER_STYLES)):
            return
        self.stylesheet.read(self.OTHER_STYLES)
        self.stylesheet.parse()
        if isinstance(self.screen, ModalScreen):  # opened by a key that came before the first frame
            self.refresh_css(animate=False)

    def _loading(self, opening: Opening) -> LoadingScreen:
        engine, self._engine = self._engine, None
        return LoadingScreen(opening, self._config.settings.validate_every_step, engine)

    def _tell_problems(self) -> None:
        for problem in self.problems:
            self.notify(problem, severity="warning", timeout=12, markup=False)
            if isinstance(self.screen, LoadingScreen):
                self.screen.note(problem, failed=True)

    def on_model_chosen(self, event: ModelChosen) -> None:
        """Open what was chosen on the start screen, or the next stage of a session."""
        if event.lineage and (autosave := getattr(getattr(self._session_screen, "controllers", None), "autosave", None)) is not None:
            autosave.leave()  # on purpose: later starts do not offer to resume it
        settings = self._opening or Opening(event.model)
        module = settings.module if event.lineage else None
        self._opening = Opening(
            module.build if module else event.model, settings.imgsz, settings.classes, event.data or settings.data, settings.images,
            settings.device, event.plan, lineage=event.lineage, module=module.at(event.model) if module else None,
        )  # fmt: skip
        self.switch_screen(self._loading(self._opening))

    def on_session_chosen(self, event: SessionChosen) -> None:
        """Resume a session that was chosen on the start screen."""
        self._opening = event.opening
        self.switch_screen(self._loading(event.opening))

    @on(Opened)
    def show_workbench(self, event: Opened) -> None:
        """Open the workbench on the model that was read, and add it to the recent checkpoints."""
        loading = self._session_screen
        if not isinstance(loading, LoadingScreen) or loading.engine is None:
            return
        from tui_pruner.tui.screens.workbench import Workbench, first_state

        if not loading.opening.module:
            remember(event.result.model.path)
        state, view = first_state(event.result, loading)
        self._replace(loading, Workbench(loading.engine, state, view))
        if not self.is_headless:
            self.set_timer(SETTLED, settle_memory)
        if self._hinting:
            self.call_after_refresh(lambda: self.screen.mount(first_run.hint()))

    @on(OpenFailed)
    def back_to_start(self, event: OpenFailed) -> None:
        """Show on the start screen why the checkpoint cannot be used, or ask first whether it is trusted."""
        self.kill_children()
        screen = self._session_screen
        opening = screen.opening if screen is not None else self._opening
        if opening is None:
            return
        if opening.module and opening.saved is None and event.reason and not event.untrusted:
            self._last_words = f"tui-pruner: {event.reason}"  # the start screen cannot correct a name
            self.exit(REFUSED, return_code=REFUSED)
        elif event.untrusted:
            if isinstance(screen, LoadingScreen):
                screen.wait_for_answer()
            work = self._ask_for_trust(opening, event.reason)
            self.run_worker(work, name="asking whether the file is trusted", exit_on_error=False)
        else:
            self._give_up(opening, event.reason)

    @property
    def _session_screen(self) -> LoadingScreen | Workbench | None:
        """The screen that has the engine."""
        return next((screen for screen in self.screen_stack if hasattr(screen, "close_children")), None)  # type: ignore[return-value]

    def _replace(self, old: Screen[Any], new: Screen[Any]) -> None:
        """Replace a screen by another, even behind dialogs."""
        while self.screen is not old:
            self.pop_screen()
        self.switch_screen(new)

    async def _ask_for_trust(self, opening: Opening, reason: str) -> None:
        from tui_pruner.tui.screens.prompts import TrustPrompt

        try:
            sha256 = await asyncio.to_thread(fingerprint, Path(opening.model).expanduser())
        except Exception as error:  # what cannot be read cannot be trusted either
            keep_traceback(error)
            self._give_up(opening, reason)
            return
        if await self.push_screen_wait(TrustPrompt(reason, sha256)) is None:
            self.call_after_refresh(self._give_up, opening, reason)  # the screen behind is about to be drawn again first
            return
        trust(sha256)
        self.post_message(SessionChosen(opening))

    def _give_up(self, opening: Opening, reason: str) -> None:
        screen = self._session_screen
        if screen is not None:
            self._replace(screen, self._start_screen("" if opening.module else opening.model, reason))

    async def on_event(self, event: events.Event) -> None:
        """Dismiss the first-run hint on any key or click, which has its normal effect as well."""
        if isinstance(event, (events.Key, events.MouseDown)) and self._hinting and self.screen.query("#hint"):
            self._hinting = False
            first_run.is_over()
            await self.screen.query("#hint").remove()
        await super().on_event(event)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Offer the palette only where there are actions: over a dialog it would be empty."""
        if action == "command_palette":
            return hasattr(self.screen, "registry")
        return super().check_action(action, parameters)

    async def action_quit(self) -> None:
        """Quit through the workbench's question."""
        screen = self._session_screen
        if screen is None:
            self.exit(0)
        elif self.screen is screen:
            screen.action_run("quit")

    def _handle_exception(self, error: Exception) -> None:
        from tui_pruner.tui.terminal import final_message, write_report

        if not self._last_words:
            self._last_words = final_message(error, write_report(error))
            self.kill_children()
        super()._handle_exception(error)

    def _print_error_renderables(self) -> None:
        # Textual would print the traceback with all local variables; the report has it without them.
        if self._last_words:
            print(self._last_words, file=sys.stderr)

    def kill_children(self) -> None:
        """End every child process at once, an engine that no screen has taken over too."""
        if self._engine is not None:
            kill_group(self._engine)
        screen = self._session_screen
        if screen is not None:
            screen.close_children()


async def run_app(
    model: str | None,
    *,
    engine: asyncio.subprocess.Process | None = None,
    imgsz: int | None = None,
    classes: int | None = None,
    data: str | None = None,
    images: int | None = None,
    device: str = "",
    plan: dict[str, Any] | None = None,
    saved: SavedSession | None = None,
    module: ModuleNames | None = None,
    config: Config = Config(),  # noqa: B008 (it is frozen)
) -> int:
    """Run the app until the user quits; return the exit status.

    Omitted options are those of the settings; `saved` overrides all. `engine`: a running engine for the first checkpoint.
    """
    terminal.tolerate_stray_bytes()
    settings = config.settings
    opening = None
    if saved is not None:
        opening = Opening.of(saved)
    elif model is not None:
        opening = Opening(model, imgsz or settings.imgsz, classes, data, images or settings.images, device, plan, module=module)
    app = PrunerApp(opening, config, hinting=first_run.is_now(), engine=engine)
    status = await app.run_async()
    return status if isinstance(status, int) else app.return_code or 0
