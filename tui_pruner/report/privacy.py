"""What a report reveals: file names without folders, and on request neutral names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import yaml
from torch import nn

from tui_pruner.core.pruning.plan import Plan, dump_yaml, parse_plan
from tui_pruner.engine.job_messages import StageFigures, ValidationResult
from tui_pruner.engine.messages import ModelInfo, StepView
from tui_pruner.engine.search_messages import BenchResult
from tui_pruner.report.document import Document
from tui_pruner.report.facts import Facts, Material, PictureFacts
from tui_pruner.storage.model_file import ModuleNames

Figures = TypeVar("Figures", ValidationResult, StageFigures)
METRICS = "metrics/"
TYPE, TYPE_PATH = "Module", "package.module.Module"
"""In place of the class of a module."""
FOLDERS = re.compile(r"""(?<![\w.~:/\\])~?/(?:[^/\s'"`<>|]+/)*(?=[^/\s])""")
"""The folders of an absolute path within a text: "/srv/runs/" of "/srv/runs/best.pt"."""


def without_folders(document: Document, known: tuple[str, ...]) -> Document:
    """The document with every absolute path reduced to the file's name; `known` are paths that may contain spaces."""
    absolute = sorted((path for path in known if Path(path).is_absolute()), key=len, reverse=True)

    def named(text: str) -> str:
        for path in absolute:
            text = text.replace(path, Path(path).name)
        return FOLDERS.sub("", text)

    found = mapped(document, named)
    assert isinstance(found, Document)
    return found


def mapped(found: Any, change: Callable[[str], str]) -> Any:
    """The same data with every text changed."""
    if isinstance(found, str):
        return change(found)
    if isinstance(found, tuple):
        return tuple(mapped(one, change) for one in found)
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        return type(found)(**{field.name: mapped(getattr(found, field.name), change) for field in dataclasses.fields(found)})
    return found


@dataclass(frozen=True)
class NeutralNames:
    """Neutral names for the model's file, the data's file and the classes; for a module those of its code, its types and its metrics.

    `classes`: the words that stand alone in texts, which are also the module's types and metrics.
    """

    files: dict[str, str]
    classes: dict[str, str]
    metrics: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, model: str, data: str | None, plan: str, names: list[str]) -> NeutralNames:
        """The neutral names for a report."""
        files = {Path(plan).name: f"plan{Path(plan).suffix}", Path(model).name: f"model{Path(model).suffix}"}
        if data:
            files[Path(data).name] = f"data{Path(data).suffix}"
        return cls(files, neutral_classes(dict(enumerate(names))))

    @classmethod
    def of_module(cls, module: ModuleNames, plan: str, facts: Facts) -> NeutralNames:
        """The neutral names for a report on a module; paths of layers stay, since the plan needs them."""
        own, neutral = asdict(module), asdict(module.neutral)
        files = {Path(name).name: Path(neutral[key]).name for key, name in own.items() if isinstance(name, str) and name}
        plans = {Path(plan).name: f"plan{Path(plan).suffix}", facts.model.path: TYPE_PATH}
        latencies = facts.latency.models if facts.latency else []
        blocks = [*(block.type for block in facts.blocks), *(block.type for model in latencies for block in model.blocks)]
        parts = [*blocks, *(block.type for block in facts.dropped), facts.model.family]
        types = {name for name in parts if not hasattr(nn, name)}
        figures = [*(stage.metrics for stage in facts.stages), *([facts.metrics.before.metrics] if facts.metrics else [])]
        known = list(dict.fromkeys(name for found in figures for name in found))
        metrics = {name: f"{METRICS}metric{f'-{number}' if number > 1 else ''}" for number, name in enumerate(known, start=1)}
        words = {name.removeprefix(METRICS): to.removeprefix(METRICS) for name, to in metrics.items()}
        return cls({**files, **plans}, {**dict.fromkeys(sorted(types), TYPE), **words}, metrics)

    def type(self, name: str) -> str:
        """The neutral name of a module's type."""
        return self.classes.get(name, name)

    def figures(self, found: Figures) -> Figures:
        """A result with neutral names of its metrics."""
        return found.model_copy(update={"metrics": {self.metrics.get(name, name): value for name, value in found.metrics.items()}})

    def file(self, path: str) -> str:
        """A file's neutral name."""
        return self.files.get(Path(path).name, self.words(Path(path).name))

    def words(self, text: str) -> str:
        """A text with its names replaced, also those that begin with a file's name, such as the pruned file's."""
        text = exchanged(text, self.files)
        stems = {Path(name).stem: Path(neutral).stem for name, neutral in self.files.items() if Path(name).stem != Path(neutral).stem}
        return exchanged(exchanged(text, stems, r"(?=[-_.]\w)"), self.classes)


def neutral_classes(names: Mapping[int, str]) -> dict[str, str]:
    """By the name of a class: a name with only its number."""
    return {name: f"class-{number}" for number, name in names.items()}


def exchanged(text: str, names: Mapping[str, str], end: str = r"(?!\w)") -> str:
    """A text with whole words replaced."""
    words = sorted(filter(None, names), key=len, reverse=True)
    if not words:
        return text
    return re.sub(rf"(?<!\w)(?:{'|'.join(map(re.escape, words))}){end}", lambda found: names[found[0]], text)


def redacted(material: Material, names: NeutralNames, commands: list[str]) -> Material:
    """The material with neutral names; images are drawn with neutral names already."""
    facts = material.facts
    metrics = facts.metrics
    if metrics is not None:
        sides = {side: getattr(metrics, side) for side in ("before", "after")}
        said = {
            side: names.figures(found).model_copy(update={"notes": [names.words(note) for note in found.notes]})
            for side, found in sides.items()
        }
        steps = [found and names.figures(found) for found in metrics.steps]
        metrics = metrics.model_copy(update={"data": names.file(metrics.data), "steps": steps, **said})
    changed: dict[str, Any] = {
        "plan": names.file(facts.plan),
        "model": model_under(facts.model, names),
        "latency": latency_under(facts.latency, names),
        "metrics": metrics,
        "steps": [step_under(step, names) for step in facts.steps],
        "stages": [
            names.figures(stage).model_copy(update={"details": [names.words(line) for line in stage.details]}) for stage in facts.stages
        ],
        "blocks": [block.model_copy(update={"type": names.type(block.type)}) for block in facts.blocks],
        "dropped": [block.model_copy(update={"type": names.type(block.type)}) for block in facts.dropped],
        "pictures": [picture_under(f"image {number}", found, names) for number, found in enumerate(facts.pictures, start=1)],
        "classes": [names.classes.get(name, name) for name in facts.classes],
        "notes": [names.words(note) for note in facts.notes],
        "commands": commands,
    }
    return dataclasses.replace(material, facts=facts.model_copy(update=changed), plan=plan_under(material.plan, names))


def model_under(model: ModelInfo, names: NeutralNames) -> ModelInfo:
    """A checkpoint without its name, its classes' names, and those of the files that it was made from."""
    stages = [stage.model_copy(update={"source": f"source-{number}.pt"}) for number, stage in enumerate(model.stages, start=1)]
    mask = model.mask and model.mask.model_copy(update={"words": names.words(model.mask.words), "plan": None})
    classes = [names.classes.get(name, name) for name in model.names]
    changed = {"path": names.file(model.path), "family": names.type(model.family), "names": classes, "stages": stages, "mask": mask}
    return model.model_copy(update=changed)


def latency_under(latency: BenchResult | None, names: NeutralNames) -> BenchResult | None:
    """The timed models, with neutral names."""
    if latency is None:
        return None
    models = [
        model.model_copy(
            update={
                "model": names.file(model.model),
                "blocks": [block.model_copy(update={"type": names.type(block.type)}) for block in model.blocks],
            }
        )
        for model in latency.models
    ]
    return latency.model_copy(update={"models": models, "notes": [names.words(note) for note in latency.notes]})


def step_under(step: StepView, names: NeutralNames) -> StepView:
    """A step without its name, which the user chose."""
    requests = [request.model_copy(update={"amount": names.words(request.amount)}) for request in step.requests]
    proof = step.proof
    if proof is not None:
        proof = proof.model_copy(update={"reason": names.words(proof.reason), "failure": names.words(proof.failure)})
    notes = [names.words(note) for note in step.notes]
    return step.model_copy(update={"title": f"step {step.number}", "name": "", "requests": requests, "notes": notes, "proof": proof})


def picture_under(image: str, found: PictureFacts, names: NeutralNames) -> PictureFacts:
    """The detections on an image, with neutral names."""
    before, after = ({names.classes.get(name, name): count for name, count in side.items()} for side in (found.before, found.after))
    return PictureFacts(image=image, before=before, after=after)


def plan_under(text: str, names: NeutralNames) -> str:
    """A plan that still works: it identifies the checkpoint by its SHA-256, and the channels by their numbers."""
    plan: Plan = parse_plan(yaml.safe_load(text))
    steps = [
        step.model_copy(update={"name": "", "cuts": [cut.model_copy(update={"amount": names.words(cut.amount)}) for cut in step.cuts]})
        for step in plan.steps
    ]
    return dump_yaml(plan.model_copy(update={"checkpoint": names.file(plan.checkpoint), "steps": steps}))


def paths_of(facts: Facts) -> tuple[str, ...]:
    """The paths in the facts."""
    return tuple(filter(None, (facts.model.path, facts.plan, facts.metrics.data if facts.metrics else "")))
