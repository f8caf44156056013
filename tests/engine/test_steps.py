"""The timeline of a session in a real engine: going to a step, naming it, comparing two, and plans in and out."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tests.engine.conftest import Engine
from tui_pruner.domain import errors
from tui_pruner.engine.messages import CutRequest
from tui_pruner.engine.requests import Apply, Compare, GoTo, LoadPlan, NameStep, Open, SavePlan

FIRST = [CutRequest(layer="model.6.m.0.cv1", amount="50%")]
SECOND = [CutRequest(layer="model.5", amount="25%")]


@pytest.fixture
async def stepped(engine: Engine, demo_checkpoint: Path) -> Engine:
    """An engine with two steps."""
    await engine.client.call(Open(path=str(demo_checkpoint)))
    await engine.client.call(Apply(requests=FIRST))
    await engine.client.call(Apply(requests=SECOND))
    return engine


def titles(steps) -> list[str]:
    return [step.title for step in steps]


async def test_session_goes_to_any_step_and_later_steps_stay_listed(stepped: Engine):
    client = stepped.client
    back = await client.call(GoTo(step=1))
    assert (titles(back.steps), titles(back.ahead)) == (["model.6.m.0.cv1 -50%"], ["model.5 -25%"])
    assert back.ahead[0].number == 2
    start = await client.call(GoTo(step=0))
    assert (start.steps, len(start.ahead), start.current) == ([], 2, start.original)
    again = await client.call(GoTo(step=2))
    assert (len(again.steps), again.ahead, again.layers["model.5"].out_after) == (2, [], 96)
    with pytest.raises(errors.RequestError, match="no step 3: the last step is 2"):
        await client.call(GoTo(step=3))


async def test_named_step_keeps_its_name_through_undo_and_in_the_plan(stepped: Engine):
    client = stepped.client
    named = await client.call(NameStep(step=1, name="  first bottleneck "))
    assert titles(named.steps) == ["first bottleneck", "model.5 -25%"]
    back = await client.call(GoTo(step=0))
    assert titles(back.ahead) == ["first bottleneck", "model.5 -25%"]
    assert (await client.call(GoTo(step=2))).plan["steps"][0]["name"] == "first bottleneck"
    assert titles((await client.call(NameStep(step=1, name=""))).steps)[0] == "model.6.m.0.cv1 -50%"
    with pytest.raises(errors.RequestError, match="only steps can be named"):
        await client.call(NameStep(step=0, name="start"))


async def test_comparison_of_two_states_has_the_cuts_between_them(stepped: Engine):
    found = await stepped.client.call(Compare(first=1, second=2))
    assert {name: (width.out_before, width.out_after) for name, width in found.layers.items() if width.out_before != width.out_after} == {
        "model.5": (128, 96)
    }
    assert [(block.name, block.before[0], block.after[0]) for block in found.blocks] == [("model.5", 128, 96)]
    assert found.before.parameters > found.after.parameters
    backwards = await stepped.client.call(Compare(first=2, second=1))
    assert (backwards.before, backwards.after) == (found.after, found.before)


async def test_undone_steps_are_restored_with_a_replayed_plan(stepped: Engine, demo_checkpoint: Path):
    view = await stepped.client.call(GoTo(step=1))
    whole = {**view.plan, "steps": [*view.plan["steps"], *view.later]}
    again = (await stepped.client.call(Open(path=str(demo_checkpoint), plan=whole, steps=1))).session
    assert (titles(again.steps), titles(again.ahead), again.layers) == (titles(view.steps), titles(view.ahead), view.layers)


async def test_saved_plan_opens_again_and_one_of_another_checkpoint_changes_nothing(stepped: Engine, tmp_path: Path):
    client = stepped.client
    saved = await client.call(SavePlan(path=str(tmp_path / "plan.yaml")))
    assert saved.steps == 2
    content = yaml.safe_load(Path(saved.output).read_text())
    with pytest.raises(errors.OutputError, match="exists already"):
        await client.call(SavePlan(path=str(tmp_path / "plan.yaml")))
    await client.call(GoTo(step=0))
    loaded = await client.call(LoadPlan(plan=content))
    assert (titles(loaded.steps), loaded.layers["model.5"].out_after) == (["model.6.m.0.cv1 -50%", "model.5 -25%"], 96)
    with pytest.raises(errors.PlanError, match="not for this checkpoint"):
        await client.call(LoadPlan(plan={**content, "sha256": "0" * 64}))
    with pytest.raises(errors.PlanError, match="is not a plan"):
        await client.call(LoadPlan(plan=[1]))
    assert len((await client.call(GoTo(step=2))).steps) == 2


async def test_every_step_of_an_opened_plan_is_proved(stepped: Engine):
    await stepped.until(lambda: len(stepped.of("proof")) == 2)
    view = await stepped.client.call(GoTo(step=0))
    await stepped.client.call(LoadPlan(plan={**view.plan, "steps": view.later}))
    await stepped.until(lambda: len(stepped.of("proof")) == 4)
    assert [(proof["step"], proof["proof"]["equal"]) for proof in stepped.of("proof")] == [(1, True), (2, True)] * 2


async def test_step_counts_its_cut_layers(engine: Engine, demo_checkpoint: Path):
    await engine.client.call(Open(path=str(demo_checkpoint)))
    view = await engine.client.call(
        Apply(requests=[CutRequest(layer="model.22.cv3.*", amount="25%"), CutRequest(layer="model.5", amount="25%")])
    )
    cut = [name for name, width in view.layers.items() if width.out_after < width.out_before]
    assert len(cut) > 2 and view.steps[0].title == f"{len(cut)} layers -25%"
