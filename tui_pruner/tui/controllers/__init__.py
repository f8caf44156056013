"""Controllers, one for each group of actions: they run actions and handle the engine's messages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tui_pruner.tui import actions
from tui_pruner.tui.actions import Action
from tui_pruner.tui.controllers.autosave import Autosave
from tui_pruner.tui.controllers.base import Controller, Dialogs, Jobs
from tui_pruner.tui.controllers.copy import CopyController
from tui_pruner.tui.controllers.criterion import CriterionController
from tui_pruner.tui.controllers.cut import CutController
from tui_pruner.tui.controllers.explain import ExplainController
from tui_pruner.tui.controllers.file import FileController
from tui_pruner.tui.controllers.job import JobController
from tui_pruner.tui.controllers.lineage import LineageController, StageListController
from tui_pruner.tui.controllers.lists import ImageListController, JobListController
from tui_pruner.tui.controllers.preset import PresetController
from tui_pruner.tui.controllers.preview import PreviewController
from tui_pruner.tui.controllers.recover import RecoverController
from tui_pruner.tui.controllers.step import StepController
from tui_pruner.tui.controllers.target import TargetController
from tui_pruner.tui.controllers.view import ViewController

if TYPE_CHECKING:
    from tui_pruner.tui.engine_session import EngineSession
    from tui_pruner.tui.state import Store

ACTIONS: tuple[Action, ...] = tuple(
    action
    for kind in (
        CutController, PresetController, CriterionController, TargetController, StepController, FileController, JobController,
        JobListController, RecoverController, ViewController, ExplainController, LineageController, StageListController,
        ImageListController, CopyController,
    )
    for action in kind.listed()
)  # fmt: skip
"""Every action of the app, to list and to bind: these cannot be run, since they have no session."""
actions.use(actions.keymap_of(ACTIONS, {}))


@dataclass(frozen=True)
class Controllers:
    """The controllers of one open session, wired together."""

    cut: CutController
    preset: PresetController
    criterion: CriterionController
    target: TargetController
    step: StepController
    file: FileController
    job: JobController
    recover: RecoverController
    view: ViewController
    explain: ExplainController
    preview: PreviewController
    lineage: LineageController
    copy: CopyController
    autosave: Autosave

    @classmethod
    def of(cls, store: Store, engine: EngineSession, jobs: Jobs, dialogs: Dialogs) -> Controllers:
        """Make all controllers on one store."""
        common = (store, engine, jobs, dialogs)
        criterion, view, file = CriterionController(*common), ViewController(*common), FileController(*common)
        autosave = Autosave(*common, criterion)
        return cls(
            cut=CutController(*common),
            preset=PresetController(*common),
            criterion=criterion,
            target=TargetController(*common, criterion),
            step=StepController(*common),
            file=file,
            job=JobController(*common),
            recover=RecoverController(*common, file, autosave.keep),
            view=view,
            explain=ExplainController(*common, view),
            preview=PreviewController(*common),
            lineage=LineageController(*common),
            copy=CopyController(*common),
            autosave=autosave,
        )

    @property
    def all(self) -> Sequence[Controller]:
        """All controllers in the order in which they handle a message: steps before those that observe them, saving last."""
        return (
            self.cut, self.preset, self.criterion, self.target, self.step, self.file, self.job, self.recover, self.view, self.explain,
            self.preview, self.lineage, self.copy, self.autosave,
        )  # fmt: skip

    def handlers_of(self, message: object) -> list[Callable[[Any], None]]:
        """The handlers of a message, in order."""
        return [handler for kind, handler in self._handlers if isinstance(message, kind)]

    @cached_property
    def _handlers(self) -> list[tuple[type, Callable[[Any], None]]]:
        """All handlers by the class of their message, in the order of the controllers."""
        return [pair for one in self.all for pair in one.handlers().items()]
