"""Recalibration: BatchNorm statistics from unlabelled images, with every weight unchanged."""

from __future__ import annotations

import copy
import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.jobs.conftest import draw_scenes
from tui_pruner.core.recovery.reconstruction import recalibrate, statistics_of
from tui_pruner.domain.errors import DataError, RequestError
from tui_pruner.engine.recovery_messages import RecalibrationParameters
from tui_pruner.jobs.data.pictures import image_batches
from tui_pruner.jobs.recover import recalibrated, unlabelled


def ignore(progress):
    pass


@pytest.fixture
def wanted(tmp_path: Path) -> RecalibrationParameters:
    """20 validation scenes of drawn boxes, as any job on them is asked for."""
    data = draw_scenes(tmp_path / "scenes", 20)
    return RecalibrationParameters(
        checkpoint="random.pt", sha256="0" * 64, data=str(data), images=None, imgsz=64, device="cpu", output="out.pt"
    )


def test_statistics_are_averages_over_batches_and_weights_stay():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, momentum=0.03), nn.ReLU()).eval()
    batches = [torch.rand(5, 3, 8, 8), torch.rand(5, 3, 8, 8) * 3]
    before = copy.deepcopy(model.state_dict())
    found = recalibrate(model, batches)
    with torch.no_grad():
        seen = [model[0](batch) for batch in batches]
    new = found.model.state_dict()
    assert (found.layers, found.images) == (1, 10)
    assert torch.allclose(new["1.running_mean"], sum(one.mean((0, 2, 3)) for one in seen) / 2, atol=1e-6)
    assert torch.allclose(new["1.running_var"], sum(one.var((0, 2, 3)) for one in seen) / 2, atol=1e-6)
    assert all(torch.equal(new[name], before[name]) for name in before if not name.startswith("1.running"))
    assert all(torch.equal(model.state_dict()[name], before[name]) for name in before)
    assert found.model[1].momentum == 0.03 and not found.model[1].training


def test_layer_not_reached_by_the_forward_keeps_its_statistics():
    class Branched(nn.Module):
        def __init__(self):
            super().__init__()
            self.used, self.unused = nn.BatchNorm2d(2), nn.BatchNorm2d(2)
            nn.init.constant_(self.unused.running_mean, 7.0)

        def forward(self, image):
            return self.used(image)

    found = recalibrate(Branched().eval(), [torch.rand(4, 2, 3, 3) + 5])
    assert found.layers == 1
    assert found.model.unused.running_mean.tolist() == [7.0, 7.0]
    assert found.model.used.running_mean.min() > 5


def test_images_equal_those_of_stock_prediction_in_batches_of_similar_size(random_model, wanted):
    images = unlabelled(wanted).images
    sizes = [len(batch) for batch in image_batches(random_model, images, 64, "cpu", largest=16)]
    assert sizes == [10, 10]
    batch = next(image_batches(random_model, images[:1], 64, "cpu"))
    assert batch.shape == (1, 3, 64, 64) and batch.min() >= 0 and 0.9 < batch.max() <= 1


def test_model_is_recalibrated_from_images_without_labels(random_model, wanted):
    shutil.rmtree(Path(wanted.data).parent / "labels")
    before = copy.deepcopy(random_model.state_dict())
    said = []
    found = recalibrated(random_model, unlabelled(wanted), wanted, said.append)
    assert found.images == 20
    assert found.layers == len(statistics_of(random_model)) == 57
    changed = {name for name, tensor in found.model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert changed and all(".running_" in name for name in changed)
    assert [progress.done for progress in said] == [10, 20]


def test_training_images_are_preferred_and_chosen_by_the_seed(wanted, demo_data):
    assert {image.parent.name for image in unlabelled(wanted).images} == {"val"}
    chosen = unlabelled(wanted.model_copy(update={"data": str(demo_data), "images": 8}))
    assert {image.parent.name for image in chosen.images} == {"train"}
    assert len(chosen.images) == 8


def test_unreadable_images_are_skipped_and_no_readable_image_is_an_error(random_model, wanted):
    images = unlabelled(wanted).images
    images[0].write_bytes(b"no image")
    assert recalibrated(random_model, unlabelled(wanted), wanted, ignore).images == 19
    for image in images:
        image.write_bytes(b"no image")
    with pytest.raises(DataError, match="none of the 20 images can be read"):
        recalibrated(random_model, unlabelled(wanted), wanted, ignore)


def test_one_value_per_channel_is_refused_as_too_few_images(random_model, wanted):
    one = wanted.model_copy(update={"images": 1, "imgsz": 32})
    with pytest.raises(RequestError, match=r"1 images of side 32 are too few: give more --images or a larger --imgsz"):
        recalibrated(random_model, unlabelled(one), one, ignore)


def test_model_without_batch_normalisation_is_refused(wanted):
    with pytest.raises(RequestError, match="has no batch normalisation"):
        recalibrated(nn.Linear(2, 2), unlabelled(wanted), wanted, ignore)
