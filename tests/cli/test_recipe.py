"""`compress` by a recipe: written from options, read, overruled by options, refused with the nearest word."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Call
from tui_pruner.cli import job_runs
from tui_pruner.engine.recovery_messages import CompressParameters


def test_recipe_is_written_from_options_and_overruled_by_options(tmp_path: Path, demo_checkpoint: Path, call: Call, monkeypatch):
    file, told = tmp_path / "recipe.yaml", []
    written = call("compress", demo_checkpoint, "--target", "flops=60%", "--epochs", 3, "--no-refit", "--write-recipe", file)
    assert written.status == 0 and "edit it, then tui-pruner compress" in written.err
    assert "refit: off" in file.read_text() and "fine-tune: {epochs: 3" in file.read_text()

    def noted(kind: str, parameters: CompressParameters, *_: object, **__: object) -> dict[str, object]:
        told.append(parameters)
        return {"stages": [], "output": None, "original": {}, "metrics": {}, "stopped": "noted", "seconds": 0.0}

    monkeypatch.setattr(job_runs, "run_job", noted)
    data = demo_checkpoint.with_suffix(".yaml")
    file.write_text(f"data: {data}\n" + file.read_text())
    answer = call("compress", demo_checkpoint, "--recipe", file, "--epochs", 7, "-o", tmp_path / "out")
    assert answer.status == 1 and len(told) == 1, answer.err
    assert (told[0].epochs, told[0].targets, told[0].refit, told[0].data) == (7, ["flops=60%"], False, str(data))
    file.write_text(file.read_text().replace("epochs", "epocs"))
    wrong = call("compress", demo_checkpoint, "--recipe", file, "-o", tmp_path / "out")
    assert wrong.status == 2 and "did you mean epochs?" in wrong.err and "line " in wrong.err
    assert "give -o FOLDER" in call("compress", demo_checkpoint, "--target", "flops=60%").err
