"""Any `torch.nn.Module` in the Python API: opened with example inputs, saved as a plan and numbers, loaded into a freshly built module.

session = tp.open(module, example_inputs=(torch.rand(1, 3, 224, 224),))
session.target("flops=50%")
session.reconstruct(batches)
session.save("small.tp")
small = tp.load("small.tp", build())
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tui_pruner.api.data import IMAGES, aims_of, demand_count, demand_sizes, file_of, in_python, points_of
from tui_pruner.api.session import Session
from tui_pruner.domain.errors import OutOfReach, PlanError, RequestError, user_code

if TYPE_CHECKING:
    from torch import Tensor, nn

    from tui_pruner.core.model.analysis import Analysis
    from tui_pruner.core.pruning.plan import Plan, Step
    from tui_pruner.core.recovery.reconstruction import Recovered
    from tui_pruner.engine.search_messages import PlanPoint
    from tui_pruner.frameworks.plain.module import OpenedModule

    Adapters = Mapping[type[nn.Module], Callable[..., None]]


def open_module(
    module: nn.Module | str | Path,
    example_inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    evaluate: Callable[[nn.Module], float] | None = None,
    loss: Callable[[nn.Module, Any], Tensor] | None = None,
    adapters: Adapters | None = None,
    forward: Callable[..., Any] | None = None,
    approximate: bool = False,
    trust: str | None = None,
) -> ModuleSession:
    """Open any module, which stays as it is, or a trusted file that holds one; `tp.open` describes the arguments.

    Raises:
        CheckpointError: it is not a module, or of a kind that cannot be cut.
        RequestError: the inputs are missing or invalid.
        TraceError: its forward cannot be traced, or it has nothing to cut.
    """
    from tui_pruner.core.pruning.session import PruningSession as Steps

    if isinstance(module, (str, Path)):
        from tui_pruner.frameworks.plain.named_module import pickled_module
        from tui_pruner.storage.trust import trust as allow

        allow([trust] if trust else [])
        module = pickled_module(Path(module))
    elif trust is not None:
        raise RequestError("trust is for a file, whose code would run when it is read: leave it out for a module")
    for name, function in (("evaluate", evaluate), ("loss", loss)):
        if function is not None and not callable(function):
            raise RequestError(f"{name} is a {type(function).__name__}: give a function of a model")
    return ModuleSession(Steps(analysis_of(module, example_inputs, kwargs, adapters, forward, approximate)), evaluate, loss)


def analysis_of(
    module: nn.Module,
    example_inputs: Any,
    kwargs: Mapping[str, Any] | None,
    adapters: Adapters | None,
    forward: Callable[..., Any] | None = None,
    approximate: bool = False,
) -> Analysis:
    """Return the analysis of a module.

    Raises:
        PrunerError: as `open_module`.
    """
    from tui_pruner.core.model.inputs import Inputs, inputs_of
    from tui_pruner.frameworks.plain.module import open_module as look
    from tui_pruner.frameworks.plain.module import refuse_unusable

    refuse_unusable(module)
    if example_inputs is None and not kwargs:
        raise RequestError("how is the module called? give example_inputs=(tensor, ...) or kwargs={name: tensor}")
    if kwargs is not None and not isinstance(kwargs, Mapping):
        raise RequestError(f"kwargs is a {type(kwargs).__name__}: give a dict of arguments by name")
    if isinstance(example_inputs, (str, bytes)) or not (
        example_inputs is None or isinstance(example_inputs, Inputs) or hasattr(example_inputs, "__iter__")
    ):
        raise RequestError(f"example_inputs is a {type(example_inputs).__name__}: give a tuple of the forward's arguments")
    given = inputs_of(() if example_inputs is None else example_inputs)
    if forward is not None and not callable(forward):
        raise RequestError(f"forward is a {type(forward).__name__}: give a function that is called as forward(module, *example_inputs)")
    return look(module, Inputs(given.args, {**given.kwargs, **(kwargs or {})}, forward=forward), adapters, approximate)


class ModuleSession(Session):
    """An opened module and the steps so far."""

    def __init__(self, steps: Any, evaluate: Callable[[nn.Module], float] | None, loss: Callable[[nn.Module, Any], Tensor] | None) -> None:
        super().__init__(steps)
        self._evaluate, self._loss = evaluate, loss

    @property
    def module(self) -> OpenedModule:
        """The opened module as a checkpoint: a copy, and the digest of its structure, which a plan refers to."""
        return cast("OpenedModule", self.checkpoint)

    def evaluate(self) -> float:
        """Return the metric of the model as it is now, by the function `evaluate` of `tp.open`: a mean where it gives several.

        Raises:
            RequestError: none was given, or it returns no number.
            ProgramEnd: it would have ended this program.
        """
        from tui_pruner.jobs.any_module.figures import figures_in

        if self._evaluate is None:
            raise RequestError("there is nothing to evaluate by: open the module with evaluate=function(model)")
        model = self.model()
        with user_code("evaluate"):
            measured: Any = self._evaluate(model)
        try:
            return next(iter(figures_in(measured, "").metrics.values()))
        except (TypeError, ValueError, RuntimeError):
            raise RequestError(f"evaluate gives a {type(measured).__name__}: have it return a number") from None

    @in_python()
    def target(self, *targets: str | Sequence[str], data: Any = None, criterion: str | None = None, images: int = IMAGES) -> Step:
        """Apply the step that reaches targets such as "flops=70%": with batches the one that moves the outputs least, else by importance.

        Args:
            targets: of flops, params or bytes, in percent of the whole module or as absolute numbers.
            data: batches: tensors, tuples of arguments or dicts of arguments by name, as the module takes them; further entries of a tuple,
                such as labels, are ignored. For the criteria taylor and hessian as `loss` takes them.
            criterion: ranks the channels of each layer; by default obs with batches, else l2. With taylor and hessian a
                plan is by importance alone.
            images: how many samples of the batches are used, in whole batches.

        Raises:
            RequestError: out of reach, reached already, no such measure, no batch, or a criterion whose data is missing.
            DataError: the loss is NaN.
        """
        from tui_pruner.core.model.inputs import enough
        from tui_pruner.core.pruning.importance import FROM_LABELS
        from tui_pruner.core.search.targets import parse_target
        from tui_pruner.domain.criteria import REPAIR, demand_criterion
        from tui_pruner.frameworks.plain.batches import apart, on_batches, planned_on, scores_by_loss, usable_batches
        from tui_pruner.frameworks.plain.module import planned_by

        demand_count("images", images)
        if criterion is not None:
            demand_criterion(criterion)
        aims = demand_sizes([parse_target(text) for text in aims_of(targets)], "for a module give flops, params or bytes")
        analysis, base = self._steps.analysis, self._steps.removal
        if data is None:
            return self._append(planned_by(analysis, base, aims, criterion or "l2"))
        if isinstance(data, (str, Path)):
            raise RequestError(f"{data} is a file: for a module give batches of its inputs, such as data=loader")
        if criterion in FROM_LABELS:
            if self._loss is None:
                raise RequestError(f"the criterion {criterion} needs a loss: open the module with loss=function(model, batch)")
            with unchanged_chance():
                analysis.ranking.calibrate(scores_by_loss(analysis, enough(data, images), self._loss, self.module.device))
            return self._append(planned_by(analysis, base, aims, criterion or "l2"))
        batches = apart(usable_batches(self.module, data, images))
        with on_batches():
            return self._append(planned_on(analysis, base, aims, batches, self.module.device, criterion or REPAIR).step)

    def front(self, points: Any, data: Any, criterion: str = "obs", images: int = IMAGES) -> list[PlanPoint]:
        """Return a plan for each point's targets, by plans that are cut, refitted and compared on batches; `load` applies one.

        Args:
            points: the targets of each, as one text or several.
            data: batches, as for `target`.
            criterion: ranks the channels of each layer; not one that needs a loss.
            images: how many samples of the batches are used, in whole batches.

        Raises:
            RequestError: a target cannot be read, no such criterion, or no batch.
        """
        from tui_pruner.core.search.targets import parse_target
        from tui_pruner.domain.criteria import demand_criterion
        from tui_pruner.engine.search_messages import PlanPoint as Point
        from tui_pruner.frameworks.plain.batches import apart, on_batches, planned_on, usable_batches
        from tui_pruner.jobs.any_module.stages import point_of
        from tui_pruner.jobs.plan import rival_result

        demand_count("images", images)
        demand_criterion(criterion)
        wanted = [(texts, demand_sizes([parse_target(text) for text in texts], "give sizes")) for texts in points_of(points)]
        analysis, base = self._steps.analysis, self._steps.removal
        found: list[PlanPoint] = []
        batches = apart(usable_batches(self.module, data, images))
        for texts, aims in wanted:
            try:
                with on_batches():
                    plan = planned_on(analysis, base, aims, batches, self.module.device, criterion)
            except OutOfReach as error:
                found.append(Point(targets=texts, plan=None, stopped=str(error)))
            else:
                rivals = [rival_result(one) for one in plan.tried]
                found.append(point_of(texts, self._steps, plan.budget, plan.chosen.name, rivals))
        return found

    def reconstruct(self, batches: Iterable[Any], held_out: Iterable[Any] = ()) -> Recovered:
        """Refit what the cuts changed to the original's outputs, without labels; `model` and `save` return the result until the next step.

        Args:
            batches: tensors, tuples of arguments or dicts of arguments by name, as the module takes them; labels in tuples are ignored.
                All are used and kept in memory, so an iterator must end.
            held_out: other batches to judge the fits on; by default `batches`.

        Raises:
            RequestError: nothing was cut, no batch was given, or the batches do not end.
            ProofError: the cut is not proved.
        """
        from tui_pruner.frameworks.plain.batches import on_batches, refitted, usable_batches

        if not self._steps.steps:
            raise RequestError("nothing to refit: apply a step first")
        working, judges = usable_batches(self.module, batches), usable_batches(self.module, held_out, needed=False)
        pruned = self._proved()
        with on_batches():
            self._refit = refitted(self._steps, pruned, working, judges)
        return self._refit

    def model(self) -> nn.Module:
        """Return the module as it is now, refitted if it was, in evaluation mode, with its original dtypes and on its original device.

        Raises:
            ProofError: the cut is not proved.
        """
        from tui_pruner.frameworks.plain.module import independent

        return self.module.as_given(independent(self._now()))

    def plan(self) -> dict[str, Any]:
        """Return the steps so far as plain data, with the positions that every parameter and buffer keeps."""
        from tui_pruner.frameworks.plain.module_file import with_kept

        return with_kept(self._steps.plan, self._steps.analysis.coupling, self._steps.removal).plain()

    def load(self, plan: Mapping[str, Any] | str | Path) -> None:
        """Replace the steps by those of a plan, given as plain data, as a file, or as the folder that a session saved.

        Raises:
            PlanError: it is missing, malformed, or for a module of another structure.
        """
        from tui_pruner.frameworks.plain.module_file import demand_structure

        found = plan_of(plan)
        demand_structure(found, self.module.path, self.module.sha256)
        super().load(found.plain())

    @in_python()
    def save(self, output: str | Path, force: bool = False) -> Path:
        """Write the module, proved, as a folder with plan.yaml, model.safetensors and about.json, which `tp.load` reads.

        Raises:
            ProofError: a step is not proved.
            OutputError: the path cannot be used, or nothing was cut.
        """
        from tui_pruner.frameworks.plain.module_file import save_proved

        place = file_of(output, "the folder")
        save_proved(self._steps, place, refit=self._refit, force=force)
        self._steps.mark_written()
        return place


def unchanged_chance() -> Any:
    """Return a context in which PyTorch's random numbers come from a separate state."""
    import torch

    return torch.random.fork_rng(devices=[])


