"""`python -m tests.faults stateful`: hypothesis works with the engine in random order, and a model of the session
in a few lines says what is so.

Every action goes through the engine's service and into the journal, as in the app. After each, the steps that would be shown must be those
of the model, and the totals those of the network that is really cut; a kill leaves nothing but the journal.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar
from unittest.mock import patch

import torch
import yaml
from hypothesis import HealthCheck, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from tests.faults.counting import size_of
from tests.faults.nth_call import quick_verification
from tests.jobs.narrow import SIDE, narrow
from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.plan import Plan, replay
from tui_pruner.core.pruning.proof import Proof
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.domain.errors import PrunerError
from tui_pruner.engine import service as service_module
from tui_pruner.engine import sources as sources_module
from tui_pruner.engine.requests import PreviewRequest
from tui_pruner.engine.service import Service
from tui_pruner.engine.views import session_view
from tui_pruner.storage.sessions import SavedSession, SessionFile, new_id, session_to_resume, sessions

RUNS, STEPS = 300, 30
LAYERS = ("model.1", "model.3", "model.5", "model.6.m.0.cv1", "model.7", "model.16", "model.19", "22")
AMOUNTS = ("10%", "25%", "40%", "keep:6")
MODEL = "narrow.pt"
Entry = tuple[tuple[str, str], ...]


class Machine(RuleBasedStateMachine):
    """The model: the entries of the timeline, how many count, what was written last, what is asked for and marked."""

    analysis: ClassVar[Analysis]
    actions: ClassVar[Counter[str]] = Counter()
    refusals: ClassVar[Counter[str]] = Counter()
    runs: ClassVar[int] = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).runs += 1
        self._home = tempfile.TemporaryDirectory(prefix="stateful-")
        self._environment = patch.dict(os.environ, XDG_STATE_HOME=self._home.name)
        self._environment.start()
        self.folder = Path(self._home.name)
        self.timeline: list[Entry] = []
        self.position = 0
        self.written: list[Entry] = []
        self.planned: list[Entry] | None = None
        self.asked: dict[str, str] = {}
        self.marks: set[str] = set()
        self.file = SessionFile(new_id(MODEL))
        self.service = opened()

    def teardown(self) -> None:
        """Leave nothing behind."""
        self.service.slow.shutdown()
        self.file.close()
        self._environment.stop()
        self._home.cleanup()

    @rule(layer=st.sampled_from(LAYERS))
    def mark(self, layer: str) -> None:
        """Mark a layer, or take its mark away."""
        self.marks ^= {layer}
        self.keep("mark")

    @rule(layer=st.sampled_from(LAYERS), amount=st.sampled_from(AMOUNTS))
    def ratio(self, layer: str, amount: str) -> None:
        """Ask for a layer's amount."""
        self.asked[layer] = amount
        self.keep("ratio")

    @rule(layer=st.sampled_from(LAYERS), amount=st.sampled_from(AMOUNTS))
    def cut_one(self, layer: str, amount: str) -> None:
        """Ask for one more layer and apply it."""
        self.asked[layer] = amount
        self._apply()

    @precondition(lambda self: self.asked)
    @rule()
    def cut(self) -> None:
        """Apply what is asked for."""
        self._apply()

    def _apply(self) -> None:
        """The totals become those that the preview has shown."""
        preview = self.service.call(PreviewRequest(requests=self.requests)).preview
        if self.answered("apply", requests=self.requests):
            self.timeline = [*self.timeline[: self.position], tuple(sorted(self.asked.items()))]
            self.position += 1
            self.asked = {}
            assert not preview.conflicts and not preview.refused
            assert session_view(self.service.session).current == preview.after
        else:
            assert not self.asked or preview.conflicts or preview.refused
            self.asked = {}
        self.keep("cut")

    @rule()
    def undo(self) -> None:
        """Take the last step back, where there is one."""
        assert self.answered("undo") == (self.position > 0)
        self.position = max(0, self.position - 1)
        self.keep("undo")

    @rule()
    def redo(self) -> None:
        """Bring a step again, where there is one."""
        assert self.answered("redo") == (self.position < len(self.timeline))
        self.position = min(len(self.timeline), self.position + 1)
        self.keep("redo")

    @rule(chance=st.integers(0, 12))
    def go_to(self, chance: int) -> None:
        """Undo or redo several steps at once."""
        assert self.answered("go_to", step=chance) == (chance <= len(self.timeline))
        self.position = chance if chance <= len(self.timeline) else self.position
        self.keep("go to")

    @rule()
    def save_plan(self) -> None:
        """Write the plan; the file says what the session is."""
        file = self.folder / "plan.yaml"
        assert self.answered("save_plan", path=str(file), force=True)
        self.planned = self.timeline[: self.position]
        assert [entry(step) for step in yaml.safe_load(file.read_text())["steps"]] == self.planned
        self.keep("save plan")

    @rule()
    def write(self) -> None:
        """Write the pruned file, where there is a step; it has the size that is shown."""
        file = self.folder / "pruned.pt"
        if self.answered("write", path=str(file), force=True):
            assert self.position
            self.written = self.timeline[: self.position]
            model = torch.load(file, weights_only=False)["model"].float()
            assert size_of(model, self.analysis.image_shape) == shown(self.service.session)
        self.keep("write")

    @rule()
    def reload(self) -> None:
        """Open the written plan, where there is one: its steps, and nothing to redo."""
        if self.planned is not None:
            plan = yaml.safe_load((self.folder / "plan.yaml").read_text())
            assert self.answered("load_plan", plan=plan)
            self.timeline, self.position = list(self.planned), len(self.planned)
        self.keep("reload")

    @rule()
    def kill(self) -> None:
        """The system takes the process and its locks; anyone who starts again has the journal and nothing else."""
        self.service.slow.shutdown()
        self.file._journal.close()
        del self.service, self.file
        self.written = []
        if not sessions():
            assert not self.timeline and not self.asked and not self.marks
            self.file, self.service = SessionFile(new_id(MODEL)), opened()
        else:
            saved = session_to_resume()
            assert (saved.asked, set(saved.marks), saved.damaged) == (self.asked, self.marks, 0)
            self.file, self.service = SessionFile(saved.id), opened(plan=saved.plan, steps=saved.steps)
        self.keep("kill")

    @invariant()
    def session_and_totals_equal_those_of_the_model(self) -> None:
        """What the screen would show, against the model and the network."""
        view = session_view(self.service.session)
        assert [shown_entry(step.requests) for step in view.steps] == self.timeline[: self.position]
        assert [shown_entry(step.requests) for step in view.ahead] == self.timeline[self.position :]
        assert view.unsaved == (self.timeline[: self.position] != self.written)
        real = real_size(self.service.session.plan.model_dump_json())
        assert shown(self.service.session) == real, f"{self.timeline[: self.position]}: {shown(self.service.session)} shown, {real} counted"

    @property
    def requests(self) -> list[dict[str, Any]]:
        """What is asked for, as the protocol has it."""
        return [{"layer": layer, "amount": amount} for layer, amount in sorted(self.asked.items())]

    def answered(self, method: str, **parameters: Any) -> bool:
        """Whether the engine did what it was asked, and not refused it."""
        try:
            answer = self.service.answer(method, parameters)
            if hasattr(answer, "result"):
                answer.result()
        except PrunerError:
            self.refusals[method] += 1
            return False
        return True

    def keep(self, did: str) -> None:
        """Have it in the journal, as the app does before it shows anything."""
        self.actions[did] += 1
        view = session_view(self.service.session)
        saved = SavedSession(
            id=self.file.id, model=MODEL, plan={**view.plan, "steps": [*view.plan["steps"], *view.later]}, steps=len(view.steps),
            asked=self.asked, marks=sorted(self.marks),
        )  # fmt: skip
        self.file.keep(saved)


