"""Requests to the engine: one class for each, which names the class of its answer.

`EngineClient.call` sends a request, a method of `Service` handles it. A new request takes three files: a class here, a method there, and
an `EngineSession.ask` in a controller.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Generic, TypeVar

from tui_pruner.engine.messages import (
    Calibrated,
    Comparison,
    CutRequest,
    DryRun,
    ExplainResult,
    Figures,
    Message,
    OpenResult,
    PreviewResult,
    SavedPlan,
    SessionView,
    WriteResult,
)
from tui_pruner.engine.search_messages import ScanDrops, TargetPlan, TargetReach
from tui_pruner.storage.model_file import ModuleNames

Answer = TypeVar("Answer", bound=Message)
KINDS: dict[str, type[EngineRequest[Any]]] = {}
"""All requests by their method: the name of the class without a final `Request`, in lower case with underscores."""


class EngineRequest(Message, Generic[Answer]):
    """Base of all requests; the answer to an `EngineRequest[OpenResult]` is an `OpenResult`."""

    method: ClassVar[str]
    answer: ClassVar[type[Message]]

    @classmethod
    def __pydantic_init_subclass__(cls, **named: Any) -> None:
        """Register a request under its method."""
        super().__pydantic_init_subclass__(**named)
        bound = cls.__bases__[0].__pydantic_generic_metadata__["args"] if issubclass(cls.__bases__[0], Message) else ()
        if bound and isinstance(bound[0], type):
            cls.method = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__.removesuffix("Request")).lower()
            cls.answer = bound[0]
            KINDS[cls.method] = cls


class Open(EngineRequest[OpenResult]):
    """Read and trace a checkpoint, and replay a plan on it; its first `steps` steps are applied, the others can be redone.

    With `module` it is any module, by the names of its code; `path` is then that of what builds it.
    """

    path: str
    module: ModuleNames | None = None
    imgsz: int | None = None
    classes: int | None = None
    plan: dict[str, Any] | None = None
    steps: int | None = None


class PreviewRequest(EngineRequest[Figures]):
    """What the session plus these cuts would be, and the detail of one layer if it is named; milliseconds."""

    requests: list[CutRequest]
    layer: str | None = None
    criterion: str = "l2"


class Explain(EngineRequest[ExplainResult]):
    """Why cutting one layer or block changes another, or all that it changes; milliseconds."""

    first: str
    second: str = ""


class FlowPart(Message):
    """Channels that a block reads from one block (-1: the image), which may pass them on, and the layers that produce them."""

    index: int
    channels: int
    offset: int
    layers: list[str] = []


class FlowView(Message):
    """What one block reads and writes, in channels: from which blocks (`sources`) and which layers (`origins`).

    `previous` is what the block before it in the list writes; `mismatch` says why another number than that is right, None where the
    numbers match.
    """

    index: int
    name: str
    type: str
    reads: int
    writes: int
    previous: int
    sources: list[FlowPart]
    origins: list[FlowPart]
    mismatch: str | None = None


class FlowResult(Message):
    """The flow of channels through all blocks of the model after this many steps."""

    steps: int
    blocks: list[FlowView]


class FlowRequest(EngineRequest[FlowResult]):
    """Where the channels that every block reads come from, after the steps; at least a tenth of a second."""


class CheckShapes(EngineRequest[DryRun]):
    """Run the model's own forward on the meta device under these cuts; about a tenth of a second."""

    requests: list[CutRequest]


class Apply(EngineRequest[SessionView]):
    """Apply these cuts as a step. Its proof follows as the event "proof"."""

    requests: list[CutRequest]


class Undo(EngineRequest[SessionView]):
    """Undo the last step."""


class Redo(EngineRequest[SessionView]):
    """Apply the last undone step again."""


class GoTo(EngineRequest[SessionView]):
    """Undo or redo until this many steps are applied."""

    step: int


class NameStep(EngineRequest[SessionView]):
    """Give a step a name; an empty one removes it."""

    step: int
    name: str


class Compare(EngineRequest[Comparison]):
    """Compare two states of the session, each after this many steps; milliseconds."""

    first: int
    second: int


class LoadPlan(EngineRequest[SessionView]):
    """Replace the steps by those of a plan (plain data); nothing changes where it does not fit this checkpoint."""

    plan: Any


class SavePlan(EngineRequest[SavedPlan]):
    """Write the plan as YAML."""

    path: str
    force: bool = False


class Calibrate(EngineRequest[Calibrated]):
    """Use the scores in the file of a calibration job, for the criteria that need data; repeat after every `Open`."""

    scores: str


class Reach(EngineRequest[TargetReach]):
    """Find which targets are reachable in addition to the session's steps."""

    round_to: int = 1


class PlanTarget(EngineRequest[TargetPlan]):
    """Find the amounts that meet targets such as flops=70% after the session's steps, by a scan if it covers all that can be cut."""

    targets: list[str]
    criterion: str = "l2"
    round_to: int = 1
    scan: ScanDrops | None = None


class TargetRung(Message):
    """Event "rung": one position of a target slider: the amounts that leave this share, and the preview of the model with them.

    `slider`: the number of the request's slider; `done` of `total` positions were planned so far.
    """

    slider: int
    share: float
    amounts: dict[str, str]
    preview: PreviewResult
    done: int
    total: int


class TargetLadder(Message):
    """The end of planning for a target slider: the least and the most that can remain.

    `scanned`: as in a `TargetPlan`.
    """

    slider: int
    least: float
    most: float
    scanned: bool = False


class PlanLadder(EngineRequest[TargetLadder]):
    """Plan every position of a target slider, for falling shares by one measure; each follows as the event "rung".

    Nothing is measured: what a position costs in accuracy is at most a forecast. A later ladder replaces this one, and one without shares
    only ends it.
    """

    slider: int
    measure: str = "flops"
    shares: list[float] = []
    criterion: str = "l2"
    round_to: int = 1
    scan: ScanDrops | None = None


class Write(EngineRequest[WriteResult]):
    """Save the pruned model and verify it in a clean process; seconds, with events "progress". `scratch`: the session stays unsaved.

    `mask`: save the masked twin instead, with all shapes and the removed channels at zero.
    """

    path: str
    force: bool = False
    scratch: bool = False
    mask: bool = False