def adapter(*classes: type[nn.Module]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a function that updates the attributes of these classes, and of their subclasses, that hold widths: a decorator.

    It is called as `function(module, kept)` after each cut; `kept(layer)` gives the output channels that a layer below the module keeps, or
    None for all. An installed package registers adapters by an entry point of the group `tui_pruner.adapters`, which names a module
    that does so when it is imported: they then count in the app and in commands, too.

    Raises:
        RequestError: one of them is not a class of modules, or what is decorated is not a function.
    """
    from tui_pruner.core.tracing.adapters import register_own

    if not classes:
        raise RequestError("an adapter is for classes: name them, as in @adapter(Attention)")

    def register(function: Callable[..., None]) -> Callable[..., None]:
        register_own(dict.fromkeys(classes, function))
        return function

    return register


def load(folder: str | Path, module: nn.Module, *, adapters: Adapters | None = None) -> nn.Module:
    """Cut a copy of a freshly built module by the plan in a saved folder, and load its weights strictly.

    Returns:
        the cut module in evaluation mode; the given module is unchanged, and may be on the meta device.

    Raises:
        CheckpointError: the folder is missing, or its files are damaged or do not belong together.
        PlanError: the module is not built like the one that was cut.
    """
    from tui_pruner.core.tracing.adapters import register_own
    from tui_pruner.frameworks.plain.module_file import load_module

    register_own(adapters or {})
    return load_module(file_of(folder, "what was saved"), module)


def apply_plan(
    module: nn.Module,
    plan: str | Path | Mapping[str, Any],
    *,
    example_inputs: Any = None,
    kwargs: Mapping[str, Any] | None = None,
    adapters: Adapters | None = None,
    forward: Callable[..., Any] | None = None,
) -> nn.Module:
    """Cut a copy of a module, with its own weights, by a plan from a file or as plain data.

    A plan that a session saved has the positions that every parameter keeps; a plan written by hand needs `example_inputs` to find them.

    Returns:
        the cut module in evaluation mode; the given module is unchanged.

    Raises:
        PlanError: the plan is malformed, for a module of another structure, or needs example inputs.
    """
    from tui_pruner.core.tracing.adapters import register_own
    from tui_pruner.frameworks.plain.module_file import check_structure, cut_by_plan

    register_own(adapters or {})
    found = plan_of(plan)
    if found.kept or not found.steps or (example_inputs is None and not kwargs):
        return cut_by_plan(module, found)
    check_structure(module, found)
    session = open_module(module, example_inputs, kwargs, adapters=adapters, forward=forward)
    session.load(found.plain())
    return session.model()


def plan_of(plan: str | Path | Mapping[str, Any]) -> Plan:
    """A plan from plain data, from its file, or from the folder that a session saved.

    Raises:
        PlanError: it is missing or malformed.
    """
    from tui_pruner.core.pruning.plan import parse_plan, read_plan

    if isinstance(plan, Mapping):
        return parse_plan(dict(plan))
    path = file_of(plan, "a plan")
    path = path / "plan.yaml" if path.is_dir() else path
    if not path.is_file():
        raise PlanError(f"no plan {path}: give the file, or the folder that a session saved")
    return read_plan(path)