def opened(**more: Any) -> Service:
    """A new engine with the checkpoint open."""
    service = Service(lambda event, data: None)
    service.answer("open", {"path": MODEL, "imgsz": SIDE, **more})
    return service


def entry(step: dict[str, Any]) -> Entry:
    """A step of a plan as the model has it."""
    return tuple(sorted((cut["layer"], cut["amount"]) for cut in step["cuts"]))


def shown_entry(requests: list[Any]) -> Entry:
    """A shown step as the model has it."""
    return tuple(sorted((request.layer, request.amount) for request in requests))


def shown(session: PruningSession) -> tuple[int, int]:
    """The totals on the screen: parameters and operations."""
    current = session_view(session).current
    return current.parameters, current.flops


@lru_cache(maxsize=20_000)
def real_size(plan: str) -> tuple[int, int]:
    """Those of the network that a plan really cuts, counted on it."""
    analysis = Machine.analysis
    removal = replay(Plan.model_validate_json(plan), analysis.coupling, analysis.checkpoint.sha256)
    return size_of(cut(analysis.checkpoint.model, analysis.coupling, removal), analysis.image_shape)


@contextmanager
def narrow_engine(folder: Path) -> Iterator[None]:
    """Engines with a narrow checkpoint, traced once; a proof says yes at once, and the clean process is left out: others test them."""
    checkpoint = narrow(folder)
    Machine.analysis = analyse(checkpoint, SIDE)
    proof = Proof(True, 0.0, 0.0, 1.0, "float32", (), 0.0)
    with ExitStack() as stack:
        stack.enter_context(quick_verification())
        stack.enter_context(patch.object(sources_module, "open_model", lambda path, classes: checkpoint))
        stack.enter_context(patch.object(sources_module, "analyse", lambda checkpoint, imgsz: Machine.analysis))
        stack.enter_context(patch.object(service_module, "dry_run", lambda analysis, removal: None))
        stack.enter_context(patch.object(PruningSession, "prove", lambda session, applied, original=None: proof))
        yield
        real_size.cache_clear()


def run(runs: int = RUNS, steps: int = STEPS) -> list[str]:
    """This many runs, and on until they come to this many steps each on average; gives the divergence, if there is one."""
    Machine.actions.clear()
    Machine.refusals.clear()
    Machine.runs, round_ = 0, 0
    wanted = settings(max_examples=runs, stateful_step_count=steps, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    with tempfile.TemporaryDirectory(prefix="stateful-") as folder, narrow_engine(Path(folder)):
        try:
            while sum(Machine.actions.values()) < runs * steps:
                round_ += 1
                run_state_machine_as_test(seed(round_)(Machine), settings=wanted)
        except Exception as error:
            return ["\n".join([f"{type(error).__name__}: {error}", *getattr(error, "__notes__", ())])]
        finally:
            print(f"      {Machine.runs} runs, {sum(Machine.actions.values())} steps: {dict(Machine.actions.most_common())}")
            print(f"      refused: {dict(Machine.refusals)}; {real_size.cache_info().misses} different networks", flush=True)
    return []
