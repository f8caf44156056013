"""Export of the current model in the background; the file is kept if its outputs are the same."""

from __future__ import annotations

import re
from pathlib import Path

import onnx
from ultralytics.engine.exporter import export_formats

from tui_pruner.engine.job_messages import ExportResult
from tui_pruner.tui.drawing import GLYPHS
from tui_pruner.tui.job_specs.export import FORMATS, export
from tui_pruner.tui.job_specs.job import ModelFile, OpenCheckpoint
from tui_pruner.tui.opening import Opening
from tui_pruner.tui.panes.jobs import job_lines
from tui_pruner.tui.screens.forms import Chooser
from tui_pruner.tui.screens.prompts import PathPrompt


class Model:
    path, sha256, imgsz = "original.pt", "0" * 64, 160


SUBJECT = OpenCheckpoint(Opening("original.pt", images=64, classes=3), Model(), None)  # type: ignore[arg-type]


async def test_cut_model_is_exported_to_the_requested_path(start, demo_checkpoint: Path, tmp_path: Path):
    target = tmp_path / "digits-pruned.onnx"
    async with start(opening=Opening(str(demo_checkpoint), imgsz=64)) as desk:
        desk.state.automatic = False
        await desk.go("model.5")
        await desk.press("3", "0", "enter", "a")
        await desk.until(lambda: len(desk.state.session.steps) == 1, "the step")
        await desk.press("X")
        await desk.until(lambda: isinstance(desk.app.screen, Chooser), "the formats")
        await desk.press("1")
        await desk.until(lambda: isinstance(desk.app.screen, PathPrompt), "the place")
        assert "digits-pruned.onnx" in desk.text
        await desk.press("ctrl+u", *str(target), "enter")
        await desk.until(lambda: any("on 4 drawn images, " in note for note, _ in desk.state.notes), "the file")
        note = next(note for note, _ in desk.state.notes if "drawn images" in note)
        assert re.fullmatch(r"digits-pruned.onnx equal( within \de-\d+)? on 4 drawn images, [\d.]+ MB, ([\d.]+ m?s|\d+:\d\d)", note)
        assert " ".join(line.plain.strip() for line in job_lines(desk.bench.work(), 50, 6)).endswith(f"{GLYPHS.good} {note}")
        assert desk.state.session.unsaved, "a job's file is not a place where the user saved"
    weights = {tensor.name: tensor.dims for tensor in onnx.load(target).graph.initializer}
    assert weights["model.5.conv.weight"][0] == 90


def test_formats_equal_those_of_ultralytics():
    table = export_formats()
    suffixes = dict(zip(table["Argument"], table["Suffix"], strict=True))
    assert {one.argument: one.suffix for one in FORMATS} == {one.argument: suffixes[one.argument] for one in FORMATS}


async def test_export_with_equal_outputs_names_the_bound():
    result = ExportResult(
        output="out.onnx", bytes=5_000_000, source_bytes=2, equal=True, max_abs_difference=1e-6, relative_difference=3e-7, images=4,
        drawn=True,
    )  # fmt: skip
    outcome = await export(FORMATS[0], SUBJECT, ModelFile("cut.pt", "1" * 64), "out.onnx", True).take(result.model_dump())
    assert outcome.figure == "equal within 3e-7 on 4 drawn images, 5.00 MB"


async def test_export_with_different_outputs_is_reported_as_not_written():
    job = export(FORMATS[0], SUBJECT, ModelFile("cut.pt", "1" * 64), "out.onnx", True)
    parameters = job.parameters()
    assert (parameters.checkpoint, parameters.classes, parameters.format, parameters.output) == ("cut.pt", None, "onnx", "out.onnx")
    result = ExportResult(
        output=None, bytes=1, source_bytes=2, equal=False, max_abs_difference=1.0, relative_difference=0.5, images=4, drawn=True
    )
    outcome = await job.take(result.model_dump())
    assert outcome.figure.startswith("NOT written") and ("differs by", "5.0e-01 relative on 4 drawn images") in outcome.details
