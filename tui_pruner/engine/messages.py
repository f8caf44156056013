"""Messages between the interface and the engine: results and events. Requests are in `requests.py`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from tui_pruner.domain.results import Section, Status, Verdict

if TYPE_CHECKING:
    from typing_extensions import Self


class Message(BaseModel):
    """Base of all messages: unknown keys are refused, so that a difference between the two sides is an error."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    def to_json(self, exclude: set[str] | None = None) -> bytes:
        """The message as one line of ASCII, also with file names that are not UTF-8, which Pydantic's own JSON refuses."""
        return json.dumps(self.model_dump(exclude=exclude)).encode()

    @classmethod
    def from_json(cls, line: str | bytes) -> Self:
        """Parse a line that `to_json` made.

        Raises:
            ValidationError: it is something else.
        """
        try:
            content = json.loads(line)
        except (ValueError, RecursionError):
            return cls.model_validate_json(line)  # raises the error with a message
        return cls.model_validate(content)


class Totals(Message):
    """The size of a model: parameters, floating-point operations of one image (2 per multiply-add), bytes of its weights in float16."""

    parameters: int
    flops: int
    bytes: int


class FileStage(Message):
    """One stage in the making of a file: its `kind`, and name, SHA-256 and, where known, parameters of its source."""

    kind: str
    source: str
    sha256: str
    parameters: int = 0


class MaskInfo(Message):
    """The state of a masked file, in words; `plan`: what was masked, None where the channels did not stay zero."""

    words: str
    plan: dict[str, Any] | None = None


class ModelInfo(Message):
    """A checkpoint: class names by number, its `stages`, oldest first. Of a module `sha256` is the structure's, `weights` the numbers'."""

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
    weights: str = ""

    @property
    def content(self) -> str:
        """The digest that identifies it: modules of one structure may have other numbers."""
        return self.weights or self.sha256


class LayerView(Message):
    """One convolution or linear layer, by its full module path; `reason` says why it is not free.

    `widest_group`: the channels of its widest group, as a share is of each group. `drops_with`: the innermost block that can be dropped.
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
    """One block: its index, inputs (`from`), layers, `output_shape` [channels, height, width], and paths of inner blocks to drop."""

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
    """A layer's channels under a plan, and its cost then. `asked`: named by a request; otherwise it changes because it is coupled."""

    out_before: int
    out_after: int
    in_before: int
    in_after: int
    parameters_after: int = 0
    flops_after: int = 0
    asked: bool = False


class BlockShape(Message):
    """A block's output shape before and after, as [channels, height, width], and the block's cost after."""

    index: int
    name: str
    before: list[int]
    after: list[int]
    parameters_after: int = 0
    flops_after: int = 0


class Conflict(Message):
    """Requests that ask one group for different widths. Nothing of that group is cut until one of them is changed."""

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


class Narrower(Message):
    """A smaller width of a layer, cut alone on top of the steps so far, and what the whole model then saves."""

    keeps: int
    parameters: int
    flops: int


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
    widths: list[Narrower]


class PreviewResult(Message):
    """What the steps so far plus the requests would do. `layers` has only those whose widths differ from the checkpoint's."""

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
    """The answer to a preview: the effect of the cuts, and the detail of the named layer; or why it failed."""

    preview: PreviewResult | None = None
    no_preview: str = ""
    detail: Detail | None = None
    no_detail: str = ""


class Hop(Message):
    """One hop on a channel path: a module path, the operation there, and the positions of the channels."""

    at: str
    operation: str
    detail: str


class Touched(Message):
    """A layer that loses channels when another is cut: outputs, inputs, or because it must stay equally wide."""

    layer: str
    role: Literal["out", "in", "linked"]
    channels: str
    because: str


class ExplainResult(Message):
    """What cutting `first` changes, and the path of its channels to `second` if asked for; without a path it does not change."""

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
    """The verdict of the masked twin. `effect`: how far the cut moves the predictions, `elements`: how many numbers were compared.

    `approximate` names what cannot be exact, of which `scaled` are the layers of scaled queries, the others normalisations; `checked` says
    that it agrees with a twin that is so too, `not_exercised` names the modules that no compared output depends on, `failure` says what
    does not run; `reason` says in a sentence why the cut is not proved, `verdict` in two words.
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
    scaled: list[str] = []
    verdict: Verdict = "equal"
    reason: str = ""


class StepView(Message):
    """One step. `title` is its name, or its cuts in a few words; `proof` is None until the event with the proof of this `id`."""

    number: int
    id: str = ""
    title: str
    name: str = ""
    requests: list[CutRequest]
    totals: Totals
    notes: list[str]
    proof: ProofView | None = None


class SessionView(Message):
    """The state of a session. `ahead`: the undone steps, the next to redo first. `plan`: the plan of the applied steps, as plain data, to
    replay after a restart or to pass to a job; `later`: the undone steps as a plan stores them.
    """

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
    """Two states of a session, each after this many steps (0: the checkpoint). `layers` and `blocks` have what differs between them."""

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
    """The answer to `open`. `recorded_data`: the data yaml that the checkpoint's training names, wherever that was."""

    model: ModelInfo
    blocks: list[BlockView]
    session: SessionView
    criteria: list[str]
    warnings: list[str]
    seconds: float
    recorded_data: str = ""


class Calibrated(Message):
    """The answer to `calibrate`: the criteria that are available from now on, and the number of images that were scored."""

    criteria: list[str]
    images: int


class Check(Message):
    """One check of a written file."""

    name: str
    ok: bool
    detail: str = ""


class WriteResult(Message):
    """A written file that passed its checks in a clean process.

    `own_names`: the names from the user's modules that it imports, as did the trusted file that it was made from; without trust it is not
    opened. `masked`: how far the outputs of the masked model in it are from the cut one's; None where it has the cut one.
    """

    output: str
    sha256: str
    bytes: int
    checks: list[Check]
    own_names: list[str] = []
    masked: float | None = None


class ProofEvent(Message):
    """Event "proof": the verdict on a step; it may come before the answer that shows the step."""

    step: int
    id: str = ""
    proof: ProofView


class ProgressEvent(Message):
    """Event "progress" of the engine's long calls (writing): what it is doing."""

    doing: str


class TroubleEvent(Message):
    """Event "trouble": a failure in the background, in one line."""

    message: str
