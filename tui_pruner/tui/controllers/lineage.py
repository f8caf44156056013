"""Maintains the tree of stages that the session is part of, and moves between stages on the lineage and on the front."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from tui_pruner.domain.lineage import ASKED, STEP, Stage, file_id
from tui_pruner.storage.model_file import FUNCTION
from tui_pruner.tui.actions import INTERACTIVE, STAGES, STEPS, STEPS_PANE, TREE, VIEW, Action
from tui_pruner.tui.controllers.base import Controller, unproved_reason
from tui_pruner.tui.controllers.lists import CursorMove, ListController, ListView
from tui_pruner.tui.drawing import titled
from tui_pruner.tui.job_specs.export import StagePair, detections, stage_file
from tui_pruner.tui.messages import ModelChosen
from tui_pruner.tui.panes.front import AXES, dots_of
from tui_pruner.tui.panes.lineage import moved_cursor
from tui_pruner.tui.session_stages import asked_stage, begin_lineage, follow, ids_of, shown_of
from tui_pruner.tui.state import PROOFS

if TYPE_CHECKING:
    from tui_pruner.tui.state import Store

SHOW = "steps MODEL --plan FILE"
PICTURES = "report PLAN --data DATA -o OUT.html"
GO = "prune MODEL --plan FILE --steps N -o OUT"


class LineageController(Controller):
    """Keeps the stages in step with the session's steps, proofs and measurements; it changes none of these."""

    def actions(self) -> Sequence[Action]:
        """The two views of the stages, and the detections."""
        return (
            Action(
                id="lineage",
                keys="H",
                title="Lineage",
                help="Show where the model comes from, as a tree of stages with size, metric, latency and proof; compare two, go to any.",
                group=STEPS,
                cli=SHOW,
                run=lambda: self.dialogs.show_stages(False),
                footer="lineage",
            ),
            Action(
                id="front",
                keys="F",
                title="Front",
                help="Show every measured stage as a dot, its metric over FLOPs, parameters or ms; go from dot to dot and to any of them.",
                group=STEPS,
                cli=SHOW,
                run=lambda: self.dialogs.show_stages(True),
                footer="front",
            ),
            Action(
                id="detections",
                keys="I",
                title="Detections",
                help="Show the same validation images at two stages with their boxes, side by side, those that changed most first.",
                group=STEPS,
                cli=PICTURES,
                run=self.show_detections,
                disabled_reason=unproved_reason,
            ),
        )

    def begin(self) -> None:
        """Insert the open file into the tree, then observe."""
        begin_lineage(self.state, self.jobs.checkpoint.opening.lineage)
        self.store.observe(("session", "metrics", "latency", PROOFS), self.follow, at_once=True)
        self.follow()

    def follow(self) -> None:
        """Update the stages from the session."""
        follow(self.state)

    def go_to(self, id: str) -> None:
        """Undo, redo or open a file until this stage is the current one."""
        state, session = self.state, self.state.session
        timeline, lineage = ids_of(state), state.lineage
        stage = lineage.stages.get(id)
        if id in timeline:
            if id != lineage.here:
                self.engine.go_to(timeline.index(id))
        elif stage is not None and stage.kind == STEP and id.startswith(file_id(state.opened.model.content)):
            self.engine.load_plan({**session.plan, "steps": lineage.steps_of(id)})
        elif stage is not None:
            self._open(stage)

    def show_detections(self, first: str = "", second: str = "") -> None:
        """Show the detections of two stages on the same images: by default of the original and the current one."""
        lineage = self.state.lineage
        second = second or lineage.here
        before = [stage.id for stage in lineage.chain(second)[:-1] if stage_file(self.state, stage.id) is not None]
        first = first or next(iter(before), "")
        files = stage_file(self.state, first), stage_file(self.state, second)
        if first == second or files[0] is None or files[1] is None:
            self.say("two stages are needed whose files are known here: apply a step, or choose others in the lineage", "warning")
            return
        titles = titled(lineage.stages[first].title), titled(lineage.stages[second].title)
        pair = StagePair(titles, (files[0], files[1]), f"{first} {second}")
        self.jobs.with_data(lambda: self._detect(pair), "Detect on")

    def _detect(self, pair: StagePair) -> None:
        pair = replace(pair, key=f"{pair.key} {self.jobs.checkpoint.data}")
        if pair.key not in self.state.detected:
            self.jobs.add(detections(self.jobs.checkpoint, pair, partial(self.state.detected.__setitem__, pair.key)))
        self.dialogs.show_detections(pair)

    def _open(self, stage: Stage) -> None:
        """Open the file of a stage that is not in this session, after a question."""
        lineage = self.state.lineage
        root = lineage.root_of(stage.id)
        if (reason := missing_file(stage, root)) or root is None:
            self.say(reason, "warning")
            return
        steps = lineage.steps_of(stage.id)
        plan = {**root.plan, "steps": steps} if root.plan is not None and steps else None
        if steps and plan is None:
            self.say(f"the plan of {stage.title} is not known here: open its file, then the plan", "warning")
            return
        path = root.path

        def take(answer: str) -> None:
            if answer:
                self.dialogs.send(ModelChosen(path, self.jobs.checkpoint.data, tuple(lineage), plan))

        what = f"the open file, with the steps up to {stage.title}" if steps else "the open file"
        text = f"{path}\nIt becomes {what}; this session is kept."
        self.dialogs.confirm(f"Go to {stage.title}?", text, [("enter,g", "go there", "go")], take)


