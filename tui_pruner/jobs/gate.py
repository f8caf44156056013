"""The gate before a merge: a pruned model against its original on the same images, judged by intervals; and its report for CI."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from tui_pruner.domain.errors import DataError, RequestError
from tui_pruner.domain.formatting import printable
from tui_pruner.domain.results import main_metric, nothing_to_lose
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.search_messages import BenchParameters, BenchResult, GateLatency, GateMetric, GateParameters, GateResult, ModelToTime
from tui_pruner.jobs.data.dataset import DataSet, read_data
from tui_pruner.jobs.intervals import (
    RULE,
    STRICT_RULE,
    Drop,
    Judgement,
    images_needed,
    images_of,
    judged,
    metrics_on,
    paired_drops,
    resamples_for,
)
from tui_pruner.jobs.latency import run_bench
from tui_pruner.jobs.tools import OnProgress
from tui_pruner.jobs.validate import opened, prepared, skipped
from tui_pruner.storage.model_file import is_architecture

if TYPE_CHECKING:
    from torch import nn


FEWEST_RESAMPLES, MOST_RESAMPLES, WORK = 100, 400, 5_200_000
"""A standard error needs fewer resamples than a percentile; the work is four times that of a validation's interval."""
REPORT_EVERY = 20
FAMILY = "metrics/mAP50-95"
"""Prefix of the metrics that are judged beside the main one: boxes where masks or poses are predicted too."""


@dataclass
class ValidatedImages:
    """What one model's validation collected for each image, in the order of the images, and how Ultralytics sums it up."""

    images: list[dict[str, Any]]
    validator: Any
    notes: list[str] = field(default_factory=list)

    def metrics(self, places: Sequence[int]) -> Mapping[str, float]:
        """Return the metrics on some of the images."""
        return metrics_on(self.validator, [self.images[place] for place in places])


def run_gate(parameters: GateParameters, on_progress: OnProgress) -> GateResult:
    """Run the job.

    Raises:
        CheckpointError: a checkpoint cannot be used.
        DataError: the data cannot be used, or has too few images.
        RequestError: the models have no metric in common that is known for each image, or no such device.
    """
    from tui_pruner.core.model.flops import parameter_count
    from tui_pruner.core.pruning.proved_cut import as_numbered_in
    from tui_pruner.frameworks.ultralytics import open_model

    started = time.perf_counter()
    data = read_data(parameters.data).subset(parameters.images, parameters.seed)
    on_progress(JobProgress(done=0, total=len(data.images), doing="reading the checkpoints", begun=False))
    pruned, original = (
        opened(parameters),
        open_model(parameters.against, parameters.classes if is_architecture(parameters.against) else None),
    )
    reference = as_numbered_in(original, pruned).model
    before = validated_images(reference, data, parameters, "original", on_progress)
    after = validated_images(pruned.model, data, parameters, "pruned", on_progress)
    metrics, needed = compared(before, after, parameters, on_progress)
    latency = timed(parameters, on_progress) if parameters.max_latency is not None else None
    sizes = parameter_count(original.model), parameter_count(pruned.model)
    notes = [*before.notes, *after.notes, *nothing_to_lose({one.name: one.original for one in metrics})]
    result = verdict_on(metrics, latency, parameters, sizes)
    more = {"images": len(after.images), "images_needed": needed, "notes": list(dict.fromkeys(notes))}
    return result.model_copy(update={**more, "seconds": time.perf_counter() - started})


