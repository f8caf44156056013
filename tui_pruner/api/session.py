"""The Python API: what the app and the commands do, in a script or a notebook, in this process.

    import tui_pruner as tp

    session = tp.open("best.pt")                                   # or: tp.open(module, example_inputs=(x,))
    session.apply(["6=30%"])
    session.save("small.pt")

Shapes are [batch, channels, height, width]; sizes are numbers of parameters, floating-point operations of one image (for a module: of one
forward of its example inputs), and bytes in half precision. All errors are `tp.PrunerError`.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from tui_pruner.api import data as arguments
from tui_pruner.api.data import IMAGES, Group, Groups, Layer, Preview
from tui_pruner.domain.errors import PlanError, ProofError, RequestError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from typing_extensions import Unpack

    from tui_pruner.api.data import ModuleOptions
    from tui_pruner.api.modules import ModuleSession
    from tui_pruner.core.model.block_flow import BlockFlow
    from tui_pruner.core.model.checkpoint import Checkpoint
    from tui_pruner.core.pruning.explain import Explanation
    from tui_pruner.core.pruning.plan import Step
    from tui_pruner.core.pruning.preview import Size
    from tui_pruner.core.pruning.proof import Proof
    from tui_pruner.core.pruning.session import PruningSession as Steps
    from tui_pruner.core.recovery.reconstruction import Recovered
    from tui_pruner.engine.search_messages import PlanPoint


@overload
def open(model: str | Path, *, trust: str | None = ..., imgsz: int | None = ..., classes: int | None = ...) -> Session:
    """Open a file of Ultralytics."""


@overload
def open(model: str | Path, *, trust: str | None = ..., example_inputs: Any, **options: Unpack[ModuleOptions]) -> ModuleSession:
    """Open a trusted file that holds a module."""


@overload
def open(model: nn.Module, *, example_inputs: Any = ..., **options: Unpack[ModuleOptions]) -> ModuleSession:
    """Open a module."""


def open(
    model: str | Path | nn.Module,
    *,
    trust: str | None = None,
    imgsz: int | None = None,
    classes: int | None = None,
    example_inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    evaluate: Callable[[nn.Module], float] | None = None,
    loss: Callable[[nn.Module, Any], Tensor] | None = None,
    adapters: Mapping[type[nn.Module], Callable[..., None]] | None = None,
    forward: Callable[..., Any] | None = None,
    approximate: bool = False,
) -> Session:
    """Open an Ultralytics checkpoint or an architecture by its yaml, as the app does, or any module.

    Args:
        model: a file, the name of a yaml of Ultralytics, which gets random weights, or a module, which is never changed.
        trust: the first digits of the file's SHA-256, where it needs more than stock classes: it is then loaded like a program.
        imgsz: side in pixels of the square image that FLOPs are counted for; by default the model's own.
        classes: the number of classes, for an architecture.
        example_inputs: for a module, a tuple of its forward's arguments, tensors of any shape and dtype, on the module's device. For a .pt
            too, which then is any module that a script saved, of another repository's code for instance, and needs `trust`.
        kwargs: its forward's arguments by name.
        evaluate: for a module, model -> metric: called by `session.evaluate()`.
        loss: for a module, (model, batch) -> differentiable number: for the criteria taylor and hessian.
        adapters: for a module, {Class: function(module, kept)}, which updates the attributes of a class that hold widths after a cut;
            `kept(layer)` returns the output indices that a layer within the module keeps, None where it keeps all.
        forward: for a module that branches on computed values, (module, *example_inputs) -> outputs: it is traced, proved and refitted
            in place of the module's own forward. Detectors of torchvision have one already.
        approximate: for a module, let LayerNorm, GroupNorm and means over channels (GRN) lose some, which changes what they compute for
            those that are left, and let attention without a scale be narrowed, with the weights of its query scaled: such a cut is
            checked against a masked twin with such normalisations, and never called equal.

    Raises:
        CheckpointError: the file, or a module of this kind, cannot be used.
        UntrustedError: it needs more than stock classes, and is not trusted.
        RequestError: the inputs are missing or invalid.
        TraceError: its forward cannot be traced.
    """
    options: dict[str, Any] = {"evaluate": evaluate, "loss": loss, "adapters": adapters, "forward": forward, "approximate": approximate}
    sides = arguments.demand_counts(imgsz=imgsz, classes=classes)
    arguments.demand_kinds(trust, approximate)
    called = example_inputs is not None or bool(kwargs)
    if not isinstance(model, (str, Path)) or (called and Path(model).suffix.lower() in (".pt", ".pth")):
        from tui_pruner.api.modules import open_module

        if sides:
            raise RequestError(f"{', '.join(sides)}: for a file of Ultralytics only; a module's inputs and outputs are its own")
        return open_module(model, example_inputs, kwargs, trust=trust, **options)
    arguments.demand_plain_file(model, called, [name for name, value in options.items() if value])
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.pruning.session import PruningSession as Steps
    from tui_pruner.frameworks.ultralytics import open_model

    if trust:
        from tui_pruner.storage.trust import trust as allow

        allow([trust])
    return Session(Steps(analyse(open_model(str(model), classes), imgsz)))


class Session:
    """An opened checkpoint or module and the steps so far; the file, or the given module, is never changed."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._refit: Recovered | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """The opened checkpoint."""
        return self._steps.analysis.checkpoint

    @property
    def steps(self) -> list[Step]:
        """The applied steps."""
        return [applied.step for applied in self._steps.steps]

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the model: how it was read, what was adjusted, which operations have no rule."""
        return (*self.checkpoint.warnings, *self._steps.analysis.notes)

    @property
    def size(self) -> Size:
        """The size now."""
        return self._steps.widths.size

    def groups(self) -> Groups:
        """Return all groups of channels that a layer produces."""
        coupling = self._steps.analysis.coupling
        names = {layer.path: layer.name for layer in self._steps.analysis.layers.values()}
        found = Groups()
        for group in coupling.groups:
            layers = tuple(dict.fromkeys(names.get(member.axis.module, member.axis.module) for member in group.producers))
            shared = "coupled" if len(layers) > 1 else "free"
            status = "locked" if not group.prunable else "linked" if group.links else shared
            found.append(Group(group.number, layers, group.channels, group.prunable, group.reason, status))
        return found

    def layers(self) -> dict[str, Layer]:
        """Return all layers by name, with their channels as they are now."""
        from tui_pruner.engine.views import layer_view, layer_widths

        analysis, widths = self._steps.analysis, self._steps.widths
        found = {}
        for name, layer in analysis.layers.items():
            view = layer_view(analysis, self._steps.arithmetic, layer)
            found[name] = Layer(*layer_widths(analysis, widths, layer), view.status, view.reason, view.parameters, view.flops)
        return found

    @arguments.in_python()
    def explain(self, a: str, b: str | None = None) -> Explanation:
        """Return why cutting a's outputs changes b, or everything that it changes.

        Raises:
            RequestError: there is no such layer.
        """
        from tui_pruner.core.pruning.explain import explain

        arguments.texts([a] if b is None else [a, b], 'layers such as "model.6.cv1"')
        return explain(self._steps.analysis, a, b)

    @arguments.in_python()
    def preview(self, cuts: Sequence[str], criterion: str = "l2", round_to: int = 1) -> Preview:
        """Return the effect of cuts such as "6=30%", "model.6.m.1=drop" or "classes=person,car"; nothing is changed.

        Raises:
            RequestError: a cut is impossible for this model.
        """
        from tui_pruner.engine.views import layer_widths

        found = self._steps.preview(arguments.requests_of(cuts, criterion, round_to))
        found.demand_possible()
        analysis, arithmetic = self._steps.analysis, self._steps.arithmetic
        before, after = self._steps.widths, arithmetic.widths(self._steps.removal.together(found.removal))
        pairs = {
            name: (layer_widths(analysis, before, layer), layer_widths(analysis, after, layer)) for name, layer in analysis.layers.items()
        }
        changed = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
        return Preview(before.size, after.size, changed, tuple(one.message for one in found.contradictions))

    @arguments.in_python()
    def apply(self, cuts: Sequence[str], criterion: str = "l2", round_to: int = 1) -> Step:
        """Apply cuts as a step.

        Raises:
            ConflictError: two of them ask one group for different widths.
            RequestError: a cut is impossible for this model.
        """
        step, self._refit = self._steps.apply(arguments.requests_of(cuts, criterion, round_to)).step, None
        return step

    @arguments.in_python()
    def target(self, *targets: str | Sequence[str], data: Any = None, criterion: str | None = None, images: int = IMAGES) -> Step:
        """Apply the step that reaches targets such as "flops=70%": with data by measured damage, else by importance.

        `data` is the yaml of a data set, or a folder of classes; `images` of them are used.

        Raises:
            RequestError: out of reach, reached already, or no such measure.
            DataError: the data cannot be used.
        """
        from tui_pruner.core.pruning.plan import Step
        from tui_pruner.core.search.planner import Planner
        from tui_pruner.core.search.targets import parse_target

        wanted = arguments.aims_of(targets)
        if data is not None:
            (point,) = self.front([wanted], data, criterion or "obs", images)
            if point.plan is None:
                raise RequestError(point.stopped)
            return self._append(Step.model_validate(point.plan["steps"][-1]))
        otherwise = "data= the yaml of a data set, or have `tui-pruner plan` do it"
        aims = arguments.demand_sizes([parse_target(text) for text in wanted], otherwise)
        found = Planner(self._steps.analysis, self._steps.removal).plan(aims, criterion or "l2")
        if found.step is None:
            raise RequestError(found.stopped)
        return self._append(found.step)

    def front(
        self, points: Sequence[Sequence[str] | str], data: str | Path, criterion: str = "obs", images: int = IMAGES
    ) -> list[PlanPoint]:
        """Return a plan for each point's targets, by measured damage; nothing is applied (`load(point.plan)` does).

        Raises:
            DataError: the data cannot be used.
        """
        from tui_pruner.engine.search_messages import PlanningParameters
        from tui_pruner.jobs.plan import run_planning

        arguments.demand_count("images", images)
        plan = self._steps.plan.plain() if self._steps.steps else None
        asked = arguments.points_of(points)
        parameters = PlanningParameters(**{**self._fields(data), "images": images}, plan=plan, points=asked, criterion=criterion)
        return run_planning(parameters, lambda progress: None).points

    def reconstruct(self, batches: Iterable[Any], held_out: Iterable[Any] = ()) -> Recovered:
        """Refit what the cuts changed to the original's outputs, without labels; `model` and `save` return the result until the next step.

        Args:
            batches: images as the model reads them, [batch, channels, height, width], values from 0 to 1.
            held_out: other batches to judge the fits on; by default `batches`.

        Raises:
            RequestError: nothing was cut, no image was given, or they do not end.
            ProofError: the cut is not proved.
        """
        from tui_pruner.core.model.inputs import ending
        from tui_pruner.core.pruning.proved_cut import with_some_classes
        from tui_pruner.core.pruning.surgery import by_tensor
        from tui_pruner.core.recovery.reconstruction import recover
        from tui_pruner.frameworks.plain.batches import on_batches
        from tui_pruner.frameworks.ultralytics.contents import FROZEN

        if not self._steps.steps:
            raise RequestError("nothing to refit: apply a step first")
        batches, held_out = list(ending(batches)), list(ending(held_out))
        if not batches:
            raise RequestError("no image to refit on: give batches [batch, channels, height, width]")
        analysis = self._steps.analysis
        original = with_some_classes(self.checkpoint, analysis.coupling, self._steps.removal).model
        kept = by_tensor(self._steps.removal.stays(analysis.coupling))
        frozen = {name for name, _ in original.named_parameters() if FROZEN in name}
        with on_batches():
            self._refit = recover(original, self._proved(), kept, batches, held_out, frozen=frozen)
        return self._refit

    def prove(self) -> Proof:
        """Return the masked twin's verdict on the cuts so far, without a later refit.

        Raises:
            RequestError: nothing was cut.
        """
        if not self._steps.steps:
            raise RequestError("nothing to prove: apply a step first")
        return self._steps.prove(self._steps.steps[-1])

    def model(self) -> nn.Module:
        """Return the model as it is now, refitted if it was, independent of the session.

        Raises:
            ProofError: the cut is not proved.
        """
        return copy.deepcopy(self._now())

    def kept(self) -> dict[str, dict[str, list[int]]]:
        """Return, for each parameter and buffer that lost something, the original indices that it keeps by dimension."""
        return self._steps.removal.kept(self._steps.analysis.coupling)

    def undo(self) -> None:
        """Undo the last step."""
        self._steps.undo()
        self._refit = None

    def redo(self) -> None:
        """Apply the last undone step again."""
        self._steps.redo()
        self._refit = None

    def plan(self) -> dict[str, Any]:
        """Return the steps so far as plain data, as in a plan's file."""
        return self._steps.plan.plain()

    def load(self, plan: Mapping[str, Any] | str | Path) -> None:
        """Replace the steps by those of a plan, given as plain data or as a file.

        Raises:
            PlanError: it is malformed, or for another checkpoint.
        """
        from tui_pruner.core.pruning.plan import read_plan

        self._steps.load(dict(plan) if isinstance(plan, Mapping) else read_plan(arguments.file_of(plan, "a plan")).plain())
        self._refit = None

    def flow(self) -> list[BlockFlow]:
        """Return where every block's channels come from now: its sources with their offsets, and why widths in a row need not match."""
        from tui_pruner.core.model.block_flow import block_flows

        return block_flows(self._steps.analysis, self._steps.removal)

    def mask(self, output: str | Path, force: bool = False) -> Path:
        """Write the checkpoint with the removed channels at zero and all its shapes, proved to compute what the cut model computes.

        Raises:
            RequestError: the removal cannot be expressed by zeros.
            ProofError: a step is not proved.
            OutputError: the place cannot be used, or nothing was cut.
        """
        from tui_pruner.frameworks.ultralytics.writing import cut_prove_write

        with arguments.in_python():
            return Path(cut_prove_write(self._steps, arguments.file_of(output, "the masked model"), mask=True, force=force).file.output)

    def save(self, output: str | Path, force: bool = False) -> Path:
        """Write the model, proved and verified in a clean process, as a file that stock Ultralytics loads; a refit is a stage in it.

        Raises:
            ProofError: a step is not proved.
            OutputError: the place cannot be used, or nothing was cut.
            VerificationError: the file failed its checks; nothing is left of it.
        """
        from tui_pruner.core.model.checkpoint import next_stage
        from tui_pruner.frameworks.ultralytics import check_output, read_checkpoint
        from tui_pruner.frameworks.ultralytics.writing import cut_prove_write, write_model

        output = arguments.file_of(output, "the pruned model")
        with arguments.in_python(), tempfile.TemporaryDirectory(prefix="tui-pruner-") as folder:
            if self._refit is None:
                return Path(cut_prove_write(self._steps, output, force=force).file.output)
            check_output(output, self.checkpoint.path, force)
            cut_file = cut_prove_write(self._steps, Path(folder) / "cut.pt").file.output
            source = read_checkpoint(cut_file)
            details = {"kept": self._refit.kept, "distance": dict(self._refit.distance), "original": self.checkpoint.sha256}
            written = write_model(self._refit.model, source, str(output), next_stage(source, "reconstruct", **details), force)
        return Path(written.output)

    def _proved(self) -> nn.Module:
        from tui_pruner.core.pruning.surgery import cut

        proof = self.prove()
        if not proof.holds:
            raise ProofError(f"the cut is not proved: {proof.reason}; {proof.advice}", proof.plain())
        return cut(self.checkpoint.model, self._steps.analysis.coupling, self._steps.removal)

    def _now(self) -> nn.Module:
        if self._refit is not None:
            return self._refit.model
        return self._proved() if self._steps.steps else self.checkpoint.model

    def _append(self, step: Step) -> Step:
        """Make a planned step one of the session's."""
        plain = self._steps.plan.plain()
        self.load({**plain, "steps": [*plain["steps"], arguments.some_cuts(step).model_dump(mode="json")]})
        return self.steps[-1]

    def _fields(self, data: str | Path) -> dict[str, Any]:
        from tui_pruner.storage.yaml import everywhere

        path, sha256, imgsz = self.checkpoint.path, self.checkpoint.sha256, self._steps.analysis.imgsz
        if not Path(path).is_file():
            raise PlanError(f"{path} is not a file: plans on data are made for a checkpoint")
        return {"checkpoint": path, "sha256": sha256, "data": everywhere(arguments.file_of(data, "a data set")), "imgsz": imgsz}
