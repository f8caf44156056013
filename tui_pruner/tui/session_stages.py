"""The session as stages of the lineage: their measurements, the current stage, and the pending cuts as one more."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner.domain.lineage import ASKED, FILE, ORIGINAL, STEP, Lineage, Stage, file_id, from_stages, state_id
from tui_pruner.tui.panes.lineage import Shown
from tui_pruner.tui.panes.steps import proof_cell
from tui_pruner.tui.state import AppState

if TYPE_CHECKING:
    from tui_pruner.tui.panes.front import TargetSlider


def begin_lineage(state: AppState, handed: Iterable[Stage] = ()) -> None:
    """Insert the open file into the lineage: after the former session's stages, else after those recorded in the file."""
    model, lineage = state.opened.model, state.lineage
    lineage.put(*handed)
    made = [stage.model_dump() for stage in model.stages]
    kind = made[-1]["kind"] if made else ORIGINAL
    module = state.checkpoint.opening.module
    place = module.place if module else str(Path(model.path).absolute())
    root = Stage(file_id(model.content), "", kind, Path(place).name, path=place)
    known = len(lineage.stages)
    if not known:
        told = [stage for stage in from_stages(made) if stage.id != root.id]
        lineage.put(*told)
        root = replace(root, parent=told[-1].id if told else "")
        lineage.derived = {root.id, *(stage.id for stage in told)}
    lineage.opened(root)


def restore_lineage(state: AppState, saved: Sequence[Mapping[str, Any]]) -> None:
    """Restore the stages of a kept session; the open file has its place among them."""
    stages = _with_absolute_paths([Stage.of(content) for content in saved])
    own = file_id(state.opened.model.content)
    if any(stage.id == own and stage.parent for stage in stages):
        state.lineage = Lineage()
        state.lineage.put(*stages)
    else:
        state.lineage.put(*(stage for stage in stages if stage.id != own))
    forget_figures_of_files(state.lineage)
    state.lineage.here = own
    follow(state)


def forget_figures_of_files(lineage: Lineage) -> None:
    """Remove the figures of files that are known by their path only: they may have been overwritten since."""
    files = [stage for stage in lineage if stage.id.startswith(FILE)]
    lineage.put(*(replace(stage, metric=None, low=None, high=None, latency=None) for stage in files))


def _with_absolute_paths(stages: Sequence[Stage]) -> list[Stage]:
    """These stages with absolute paths, which the ids of files have too: earlier sessions stored both as they were given."""
    absolute = {stage.id: str(Path(stage.path).absolute()) for stage in stages if stage.path}
    ids = {id: f"{FILE}{path}" for id, path in absolute.items() if id.startswith(FILE)}
    return [
        replace(stage, id=ids.get(stage.id, stage.id), parent=ids.get(stage.parent, stage.parent), path=absolute.get(stage.id, ""))
        for stage in stages
    ]


def kept_lineage(state: AppState) -> list[dict[str, Any]]:
    """The stages as a journal stores them: without the plan's steps and what the file itself contains."""
    timeline = ids_of(state)
    return state.lineage.besides({*timeline[1:], *state.lineage.derived})


def ids_of(state: AppState) -> list[str]:
    """The stages of the session's steps, the file's first, the undone ones last."""
    return [state_id(state.opened.model.content, key) for key in state.metrics.keys]


def follow(state: AppState) -> None:
    """Update the stages of the open file from the session."""
    lineage, metrics, session = state.lineage, state.metrics, state.session
    content, ids = state.opened.model.content, ids_of(state)
    root = lineage.stages.get(ids[0])
    if root is None:
        return
    size = session.original
    lineage.put(replace(root, parameters=size.parameters, flops=size.flops, plan={**session.plan, "steps": []}))
    planned = [*session.plan["steps"], *session.later]
    for number, (step, plain) in enumerate(zip([*session.steps, *session.ahead], planned), start=1):
        known = lineage.stages.get(ids[number])
        proof = step.proof or None
        proved, words = (proof.equal, proof_cell(proof)[0]) if proof else (known.proved, known.proof) if known else (None, "")
        lineage.put(
            Stage(
                ids[number], ids[number - 1], STEP, f"{number}: {step.title}", step.totals.parameters, step.totals.flops, step=dict(plain),
                proof=words, proved=proved,
            )
        )  # fmt: skip
    keys = {state_id(content, key): key for key in (*metrics.by_plan, *metrics.latencies, *metrics.keys)}
    for id, key in keys.items():
        stage, interval = lineage.stages.get(id), metrics.intervals.get(key)
        if stage is not None:
            found = metrics.by_plan.get(key)
            low, high = interval or (None, None)
            data = state.checkpoint.data or "" if found is not None else ""
            latency = metrics.latencies.get(key, stage.latency)
            lineage.put(replace(stage, metric=found, low=low, high=high, data=data, latency=latency))
    lineage.here = ids[min(len(session.steps), len(ids) - 1)]


def shown_of(state: AppState) -> Shown:
    """The stages as they are drawn."""
    ids = ids_of(state)
    undone = frozenset(ids[len(state.session.steps) + 1 :])
    main = (*(stage.id for stage in state.lineage.chain(state.lineage.here)), *ids)
    resamples = {state_id(state.opened.model.content, key): draws for key, draws in state.metrics.resamples.items()}
    return Shown(state.lineage, state.checkpoint.data or "", state.metrics.name, undone, main, resamples)


def asked_stage(state: AppState) -> Stage | None:
    """The pending cuts as a stage with its forecast; None without a forecast."""
    expected, after = state.forecast, state.after
    if expected is None:
        return None
    low, high = expected.expected - expected.spread, expected.expected + expected.spread
    return Stage(
        ASKED, state.lineage.here, ASKED, "asked for, not applied", after.parameters, after.flops, metric=expected.expected, low=low,
        high=high,
    )  # fmt: skip


def asked_reach(state: AppState, slider: TargetSlider | None, axis: str) -> list[float]:
    """The positions of the pending cuts on an axis, then the ends of the open slider; empty where nothing is pending."""
    if axis == "ms" or not (state.pending or slider):
        return []
    sizes = [state.after]
    if slider is not None:
        sizes += [state.session.current, *(position.preview.after for position in slider.positions[-1:] if position.preview)]
    return [float(size.flops if axis == "flops" else size.parameters) for size in sizes]
