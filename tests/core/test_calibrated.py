"""Scores that came from data: kept in a file that can be trusted or is refused, and used where a criterion needs them."""

from __future__ import annotations

import dataclasses
import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.core.conftest import ask, proof_of, removed
from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.pruning.importance import (
    FROM_WEIGHTS,
    Calibration,
    calibration_for,
    library_scores,
    modules_of,
    name_of,
    read_calibration,
)
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.criteria import NEED_DATA
from tui_pruner.domain.errors import DataError
from tui_pruner.engine.requests import PreviewRequest
from tui_pruner.engine.service import Service

CUT = "model.5=25%"


@pytest.fixture
def analysis(nano: Analysis) -> Analysis:
    """The shared analysis with a ranking of the test's own."""
    return dataclasses.replace(nano)


@pytest.fixture
def calibration(nano: Analysis) -> Calibration:
    """Scores drawn at random: what is tested is that they are used, and kept."""
    generator = np.random.default_rng(3)
    axes = {
        name_of(criterion, group.producers[0]): generator.random(nano.coupling.sizes[group.producers[0].axis])
        for criterion in NEED_DATA
        for group in nano.coupling.groups
        if group.prunable
    }
    return Calibration(nano.checkpoint.sha256, 8, ("a note",), axes)


@pytest.fixture
def file(calibration: Calibration, tmp_path: Path) -> Path:
    written = tmp_path / "scores.npz"
    written.write_bytes(calibration.to_bytes())
    return written


@pytest.mark.parametrize("criterion", NEED_DATA)
def test_criterion_that_needs_data_is_refused_without_scores(analysis: Analysis, criterion: str):
    (refusal,) = ask(analysis, CUT, criterion=criterion).refusals
    assert refusal.message.startswith(f"the criterion {criterion} ranks by calibration images")
    assert "--data DATA.yaml" in refusal.message and "l2" in refusal.message
    assert criterion not in analysis.ranking.names


@pytest.mark.parametrize("criterion", NEED_DATA)
def test_channels_with_the_lowest_scores_are_removed_and_the_cut_is_proved(analysis: Analysis, calibration: Calibration, criterion: str):
    analysis.ranking.calibrate(calibration)
    assert criterion in analysis.ranking.names
    found = ask(analysis, CUT, criterion=criterion)
    (group,) = analysis.coupling.output_groups("model.5.conv")
    scores = calibration.axes[f"{criterion}/model.5.conv.weight/0"]
    assert found.removal.of(group).tolist() == sorted(np.argsort(scores)[:32].tolist())
    assert proof_of(analysis, found.removal).equal


def test_later_step_ranks_by_the_scores_of_the_original_weights(analysis: Analysis, calibration: Calibration):
    analysis.ranking.calibrate(calibration)
    (group,) = analysis.coupling.output_groups("model.5.conv")
    first = ask(analysis, "model.5=keep:96", criterion="taylor").removal
    second = ask(analysis, "model.5=keep:64", base=first, criterion="taylor").removal
    at_once = ask(analysis, "model.5=keep:64", criterion="taylor").removal
    assert np.array_equal(first.together(second).of(group), at_once.of(group))


def test_new_scores_replace_the_old(analysis: Analysis, calibration: Calibration):
    (group,) = analysis.coupling.output_groups("model.5.conv")
    analysis.ranking.calibrate(calibration)
    before = analysis.ranking.scores(group, "taylor")
    analysis.ranking.calibrate(dataclasses.replace(calibration, axes={name: 1 - axis for name, axis in calibration.axes.items()}))
    assert np.allclose(analysis.ranking.scores(group, "taylor"), 1 - before)


def test_scores_are_read_back_as_written(analysis: Analysis, calibration: Calibration, file: Path):
    again = calibration_for(file, calibration.sha256, analysis.coupling, NEED_DATA)
    assert (again.sha256, again.images, again.notes) == (calibration.sha256, 8, ("a note",))
    assert again.axes.keys() == calibration.axes.keys()
    assert all(np.array_equal(again.axes[name], axis) for name, axis in calibration.axes.items())


def flipped(content: bytes) -> bytes:
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


def with_pickles(content: bytes) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, about=np.array({"sha256": "0"}, dtype=object))
    return stream.getvalue()


def without_description(content: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            if name != "about.npy":
                new.writestr(name, old.read(name))
    return stream.getvalue()


DAMAGES: list[Callable[[bytes], bytes]] = [
    lambda content: b"",
    lambda content: content[: len(content) // 2],
    lambda content: pickle.dumps({"a": 1}),
    flipped,
    with_pickles,
    without_description,
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_refused(file: Path, damage: Callable[[bytes], bytes]):
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"scores\.npz are missing or damaged: calibrate again"):
        read_calibration(file)


def test_missing_file_is_refused(tmp_path: Path):
    with pytest.raises(DataError, match="missing or damaged"):
        read_calibration(tmp_path / "none.npz")


def test_scores_of_another_checkpoint_are_refused(analysis: Analysis, file: Path):
    with pytest.raises(DataError, match="of another checkpoint"):
        calibration_for(file, "f" * 64, analysis.coupling, NEED_DATA)


@pytest.mark.parametrize("axis", [None, np.zeros(3), np.full(128, np.nan), np.zeros((128, 2)), np.zeros(128, dtype=np.int64)])
def test_scores_that_lack_a_channel_are_refused(analysis: Analysis, calibration: Calibration, file: Path, axis):
    kept = {name: scores for name, scores in calibration.axes.items() if name != "hessian/model.5.conv.weight/0"}
    changed = kept if axis is None else {**kept, "hessian/model.5.conv.weight/0": axis}
    file.write_bytes(dataclasses.replace(calibration, axes=changed).to_bytes())
    with pytest.raises(DataError, match="do not cover every channel"):
        calibration_for(file, calibration.sha256, analysis.coupling, NEED_DATA)


def test_engine_ranks_by_a_calibration_file(analysis: Analysis, file: Path):
    service = Service(lambda event, message: None)
    service._session = PruningSession(analysis)
    request = {"layer": "model.5", "amount": "25%", "criterion": "taylor"}
    assert "calibrate it first" in service.call(PreviewRequest(requests=[request])).preview.refused[0].message
    assert "calibrate it first" in service.call(PreviewRequest(requests=[], layer="model.5", criterion="taylor")).no_detail
    answer = service.answer("calibrate", {"scores": str(file)})
    assert (answer.images, answer.criteria[-2:]) == (8, ["hessian", "obs"])
    assert service.call(PreviewRequest(requests=[request])).preview.layers["model.5"].out_after == 96
    assert service.call(PreviewRequest(requests=[], layer="model.5", criterion="hessian")).detail.curve[-1] == 1.0
    service.slow.shutdown()


def test_every_criterion_scores_channels_with_several_rows_in_one_layer(nano: Analysis):
    (group,) = nano.coupling.output_groups("model.9.cv1.conv")
    (reader,) = (member for member in group.members if member.axis.module == "model.9.cv2.conv")
    assert reader.indices.shape == (128, 4)
    modules = modules_of(nano.checkpoint.model)
    for name, criterion in FROM_WEIGHTS.items():
        assert library_scores(criterion, group, modules).shape == (128,), name
    assert removed(nano, ask(nano, "model.9.cv1=50%", criterion="fpgm"), ["model.9.cv1"]) == [64]