def verdict_on(metrics: list[GateMetric], latency: GateLatency | None, parameters: GateParameters, sizes: tuple[int, int]) -> GateResult:
    """Return the verdict by these judgements; `sizes`: the parameters of the original and of the pruned model."""
    worst = max(metrics, key=lambda metric: metric.drop)
    judgements: list[GateMetric | GateLatency] = [*metrics, *([latency] if latency else [])]
    return GateResult(
        verdict="yes" if all(one.ok for one in judgements) else "no",
        certain=all(one.certain for one in judgements),
        drop=worst.drop,
        interval=(worst.low, worst.high),
        latency=latency,
        metrics=metrics,
        reasons=[*map(drop_in_words, metrics), *([latency_in_words(latency)] if latency else [])],
        rule=STRICT_RULE if parameters.strict else RULE,
        images=0,
        images_needed=None,
        original=file_name(parameters.against),
        pruned=file_name(parameters.checkpoint),
        original_parameters=sizes[0],
        pruned_parameters=sizes[1],
        seconds=0.0,
    )


def file_name(path: str) -> str:
    """Return a file's name without its folder, since a report goes to other machines."""
    return Path(path).name


def validated_images(model: nn.Module, data: DataSet, parameters: GateParameters, which: str, on_progress: OnProgress) -> ValidatedImages:
    """Return what a model's validation collects for each image.

    Raises:
        RequestError: this task's validation does not collect by image.
    """
    found: list[ValidatedImages] = []

    def keep(running: Any) -> None:
        on_progress(JobProgress(done=min((running.batch_i + 1) * running.args.batch, total), total=total, doing=f"validating the {which}"))
        if running.batch_i + 1 == len(running.dataloader) and (images := images_of(running)) is not None:
            found.append(ValidatedImages(images, snapshot(running)))

    with prepared(model, data, parameters.imgsz, parameters.device) as (validator, notes):
        total = len(data.images)
        validator.add_callback("on_val_batch_end", keep)
        validator(model=copy.deepcopy(model))
    if not found:
        what = f"the validation of a {type(model).__name__} does not tell images apart"
        raise RequestError(f"{what}: compare its metrics with validate --against")
    if len(found[0].images) < total:
        notes.append(skipped(total - len(found[0].images), data))
    found[0].notes = notes
    return found[0]


def snapshot(validator: Any) -> Any:
    """Return a copy of a validator, since the running one discards what it collected."""
    kept = copy.copy(validator)
    kept.metrics = copy.copy(validator.metrics)
    if getattr(kept.metrics, "stats", None):
        kept.metrics.stats = {name: list(images) for name, images in kept.metrics.stats.items()}
    return kept


def compared(
    before: ValidatedImages, after: ValidatedImages, parameters: GateParameters, on_progress: OnProgress
) -> tuple[list[GateMetric], int | None]:
    """Return the judged metrics, and about how many images would make an uncertain verdict certain.

    Raises:
        DataError: there are too few images.
        RequestError: the two validations have no metric in common, or did not see the same labels.
    """
    count = len(after.images)
    if count < 2:
        raise DataError(f"{parameters.data}: one image says nothing of others; give at least two, better two hundred")
    if not same_labels(before.images, after.images):
        raise RequestError("the two validations saw other labels: give a model that was pruned from the original")
    whole, other = before.metrics(range(count)), after.metrics(range(count))
    main = main_metric(whole)
    names = [name for name in whole if name in other and (name.startswith(FAMILY) or (main and name == main[0]))]
    if not names:
        raise RequestError("the two models have no metric in common: give models of one task")
    resamples = resamples_for([*before.images, *after.images], FEWEST_RESAMPLES, MOST_RESAMPLES, WORK)

    def tell(done: int) -> None:
        if done % REPORT_EVERY == 0:
            on_progress(JobProgress(done=done, total=resamples, doing="resampling the images"))

    drops = paired_drops(count, before.metrics, after.metrics, names, resamples, tell)
    metrics = [judged_metric(drop, parameters) for drop in drops]
    needs = [
        images_needed(drop, count, parameters.max_drop)
        for drop, metric in zip(drops, metrics, strict=True)
        if not metric.certain and metric.original != 0
    ]
    return metrics, max((need for need in needs if need is not None), default=None)


