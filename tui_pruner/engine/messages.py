"""What the interface and the engine say to each other: requests and their results."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tui_pruner.domain.results import Section, Status, Verdict

if TYPE_CHECKING:
    from typing_extensions import Self


class Message(BaseModel):
    """Base of all messages: unknown keys are refused, so that the two sides cannot drift apart in silence."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    def to_json(self, exclude: set[str] | None = None) -> bytes:
        """One line of ASCII, no matter what files are called: Pydantic's own JSON refuses names that are not UTF-8."""
        return json.dumps(self.model_dump(exclude=exclude)).encode()

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """The message in a line that `to_json` made.

        Raises:
            ValidationError: it is something else.
        """
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            return cls.model_validate_json(line)  # says what is wrong with it
        return cls.model_validate(content)


class Totals(Message):
    """The size of a model: parameters, floating-point operations of one image (2 per multiply-add), bytes of its weights in float16."""

    parameters: int
    flops: int
    bytes: int


class FileStage(Message):
    """One thing that was done to make a file: its `kind`, and name, SHA-256 and, where known, parameters of what it was done to."""

    kind: str
    source: str
    sha256: str
    parameters: int = 0


class MaskInfo(Message):
    """What a masked file is, in words; `plan`: what was masked, for the file itself, None where its channels did not stay zero."""

    words: str
    plan: dict[str, Any] | None = None


class ModelInfo(Message):
    """What a checkpoint is. `names` are those of its classes, by number; `stages` is what it was made by, the oldest first."""

    path: str
    sha256: str
    family: str
    task: str
    classes: int
    stride: int
    parameters: int
    flops: int
    imgsz: int
    names: list[str] = []
    stages: list[FileStage] = []
    mask: MaskInfo | None = None


class LayerView(Message):
    """One convolution or linear layer. `name` is a full module path such as model.6.m.0.cv1; `reason` says why it is not free.

    `widest_group`: how many channels the widest group has that can be cut; a share is taken of each group by itself. `drops_with`: the
    innermost block around it that the forward can do without, empty where there is none.
    """

    name: str
    type: str
    in_channels: int
    out_channels: int
    status: Status
    reason: str
    parameters: int
    flops: int
    widest_group: int
    drops_with: str = ""


class BlockView(Message):
    """One block of the model: its place, its inputs (`from`), its layers. `output_shape` is [channels, height, width].

    `droppable` has the paths of the inner blocks that the forward can do without.
    """

    index: int
    name: str
    type: str
    from_: list[int] = Field(alias="from")
    section: Section
    in_channels: int
    out_channels: int
    parameters: int
    flops: int
    output_shape: list[int]
    layers: list[LayerView]
    droppable: list[str] = []


class CutRequest(Message):
    """A requested cut: LAYER=AMOUNT, as on the command line ("30%", "0.3", "keep:205", "drop")."""

    layer: str
    amount: str
    criterion: str = "l2"
    round_to: int = 1


class Width(Message):
    """A layer's channels under a plan, and what it then costs. `asked`: named by a request; otherwise it changes because it is coupled."""

    out_before: int
    out_after: int
    in_before: int
    in_after: int
    parameters_after: int = 0
    flops_after: int = 0
    asked: bool = False


class BlockShape(Message):
    """A block's output before and after, as [channels, height, width], and what the block costs after."""

    index: int
    name: str
    before: list[int]
    after: list[int]
    parameters_after: int = 0
    flops_after: int = 0


class Conflict(Message):
    """Requests that ask one coupled group for different widths. Nothing of that group is cut until one of them is changed."""

    group: int
    layers: list[str]
    amounts: list[str]
    message: str


class RefusedRequest(Message):
    """A request that cannot be done at all, with the reason."""

    layer: str
    message: str


class MemberView(Message):
    """A parameter axis that is also affected. `channels`: the indices in words ("all 64", "64..127"); `because`: why it is coupled."""

    layer: str
    role: Literal["out", "in", "linked"]
    channels: str
    before: int
    after: int
    because: str


class Detail(Message):
    """One layer under the requests: `curve` is its groups' importance, weakest channel first (at most 120 samples, 1.0 the strongest).

    `cut_at` is the fraction of channels, counted from the weakest, that the requests remove.
    """

    layer: str
    type: str
    status: Status
    reason: str
    before: int
    current: int
    after: int
    criterion: str
    curve: list[float]
    cut_at: float
    members: list[MemberView]
    shapes: list[BlockShape]


