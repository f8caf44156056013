"""What every command on a model begins with: the checkpoint opened, traced, and a plan replayed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.cli.job_runs import NO_DATA, CalibrationData, calibrate
from tui_pruner.cli.output import say
from tui_pruner.core.model.analysis import analyse
from tui_pruner.core.pruning.classes import kept_classes, only_classes, removal_of_classes
from tui_pruner.core.pruning.masks import plan_in_mask
from tui_pruner.core.pruning.plan import Plan, read_plan, removal_of_cut
from tui_pruner.core.pruning.removal import NOTHING
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.cuts import CLASSES, Request, class_request, parse_request
from tui_pruner.domain.errors import PlanError, RequestError
from tui_pruner.frameworks.ultralytics import open_model, require_writable
from tui_pruner.storage.model_file import is_architecture

if TYPE_CHECKING:
    from tui_pruner.engine.job_messages import JobProgress, ValidationResult

NOTHING_TO_CUT = "nothing to cut: give --cut LAYER=AMOUNT (such as --cut model.6.m.0.cv1=30%) or --plan FILE"


def may_have_plan(model: str, plan: Path | None) -> bool:
    """Whether a plan was given, or may be in the model's own file, where it is masked."""
    return plan is not None or not is_architecture(model)


def demand_cuts(session: PruningSession, requests: Sequence[Request]) -> None:
    """Refuse to continue without a step or a cut.

    Raises:
        RequestError: there is none.
    """
    if not session.steps and not requests:
        raise RequestError(NOTHING_TO_CUT)


def open_session(
    model: str,
    imgsz: int | None,
    classes: int | None = None,
    plan: Path | None = None,
    requests: Sequence[Request] = (),
    data: CalibrationData = NO_DATA,
    up_to: int | None = None,
    writing: bool = False,
    keep_classes: str | None = None,
    from_mask: bool = False,
) -> PruningSession:
    """Open a session on a model, with the first steps of a plan file, and with calibrated scores where these or later requests need them.

    `from_mask`: without a plan file, a masked model starts with the plan that it was masked by.
    `keep_classes`: the classes that stay, cut in a step of its own after the plan's.
    `writing`: the result is to be written, so a model that no file can be made from is refused first.

    Raises:
        OutputError: it is such a model.
        DataError: a criterion needs data, and there is none or it cannot be used.
        PrunerError: the model or the plan cannot be used.
    """
    steps = first_steps(plan, up_to) if plan else None
    wanted = [*requests, *(request for step in steps.steps if step.unsettled for request in step.requests())] if steps else requests
    data.check(wanted)
    checkpoint = open_model(model, classes)
    if writing:
        require_writable(checkpoint)
    session = PruningSession(analyse(checkpoint, imgsz))
    calibrate(session, wanted, data, classes, classes_left(session, steps, requests, keep_classes))
    masked = plan_in_mask(checkpoint, bool(requests)) if from_mask and not steps else None
    if steps or masked:
        session.load(steps.plain() if steps else masked or {})
    if keep_classes is not None:
        session.apply([class_request(keep_classes)])
    return session


def classes_left(session: PruningSession, plan: Plan | None, requests: Sequence[Request], keep_classes: str | None) -> list[int]:
    """The numbers of the classes that are left after a plan and requests; empty where all are.

    Raises:
        RequestError: the class does not exist, or is gone already.
        PlanError: the plan's classes are not this model's.
    """
    coupling, model = session.analysis.coupling, session.analysis.checkpoint.model
    asked = [*requests, *([class_request(keep_classes)] if keep_classes is not None else [])]
    removal = NOTHING
    for step in plan.steps if plan else ():
        settled = [cut for cut in step.cuts if cut.layer == CLASSES and cut.removes]
        for cut in settled:
            removal = removal.together(only_classes(coupling, removal_of_cut(cut, coupling)))
        asked = [*(request for request in step.requests() if request.layer == CLASSES and not settled), *asked]
    for request in asked:
        if request.layer == CLASSES:
            removal = removal.together(removal_of_classes(coupling, model, request.amount, removal))
    return kept_classes(coupling, removal) or []


def first_steps(plan: Path, up_to: int | None) -> Plan:
    """A plan file's first steps, all of them where `up_to` is None.

    Raises:
        PlanError: no plan, or it has fewer steps.
    """
    found = read_plan(plan)
    if up_to is not None and up_to > len(found.steps):
        raise PlanError(f"{plan} has no step {up_to}: the last step is {len(found.steps)}")
    return found.model_copy(update={"steps": found.steps[:up_to]})


def settled_plan(
    model: str, imgsz: int | None, classes: int | None, plan: Path, data: CalibrationData, up_to: int | None
) -> dict[str, Any]:
    """A plan file's content, with the channels that every step removes."""
    found = first_steps(plan, up_to)
    unsettled = any(step.unsettled for step in found.steps)
    return open_session(model, imgsz, classes, plan, data=data, up_to=up_to).plan.plain() if unsettled else found.plain()


def remark(session: PruningSession, *more: str, shown: str = "") -> None:
    """Write remarks on a result to stderr: how the model was read, what was adjusted, what was skipped.

    `shown`: what the result says itself.
    """
    analysis = session.analysis
    for line in (*analysis.checkpoint.warnings, *analysis.notes, *more):
        if line != shown:
            say(line)


def requests_from(
    cuts: Sequence[str] | None, criterion: str, round_to: int, has_plan: bool = False, keep_classes: str | None = None
) -> list[Request]:
    """The requests of `--cut` and `--keep-classes` options.

    Raises:
        RequestError: none given and no plan either, or one that cannot be read.
    """
    if not cuts and not has_plan and keep_classes is None:
        raise RequestError(NOTHING_TO_CUT)
    classes = [] if keep_classes is None else [class_request(keep_classes)]
    return [*classes, *(parse_request(cut, criterion, round_to) for cut in cuts or ())]


def validated(
    model: str,
    data: str,
    images: int | None,
    imgsz: int | None,
    device: str,
    classes: int | None,
    plan: dict[str, Any] | None,
    on_progress: Callable[[JobProgress], None],
    masked: bool = False,
) -> ValidationResult:
    """The metrics of a model under a plan, cut or as a mask; cached or measured."""
    from tui_pruner.engine.job_messages import ValidationParameters
    from tui_pruner.jobs.validate import run_validation

    checkpoint = open_model(model, classes)
    parameters = ValidationParameters(
        checkpoint=model,
        sha256=checkpoint.sha256,
        plan=plan,
        masked=masked,
        data=data,
        images=images,
        imgsz=imgsz or checkpoint.default_imgsz,
        device=device,
        classes=classes,
    )
    return run_validation(parameters, on_progress)
