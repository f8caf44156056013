"""A report: everything about a plan in one file, proved and measured now, written completely or not at all."""

from __future__ import annotations

import dataclasses
import datetime
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tui_pruner.domain.errors import OutputError
from tui_pruner.domain.formatting import command_line, legible
from tui_pruner.engine.job_messages import (
    JobProgress,
    ReportParameters,
    ReportResult,
)
from tui_pruner.jobs.report_figures import (
    NO_RECORD,
    ReportMaterial,
    accuracy,
    demand_same_cut,
    latency,
    of_folder,
    pictures,
    recovered_stages,
    sensitivity,
)
from tui_pruner.jobs.tools import OnProgress
from tui_pruner.jobs.validate import opened
from tui_pruner.storage.atomic import check_place, output_error, replace_file
from tui_pruner.storage.error_log import versions
from tui_pruner.storage.model_file import ModuleNames

if TYPE_CHECKING:
    from tui_pruner.core.model.checkpoint import Checkpoint
    from tui_pruner.core.pruning.session import PruningSession
    from tui_pruner.report.facts import Facts, Material


def check_report_output(output: Path, suffixes: tuple[str, ...], force: bool) -> None:
    """Refuse a path where a report cannot be written.

    Raises:
        OutputError: another suffix, a folder, an existing file without `force`, a missing folder, or no permission.
    """
    if output.suffix.lower() not in suffixes and not output.is_dir():
        raise OutputError(f"{output} is not a report: its name must end in {' or '.join(suffixes)}")
    check_place(output, str(output), "report.html", force)


def write_report(output: Path, text: str) -> None:
    """Write a report, completely or not at all.

    Raises:
        OutputError: the operating system refuses.
    """
    try:
        replace_file(output, legible(text).encode())
    except OSError as error:
        raise output_error(output, error) from error


def completed(
    facts: Facts, session: PruningSession, wanted: ReportMaterial, recovered: Checkpoint | None, on_progress: OnProgress
) -> Material:
    """The facts, completed with measurements on images, commands and versions; nothing unproved is measured.

    Raises:
        DataError: the data cannot be used for this model.
    """
    from tui_pruner.core.pruning.plan import dump_yaml
    from tui_pruner.report.facts import Material, PictureFacts

    unmeasured = [] if facts.proved else ["nothing was measured: figures of a model that is not proved would say nothing of the plan"]
    nothing = dataclasses.replace(wanted, data=None, latency=False, module=wanted.module and wanted.module.unmeasured)
    asked, wanted = wanted, wanted if facts.proved else nothing
    with tempfile.TemporaryDirectory(prefix="tui-pruner-pictures-") as folder:
        metrics = accuracy(session, wanted, on_progress)
        drawn = pictures(session, wanted, recovered, folder, on_progress)
        images = tuple((Path(folder, p.before_file).read_bytes(), Path(folder, p.after_file).read_bytes()) for p in drawn.pictures)
    made = of_folder(session, wanted, metrics, on_progress) if wanted.module else None
    stages = [*wanted.stages, *(made or recovered_stages(session, wanted, recovered, metrics, on_progress))]
    found = {
        "metrics": metrics,
        "stages": stages,
        "pictured_stage": wanted.pictured.stage if wanted.pictured else stages[-1].name if recovered and stages else "",
        "latency": latency(session, wanted, on_progress),
        "sensitivity": sensitivity(session, wanted),
        "pictures": [PictureFacts(image=p.image, before=p.before, after=p.after) for p in drawn.pictures],
        "confidence": drawn.confidence,
        "notes": [*facts.notes, *unmeasured, *drawn.notes],
        "commands": commands(facts, asked),
        "versions": {name: version for name, version in versions().items() if not (facts.of_module and name == "ultralytics")},
        "created": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }
    return Material(facts.model_copy(update=found), dump_yaml(session.plan), images)


def commands(facts: Facts, wanted: ReportMaterial) -> list[str]:
    """The commands that reproduce the pruned file, its proof, the metrics and this report."""
    if wanted.module is not None:
        return commands_of_module(wanted.module, wanted)
    model, plan = facts.model.path, str(wanted.plan)
    pruned = f"{Path(model).stem}-pruned.pt"
    shared = [*option("--imgsz", wanted.imgsz), *option("--classes", wanted.classes)]
    data = option("--data", wanted.data)
    lines: list[list[object]] = [
        ["prune", model, "--plan", plan, "-o", pruned, *shared],
        ["prove", model, pruned, *option("--classes", wanted.classes)],
        ["validate", model, "--plan", plan, *data, *option("--images", wanted.validation_images), *shared] if data else [],
        [
            "report",
            plan,
            *option("--model", wanted.model),
            *data,
            *counts(wanted),
            *option("--recovered", wanted.recovered),
            *flags(wanted),
            *shared,
            "-o",
            wanted.output,
        ],
    ]
    return [command_line(["tui-pruner", *line]) for line in lines if line]