class PreviewResult(Message):
    """What the steps so far plus the requests would do. `layers` holds only those whose widths differ from the checkpoint's."""

    before: Totals
    after: Totals
    layers: dict[str, Width]
    blocks: list[BlockShape]
    groups: list[int]
    conflicts: list[Conflict]
    refused: list[RefusedRequest]
    notes: list[str]
    seconds: float


class Figures(Message):
    """The answer to a preview: what the cuts would do, and everything about a layer where one was named; or why not."""

    preview: PreviewResult | None = None
    no_preview: str = ""
    detail: Detail | None = None
    no_detail: str = ""


class Hop(Message):
    """A place on the way of channels: a module path, the operation there, and which channels they are."""

    at: str
    operation: str
    detail: str


class Touched(Message):
    """A layer that loses channels when another is cut: as output, as input, or because it must stay equally wide."""

    layer: str
    role: Literal["out", "in", "linked"]
    channels: str
    because: str


class ExplainResult(Message):
    """What cutting `first` touches, and the way of its channels to `second` if asked for; no path: it is left alone."""

    first: str
    second: str = ""
    coupled: bool
    summary: str
    path: list[Hop]
    touches: list[Touched]


class DryRun(Message):
    """The model's own forward on the meta device under a plan: `ok`, or PyTorch's `error`."""

    ok: bool
    seconds: float
    error: str = ""


class ProofView(Message):
    """The masked twin's verdict. `effect`: how far the cut moves the predictions, `elements`: how many numbers were compared.

    `approximate` names what cannot be exact, `checked` says that it agrees with a twin that is so too, `not_exercised` names the modules
    that nothing compared depends on, `failure` says what does not run;
    `reason` says in a sentence why the cut is not proved, `verdict` in two words.
    """

    equal: bool
    max_abs_difference: float
    relative_difference: float
    effect: float
    precision: str = "float32"
    approximate: list[str]
    seconds: float
    failure: str = ""
    not_exercised: list[str] = []
    elements: int = 0
    checked: bool = False
    verdict: Verdict = "equal"
    reason: str = ""


class StepView(Message):
    """One step. `title` is its name, or its cuts in a few words; `proof` is None while it is being computed, and is told for its `id`."""

    number: int
    id: str = ""
    title: str
    name: str = ""
    requests: list[CutRequest]
    totals: Totals
    notes: list[str]
    proof: ProofView | None = None


class SessionView(Message):
    """Where the session stands. `ahead`: the undone steps, the next one to come again first. `plan`: the plan of the steps that count, as
    plain data, to replay after a restart or to hand to a job; `later`: the undone steps as a plan has them."""

    steps: list[StepView]
    ahead: list[StepView]
    original: Totals
    current: Totals
    layers: dict[str, Width]
    blocks: list[BlockShape]
    unsaved: bool
    plan: dict[str, Any]
    later: list[dict[str, Any]]


class Comparison(Message):
    """Two states of a session, each after this many steps (0: the checkpoint). `layers` and `blocks` hold what differs between them."""

    first: int
    second: int
    before: Totals
    after: Totals
    layers: dict[str, Width]
    blocks: list[BlockShape]


class SavedPlan(Message):
    """A plan that was written as YAML, and the number of its steps."""

    output: str
    steps: int


class OpenResult(Message):
    """The answer to `open`."""

    model: ModelInfo
    blocks: list[BlockView]
    session: SessionView
    criteria: list[str]
    warnings: list[str]
    seconds: float


class Calibrated(Message):
    """The answer to `calibrate`: the criteria that can be asked for from now on, and the number of images behind them."""

    criteria: list[str]
    images: int


class Check(Message):
    """One verification of a written file."""

    name: str
    ok: bool
    detail: str = ""


class WriteResult(Message):
    """A written file that passed its checks in a clean process.

    `own_names`: what it takes from modules of its user's, as the trusted file did that it was made from; without trust it is not opened.
    `masked`: how far the outputs of the masked model in it are from the cut one's; None where it has the cut one.
    """

    output: str
    sha256: str
    bytes: int
    checks: list[Check]
    own_names: list[str] = []
    masked: float | None = None


class ErrorView(Message):
    """A failure: the class of the error and its one-line message."""

    kind: str
    message: str


class ProofEvent(Message):
    """Event "proof": the verdict on a step, which may come before the answer that shows the step."""

    step: int
    id: str = ""
    proof: ProofView


class ProgressEvent(Message):
    """Event "progress" of the engine's long calls (writing): what is going on now."""

    doing: str


class TroubleEvent(Message):
    """Event "trouble": what went wrong behind the answers, in one line."""

    message: str
