"""Masks in the app: written with Tab, measured like the cut, and taken over as a step where a masked file is opened."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.tui.helpers import Desk
from tui_pruner.core.pruning.masks import mask_of
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.tui.commands import job_command
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.screens.prompts import PathPrompt, Question

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def make_a_step(desk: Desk) -> None:
    """One step that is proved, nothing measured unasked."""
    desk.state.automatic = False
    await desk.go("model.6.cv2")
    await desk.press("3", "0", "enter")
    await desk.previewed()
    await desk.press("a")
    await desk.until(lambda: len(desk.state.session.steps) == 1 and desk.state.session.steps[0].proof is not None, "the proved step")


async def write_model(desk: Desk, file: Path, *switch: str) -> None:
    """The model in a file, after these keys in the prompt."""
    await desk.press("w")
    await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the prompt")
    await desk.press(*switch)
    await desk.press("ctrl+u", *str(file), "enter")
    await desk.until(lambda: any(note.startswith(f"wrote {file.name}") for note, _ in desk.state.notes), file.name)


def weights(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, map_location="cpu", weights_only=False)["model"].state_dict()


async def test_tab_writes_the_mask_and_the_opened_mask_can_become_a_cut(start, demo_checkpoint: Path, tmp_path: Path):
    soft, hard = tmp_path / "soft.pt", tmp_path / "hard.pt"
    async with start(opening=Opening(str(demo_checkpoint))) as desk:
        await make_a_step(desk)
        await desk.press("w")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the prompt")
        assert "Now: pruned" in desk.text and "digits-pruned.pt" in desk.text and "Tab switch" in desk.text
        await desk.press("tab")
        assert "Now: masked, same shapes, removed channels zero" in desk.text and "digits-masked.pt" in desk.text
        await desk.press("tab", "escape")
        await write_model(desk, soft, "tab")
        assert "masked: the cut computes the same, to" in desk.said[-1]
        assert "--mask -o" in desk.state.commands.entries[-1][1]
    found = read_checkpoint(soft)
    mask = mask_of(found.model, found.provenance)
    assert mask is not None and mask.holds and mask.channels == 38
    assert {name: tensor.shape for name, tensor in weights(soft).items()} == {n: t.shape for n, t in weights(demo_checkpoint).items()}
    async with start(opening=Opening(str(soft)), wait=False) as desk:
        await desk.until(lambda: isinstance(desk.app.screen, Question), "the offer")
        assert "38 output channels of 1 layer are zero" in " ".join(desk.text.split())
        await desk.press("t")
        await desk.until(lambda: len(desk.state.session.steps) == 1 and desk.state.session.steps[0].proof is not None, "the mask as a step")
        assert desk.state.session.steps[0].proof.equal and desk.state.session.layers["model.6.cv2"].out_after == 90
        await write_model(desk, hard)
    kept = torch.load(hard, map_location="cpu", weights_only=False)["tui_pruner"]["kept"]
    zeros, cut = weights(soft), weights(hard)
    for name, tensor in cut.items():
        expected = zeros[name]
        for dim, places in kept.get(name, {}).items():
            expected = expected.index_select(int(dim), torch.tensor(places))
        assert torch.equal(tensor, expected), name
    assert len(cut["model.6.cv2.conv.weight"]) == 90 and kept["model.6.cv2.conv.weight"]


async def test_unmasked_file_has_no_mask_to_adopt(desk):
    desk.run("take-mask")
    assert desk.said[-1] == "the open file is not masked, or its zeros did not stay"
    assert desk.state.opened.model.mask is None


async def test_masked_step_has_the_metric_of_the_cut(start, demo_checkpoint: Path, demo_data: Path):
    async with start(opening=Opening(str(demo_checkpoint), images=8, data=str(demo_data))) as desk:
        await make_a_step(desk)
        await desk.press("M")
        await desk.until(lambda: any("masked mAP" in note for note, _ in desk.state.notes), "the masked metric")
        told = next(note for note, _ in desk.state.notes if "masked mAP" in note)
        assert "as the cut has, differs by" in told
        assert float(told.partition("differs by ")[2].partition(",")[0]) <= 1e-4
        masked = next(job for job in desk.queue.jobs if job.spec.title == "step 1 masked")
        assert masked.parameters.masked is True
        line = job_command("validate", masked.parameters.model_dump(), "plan.yaml")
        assert "--plan plan.yaml" in line and line.endswith("--images 8 --mask")