def commands_of_module(module: ModuleNames, wanted: ReportMaterial) -> list[str]:
    """The commands that reproduce a module's folder, its proof, its metric and this report."""
    plan, measured_too = from_here(wanted.plan), ("evaluate",) if module.evaluate else ()
    recovered = from_here(wanted.recovered) if wanted.recovered else None
    lines: list[list[object]] = [
        ["prune", *module.words(), "--plan", plan, "-o", "pruned.tp"],
        ["prove", *module.words(), "pruned.tp"],
        ["validate", *module.words("evaluate"), "--plan", plan] if measured_too else [],
        ["report", *module.words(*measured_too), plan, *option("--recovered", recovered), *flags(wanted), "-o", from_here(wanted.output)],
    ]
    return [command_line(["tui-pruner", *line]) for line in lines if line]


def from_here(path: Path) -> str:
    """A path as a command in the current folder, where the code of a module is found, names it."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def flags(wanted: ReportMaterial) -> list[str]:
    """The options without a value."""
    return [*(["--latency"] if wanted.latency else []), *(["--redact"] if wanted.redact else [])]


def counts(wanted: ReportMaterial) -> list[str]:
    """The options that say how many images."""
    if wanted.data is None:
        return []
    return ["--images", str(wanted.pictures), *option("--validation-images", wanted.validation_images)]


def option(name: str, value: object) -> list[str]:
    """An option as typed; empty where it was not given."""
    return [] if value is None else [name, str(value)]


def run_report(parameters: ReportParameters, on_progress: OnProgress) -> ReportResult:
    """Run the job, on a plan with its channels.

    Raises:
        OutputError: the file cannot be written.
        DataError: the data cannot be used for this model.
        CheckpointError: the checkpoint cannot be used, or changed since the job was created.
        PlanError: the plan does not fit it.
    """
    from tui_pruner.core.model.analysis import analyse
    from tui_pruner.core.pruning.session import PruningSession

    if parameters.module is None:
        on_progress(JobProgress(done=0, total=0, doing="reading the checkpoint", begun=False))
        session = PruningSession(analyse(opened(parameters), parameters.imgsz))
    else:
        from tui_pruner.jobs.any_module.figures import opened_session

        session = opened_session(parameters, None, on_progress)[1]
    session.load(parameters.plan)
    wanted = ReportMaterial(
        plan=Path(parameters.plan_file),
        output=Path(parameters.output),
        data=Path(parameters.data) if parameters.data and parameters.module is None else None,
        validation_images=parameters.images,
        pictures=parameters.pictures,
        imgsz=parameters.imgsz,
        device=parameters.device,
        classes=parameters.classes,
        model=None if parameters.module else parameters.checkpoint,
        stages=tuple(parameters.stages),
        redact=parameters.redact,
        recovered=Path(parameters.recovered) if parameters.recovered and (parameters.data or parameters.module) else None,
        pictured=parameters.pictured,
        module=parameters.module,
    )
    facts = make_report(session, wanted, on_progress)
    return ReportResult(
        output=str(wanted.output.resolve()), bytes=wanted.output.stat().st_size, proved=facts.proved, steps=len(facts.steps)
    )


def make_report(session: PruningSession, wanted: ReportMaterial, on_progress: OnProgress) -> Facts:
    """Prove every step, measure what was requested, and write the file; return its content, with the names that it has.

    Raises:
        RequestError: the recovered file is of another model or another cut.
    """
    from tui_pruner.core.pruning.proved_cut import check_recovered
    from tui_pruner.frameworks.ultralytics import open_model
    from tui_pruner.report.facts import facts_of
    from tui_pruner.report.sections import written_as

    recovered = open_model(str(wanted.recovered)) if wanted.recovered and wanted.module is None else None
    known = recovered is None or check_recovered(recovered, session.analysis, session.removal, str(wanted.plan))
    if wanted.module and wanted.recovered:
        demand_same_cut(session, wanted.recovered)
    found = facts_of(session, str(wanted.plan), on_progress)
    found = found if known else found.model_copy(update={"notes": [*found.notes, NO_RECORD]})
    material = completed(found, session, wanted, recovered, on_progress)
    shown = neutral(material, wanted) if wanted.redact else material
    write_report(wanted.output, written_as(wanted.output.suffix, shown))
    return shown.facts


def neutral(material: Material, wanted: ReportMaterial) -> Material:
    """The material with neutral names, also in the commands."""
    from tui_pruner.report.privacy import NeutralNames, redacted

    facts, plan = material.facts, str(wanted.plan)
    names = (
        NeutralNames.of_module(wanted.module, plan, facts)
        if wanted.module
        else NeutralNames.of(facts.model.path, wanted.measured_by or None, plan, facts.model.names)
    )
    model = names.file(facts.model.path)
    shown = dataclasses.replace(
        wanted,
        plan=Path(names.file(str(wanted.plan))),
        output=Path(f"report{wanted.output.suffix}"),
        data=Path(names.file(str(wanted.data))) if wanted.data else None,
        model=model if wanted.model else None,
        recovered=Path(f"recovered.{'tp' if wanted.module else 'pt'}") if wanted.recovered else None,
        module=wanted.module and wanted.module.neutral,
    )
    named = facts.model_copy(update={"model": facts.model.model_copy(update={"path": model})})
    return redacted(material, names, commands(named, shown))
