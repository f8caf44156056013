"""A model with its user's modules in all commands; each file is trusted by its own SHA-256."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.cli.conftest import Call
from tests.jobs.narrow import SIDE
from tests.own_modules import own_checkpoint, own_modules
from tui_pruner.storage.trust import VARIABLE, fingerprint


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A checkpoint with the user's modules, whose folder is on the import path of this process and of its children."""
    monkeypatch.setenv(VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{Path(__file__).parents[2]}")
    with own_modules(tmp_path) as user:
        yield own_checkpoint(tmp_path, user)


def with_trust(*files: Path) -> list[str]:
    return [part for file in files for part in ("--trust", fingerprint(file))]


def test_trusted_model_is_pruned_proved_recalibrated_fine_tuned_exported_and_reported(
    own: Path, tmp_path: Path, call: Call, small_data: Path
):
    pruned, again, tuned = (tmp_path / f"{name}.pt" for name in ("pruned", "again", "tuned"))
    made = call("prune", own, "-o", pruned, "--cut", "model.4.block.cv2=50%", "--save-plan", tmp_path / "plan.yaml", *with_trust(own))
    assert made.status == 0, made.err
    assert f"open it with --trust {fingerprint(pruned)[:8]}" in made.out
    refused = call("inspect", pruned)
    assert refused.status == 2 and f"--trust {fingerprint(pruned)[:16]}" in refused.err
    assert call("inspect", pruned, *with_trust(pruned)).status == 0
    assert "proved" in call("prove", own, pruned, *with_trust(own, pruned)).out
    data = ["--data", small_data, "--imgsz", SIDE]
    assert call("validate", pruned, *data, *with_trust(pruned)).status == 0
    recalibrated = call("recalibrate", pruned, "-o", again, *data, "--images", "4", *with_trust(pruned), "--json")
    assert recalibrated.status == 0 and recalibrated.document["own_names"][0] == "user_blocks.Excite"
    taught = ["--teacher", own, "--epochs", "1", "--batch", "4"]
    trained = call("finetune", again, "-o", tuned, *data, *taught, *with_trust(again, own), "--json")
    assert trained.status == 0, trained.err
    assert torch.load(tuned, weights_only=False)["tui_pruner"]["trusted"]["sha256"] == fingerprint(again)
    exported = call("export", tuned, "--format", "torchscript", "--imgsz", SIDE, *with_trust(tuned), "--json")
    assert exported.status == 0 and exported.document["equal"] is True
    reported = call("report", tmp_path / "plan.yaml", "--model", own, "-o", tmp_path / "report.html", *with_trust(own))
    assert reported.status == 0, reported.err
    assert "user_blocks.Excite" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_unwritable_model_is_refused_before_work_starts(tmp_path: Path, call: Call, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(VARIABLE, "")
    with own_modules(tmp_path) as user:
        own = own_checkpoint(tmp_path, user, "Restless")
        looked = call("inspect", own, *with_trust(own))
        assert looked.status == 0 and "nothing that is made from it can be written" in looked.err
        monkeypatch.setattr("tui_pruner.core.pruning.session.PruningSession.apply", lambda *arguments: pytest.fail("the work began"))
        pruned = call("prune", own, "-o", tmp_path / "pruned.pt", "--cut", "model.4.block.cv2=50%", *with_trust(own))
    assert pruned.status == 2 and "nothing that is made from" in pruned.err and not (tmp_path / "pruned.pt").exists()
