"""Messages between the parts of the interface, one class for each event."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from textual.message import Message

if TYPE_CHECKING:
    from tui_pruner.domain.lineage import Stage
    from tui_pruner.engine.messages import (
        DryRun,
        Figures,
        OpenResult,
        ProofEvent,
        SavedPlan,
        SessionView,
        WriteResult,
    )
    from tui_pruner.engine.requests import TargetRung
    from tui_pruner.engine.search_messages import TargetPlan
    from tui_pruner.tui.job_specs.job import QueuedJob
    from tui_pruner.tui.opening import Opening


class EngineMessage(Message):
    """A message about the engine: its answer, or its state."""


class Opened(EngineMessage):
    """The engine has read and traced the checkpoint; `replayed` after a restart."""

    def __init__(self, result: OpenResult, replayed: bool) -> None:
        self.result = result
        self.replayed = replayed
        super().__init__()


class OpenFailed(EngineMessage):
    """The checkpoint cannot be used; `untrusted`: unless the user trusts it."""

    def __init__(self, reason: str, untrusted: bool = False) -> None:
        self.reason = reason
        self.untrusted = untrusted
        super().__init__()


class Refreshed(EngineMessage):
    """New figures for the pending cuts, and for the layer under the cursor (None where it is not a layer), or why there are none."""

    def __init__(self, figures: Figures, with_preview: bool = True) -> None:
        self.preview = figures.preview if with_preview else None
        self.no_preview = figures.no_preview if with_preview else ""
        self.detail = figures.detail
        self.no_detail = figures.no_detail
        super().__init__()


class Answered(EngineMessage):
    """The engine answered a controller's request, or refused it: `give` passes that to the controller."""

    def __init__(self, give: Callable[[], None]) -> None:
        self.give = give
        super().__init__()


class TargetPlanned(EngineMessage):
    """The amounts that meet a target, or why there are none."""

    def __init__(self, result: TargetPlan) -> None:
        self.result = result
        super().__init__()


class RungPlanned(EngineMessage):
    """Another position of the target slider is planned."""

    def __init__(self, rung: TargetRung) -> None:
        self.rung = rung
        super().__init__()


class DryRan(EngineMessage):
    """The dry run's result for the shapes of the pending cuts, or why there is none."""

    def __init__(self, result: DryRun | None, reason: str = "") -> None:
        self.result = result
        self.reason = reason
        super().__init__()


class SessionChanged(EngineMessage):
    """A step was applied, undone or redone; `did` says which in the user's words."""

    def __init__(self, session: SessionView, did: str) -> None:
        self.session = session
        self.did = did
        super().__init__()


class ProofArrived(EngineMessage):
    """The masked twin's verdict on a step."""

    def __init__(self, event: ProofEvent) -> None:
        self.event = event
        super().__init__()


class Doing(EngineMessage):
    """What the engine's long call is doing; empty when it has finished."""

    def __init__(self, what: str) -> None:
        self.what = what
        super().__init__()


class FileWritten(EngineMessage):
    """The pruned model is on disk and passed its checks."""

    def __init__(self, result: WriteResult) -> None:
        self.result = result
        super().__init__()


class RequestRefused(EngineMessage):
    """A request was refused, with the reason in one line."""

    def __init__(self, reason: str, during: str = "") -> None:
        self.reason = reason
        self.during = during
        super().__init__()


class EngineDied(EngineMessage):
    """The engine ended unexpectedly; `restarting`: whether it is being started again."""

    def __init__(self, reason: str, restarting: bool) -> None:
        self.reason = reason
        self.restarting = restarting
        super().__init__()

    @property
    def doing(self) -> str:
        """What is happening now."""
        return "starting the engine again" if self.restarting else ""

    @property
    def follows(self) -> str:
        """What follows, in the user's words."""
        if self.restarting:
            return "starting it again"
        return "it died 5 times in 3 minutes and is not started again: write down your steps and restart the program"


class JobsChanged(Message):
    """A job was queued, started, or ended; the last is `ended`."""

    def __init__(self, ended: QueuedJob | None = None) -> None:
        self.ended = ended
        super().__init__()


class PlanSaved(EngineMessage):
    """The plan was written."""

    def __init__(self, result: SavedPlan) -> None:
        self.result = result
        super().__init__()


class ModelChosen(Message):
    """A checkpoint was chosen, with its data where known; in a session with the plan to open and the stages so far."""

    def __init__(self, model: str, data: str | None = None, lineage: Sequence[Stage] = (), plan: dict[str, Any] | None = None) -> None:
        self.model = model
        self.data = data
        self.lineage = tuple(lineage)
        self.plan = plan
        super().__init__()


class SessionChosen(Message):
    """A kept session was chosen to be resumed on the start screen."""

    def __init__(self, opening: Opening) -> None:
        self.opening = opening
        super().__init__()