def missing_file(stage: Stage, root: Stage | None) -> str:
    """Why a stage cannot be opened, `root` being the file that it starts from; empty where it can."""
    if root is not None and root.overwritten:
        return f"{root.title} was overwritten" if root is stage else f"{root.title}, which {stage.title} starts from, was overwritten"
    if root is None or not root.path:
        return f"the file of {stage.title} is not known here: open it by its path"
    there = FUNCTION.fullmatch(root.path) or Path(root.path).exists()
    return "" if there else f"{root.path} no longer exists"


class StageListController(ListController):
    """A cursor on the stages, as a tree or on the front; another stage can be held for comparison.

    While a target is dragged, the same keys drag it on the front: `slide` goes this many positions down.
    """

    pane = STAGES
    group = STEPS

    def __init__(
        self, store: Store, lineage: LineageController, view: ListView, on_front: bool, slide: Callable[[int], None] = lambda by: None
    ) -> None:
        self._store = store
        self._slide = slide
        self._lineage = lineage
        self._view = view
        self.on_front = on_front
        self.cursor = store.state.lineage.here
        self.held = ""
        self.axis = AXES[0]

    def actions(self) -> Sequence[Action]:
        """Actions on a stage."""
        return (
            *self.moves(
                "stage-move",
                CursorMove(
                    "up,left,k", "Stage before", "Go to the stage above, or the dot on the left; drag the target down.", "up left k"
                ),
                CursorMove(
                    "down,right,j", "Stage after", "Go to the stage below, or the dot on the right; drag the target up.", "down right j"
                ),
            ),
            Action(
                id="go-to-stage",
                keys="enter",
                title="Go to the stage",
                help="Make the stage under the cursor the current one, by undo, redo or opening its file; the others stay in the tree.",
                group=STEPS,
                cli=GO,
                run=self.go,
                footer="go there",
                pane=STAGES,
            ),
            Action(
                id="hold-stage",
                keys="space",
                title="Compare with the stage",
                help="Hold the stage under the cursor to compare others with it; again to release it.",
                group=STEPS,
                cli="steps MODEL --plan FILE --compare A B",
                run=self.hold,
                footer="compare with",
                pane=STAGES,
            ),
            Action(
                id="stage-detections",
                keys="I",
                title="Detections of the stage",
                help="Show what the stage under the cursor finds on validation images, beside the held one, or where the model comes from.",
                group=STEPS,
                cli=PICTURES,
                run=lambda: self._lineage.show_detections(self.held, self.cursor),
                footer="detections",
                pane=STAGES,
            ),
            Action(
                id="switch-picture",
                keys="tab,F,H",
                shown="tab",
                title="Tree or front",
                help="Show the stages as a tree, or on the front.",
                group=VIEW,
                cli=INTERACTIVE,
                run=self.switch,
                footer="tree/front",
                pane=STAGES,
            ),
            Action(
                id="next-axis",
                keys="x",
                title="What is across",
                help="Switch the front's axis: FLOPs, parameters or milliseconds.",
                group=VIEW,
                cli=INTERACTIVE,
                run=self.next_axis,
                footer="axis",
                pane=STAGES,
            ),
            self.leaving("leave-stages", "escape,q", "Back from the stages", "Leave the stages.", VIEW),
        )

    @property
    def ids(self) -> list[str]:
        """The stages that the cursor moves over: the lines of the tree, or the dots."""
        state, shown = self._store.state, shown_of(self._store.state)
        if self.on_front:
            return [dot.id for dot in dots_of(shown, self.axis, asked_stage(state))]
        return [line.stage.id for line in shown.lines]

    def move(self, by: int) -> None:
        """Go to another stage; on the front with an open slider, move the target."""
        if self.on_front and self._store.view.sliding:
            self._slide(-by)
            self.cursor = ASKED
            return
        self.cursor = moved_cursor(self.ids, self.cursor, by)

    def hold(self) -> None:
        """Hold the stage under the cursor for comparison, or release it."""
        self.held = "" if self.held == self.cursor else self.cursor

    def switch(self) -> None:
        """Switch the view, with the cursor on the same stage if it is shown there."""
        self.on_front = not self.on_front
        self._stay()

    def next_axis(self) -> None:
        """Switch the horizontal axis."""
        self.axis = AXES[(AXES.index(self.axis) + 1) % len(AXES)]
        self._stay()

    def go(self) -> None:
        """Close the screen and go to the stage under the cursor; for the target's ring, to the tree of the model."""
        cursor = self.cursor
        self._view.leave()
        if cursor == ASKED:
            self._store.update(focus=TREE, comparison=None)
            return
        self._store.update(focus=STEPS_PANE)
        self._lineage.go_to(cursor)

    def _stay(self) -> None:
        if self.cursor not in self.ids:
            self.cursor = moved_cursor(self.ids, self.cursor, 0)