def same_labels(first: Sequence[Mapping[str, Any]], second: Sequence[Mapping[str, Any]]) -> bool:
    """Return whether two validations saw the same labels, image by image."""
    import numpy as np

    if len(first) != len(second):
        return False
    keys = ("target_cls", "targets")
    return all(np.array_equal(one[key], other[key]) for one, other in zip(first, second, strict=True) for key in keys if key in one)


def judged_metric(drop: Drop, parameters: GateParameters) -> GateMetric:
    """Return a drop with its judgement."""
    found = judged(drop.low, drop.high, parameters.max_drop, parameters.strict)
    if drop.original == 0 and drop.drop <= 0:
        found = Judgement(ok=not parameters.strict, certain=False)  # there is nothing to lose
    return GateMetric(
        name=drop.name,
        original=drop.original,
        pruned=drop.pruned,
        drop=drop.drop,
        low=drop.low,
        high=drop.high,
        allowed=parameters.max_drop,
        ok=found.ok,
        certain=found.certain,
    )


def timed(parameters: GateParameters, on_progress: OnProgress) -> GateLatency:
    """Return both models' latency, timed in turns."""
    models = [parameters.against, parameters.checkpoint]
    entries = [ModelToTime(checkpoint=model, classes=parameters.classes if is_architecture(model) else None) for model in models]
    asked = BenchParameters(models=entries, imgsz=parameters.imgsz, runs=parameters.runs, device=parameters.device)
    return judged_latency(run_bench(asked, partial(every_nth, on_progress)), parameters)


def judged_latency(timed: BenchResult, parameters: GateParameters) -> GateLatency:
    """Return the latency of two models, the original first, with its judgement."""
    original, pruned = timed.models
    allowed = parameters.max_latency or 1.0
    found = judged(pruned.ratio_low, pruned.ratio_high, allowed, parameters.strict)
    return GateLatency(
        ratio=pruned.ratio,
        low=pruned.ratio_low,
        high=pruned.ratio_high,
        allowed=allowed,
        ok=found.ok,
        certain=found.certain,
        original_ms=original.median_ms,
        pruned_ms=pruned.median_ms,
        runs=pruned.runs,
        device=pruned.device,
    )


def every_nth(on_progress: OnProgress, progress: JobProgress) -> None:
    """Pass on every n-th report."""
    if progress.done % REPORT_EVERY == 0:
        on_progress(progress)


NO_INTERVAL = "no interval, since it is one figure for all samples"


def drop_in_words(metric: GateMetric) -> str:
    """Return the judgement on a metric's drop in words."""
    between = f"95 % interval {negated(metric.high)} to {negated(metric.low)}" if metric.has_interval else NO_INTERVAL
    fell = f"{short(metric.name)} {negated(metric.drop)} ({between}), allowed {0.0 - metric.allowed:+g}"
    return f"{fell}: {outcome(metric)}"


def negated(drop: float) -> str:
    """Return the change that a drop is, in four digits; no change is never a negative zero."""
    return f"{round(-drop, 4) + 0.0:+.4f}"


def short(name: str) -> str:
    """Return a metric's usual name."""
    return name.removeprefix("metrics/")


def latency_in_words(latency: GateLatency) -> str:
    """Return the judgement on the latency in words."""
    takes = f"latency is {latency.ratio:.3f} of the original's (95 % interval {latency.low:.3f} to {latency.high:.3f})"
    return f"{takes}, allowed {latency.allowed:g}: {outcome(latency)}"


def outcome(one: GateMetric | GateLatency) -> str:
    """Return a judgement in words."""
    if one.certain:
        return "within" if one.ok else "too much"
    return "passes, but this is not certain" if one.ok else "not certain, which strict does not pass"


SUITE = "tui-pruner gate"
PASSED = {"yes": "passed", "no": "failed"}


def junit(result: GateResult) -> bytes:
    """Return a JUnit document: a test case for each judgement, failed where the limit is exceeded."""
    judged: list[tuple[str, GateMetric | GateLatency]] = [
        (f"{short(one.name)} falls by at most {one.allowed:g}", one) for one in result.metrics
    ]
    if result.latency:
        judged.append((f"latency at most {result.latency.allowed:g} of the original's", result.latency))
    failures = str(sum(not one.ok for _, one in judged))
    counts = {"tests": str(len(judged)), "failures": failures, "errors": "0", "skipped": "0", "time": f"{result.seconds:.3f}"}
    suites = Element("testsuites", {"name": SUITE, **counts})
    suite = SubElement(suites, "testsuite", {"name": clean(f"{SUITE}: {result.pruned} against {result.original}"), **counts})
    properties = SubElement(suite, "properties")
    for name, value in facts(result):
        SubElement(properties, "property", {"name": name, "value": clean(value)})
    for (name, one), reason in zip(judged, result.reasons, strict=True):
        case = SubElement(suite, "testcase", {"classname": "tui_pruner.gate", "name": clean(name), "time": f"{result.seconds:.3f}"})
        if not one.ok:
            SubElement(case, "failure", {"message": clean(reason), "type": "gate"}).text = clean(result.rule)
        SubElement(case, "system-out").text = clean(reason)
    indent(suites)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{tostring(suites, encoding="unicode")}\n'.encode()


def facts(result: GateResult) -> list[tuple[str, str]]:
    """Return what the verdict is based on, by name."""
    return [
        ("verdict", result.verdict),
        ("certain", str(result.certain).lower()),
        ("images", str(result.images)),
        ("original", result.original),
        ("pruned", result.pruned),
        ("original_parameters", str(result.original_parameters)),
        ("pruned_parameters", str(result.pruned_parameters)),
    ]


def markdown(result: GateResult) -> str:
    """Return a summary for a pull request."""
    share = (result.pruned_parameters - result.original_parameters) / max(1, result.original_parameters)
    lines = [
        f"## Pruning gate {PASSED[result.verdict]}{'' if result.certain else ', but not certain'}",
        "",
        f"`{cell(result.pruned)}` against `{cell(result.original)}`: {result.pruned_parameters:,} of {result.original_parameters:,} "
        f"parameters ({100 * share:+.1f} %), {result.images} {result.sample}s.",
        "",
        "| | original | pruned | change | 95 % interval | allowed | |",
        "| --- | ---: | ---: | ---: | ---: | ---: | --- |",
        *(
            f"| {cell(short(one.name))} | {one.original:.4f} | {one.pruned:.4f} | {negated(one.drop)} "
            f"| {interval_in_words(one)} | {negated(one.allowed)} | {word(one)} |"
            for one in result.metrics
        ),
    ]
    if result.latency:
        one = result.latency
        lines.append(
            f"| latency on {cell(one.device)}, ms | {one.original_ms:.2f} | {one.pruned_ms:.2f} | x{one.ratio:.3f} "
            f"| x{one.low:.3f} to x{one.high:.3f} | x{one.allowed:.3f} | {word(one)} |"
        )
    lines += ["", result.rule]
    if more := advice(result):
        lines += ["", more]
    return "\n".join(lines) + "\n"


def interval_in_words(one: GateMetric) -> str:
    """Return the interval of a metric's change; a dash where it is not known."""
    return f"{negated(one.high)} to {negated(one.low)}" if one.has_interval else "-"


def word(one: GateMetric | GateLatency) -> str:
    """Return a judgement in one word or two."""
    return f"{'ok' if one.ok else '**no**'}{'' if one.certain else ', not certain'}"


def advice(result: GateResult) -> str:
    """Return what would make an uncertain verdict certain; empty where it is certain."""
    if result.certain or result.images_needed is None or result.images_needed <= result.images:
        return ""
    return f"About {result.images_needed:,} {result.sample}s would settle it in place of {result.images}."


def cell(text: str) -> str:
    """Return text escaped for a Markdown table and a code span."""
    return clean(text).replace("|", "\\|").replace("`", "'")


def clean(text: str) -> str:
    """Return text without characters that XML or a single line cannot contain."""
    return " ".join(printable(text).split())
