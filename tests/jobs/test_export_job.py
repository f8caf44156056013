"""Export: Ultralytics' file is compared with the network before it takes its place; what differs is not written."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytest
import torch

from tests.jobs.narrow import SIDE, narrow, save, save_whole, short
from tests.odd_names import odd_path
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.domain.errors import DataError, JobError, OutputError, RequestError
from tui_pruner.engine.job_messages import ExportParameters, ExportResult
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.jobs import export
from tui_pruner.jobs.export import difference, distance, in_order, put, run_export


@pytest.fixture(scope="module")
def pruned(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """A short detector with two classes, a quarter of its channels cut."""
    folder = tmp_path_factory.mktemp("narrow")
    return save(short(folder), folder / "pruned.pt")


def asked(checkpoint: Checkpoint, **changes: object) -> ExportParameters:
    base = ExportParameters(checkpoint=checkpoint.path, sha256=checkpoint.sha256, imgsz=SIDE)
    return base.model_copy(update=changes)


def exporting(checkpoint: Checkpoint, **changes: object) -> ExportResult:
    return run_export(asked(checkpoint, **changes), lambda progress: None)


@pytest.mark.parametrize(
    ("name", "suffix", "temporary"), [("onnx", ".onnx", "späces here".encode()), ("torchscript", ".torchscript", b"no utf-8 \xe9")]
)
def test_an_export_computes_what_the_model_does_on_the_user_s_images(pruned, scenes, tmp_path, monkeypatch, name, suffix, temporary):
    """Whatever the folder of temporary files is called, through which the file comes."""
    (folder := odd_path(tmp_path, temporary)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = sorted(scenes.parent.rglob("*"))
    result = exporting(pruned, format=name, output=str(tmp_path / f"out{suffix}"), data=str(scenes), images=3)
    assert result.equal and result.output == str(tmp_path / f"out{suffix}")
    assert 0 <= result.relative_difference < 1e-4
    assert (result.images, result.drawn, result.notes) == (3, False, [])
    assert result.bytes == Path(result.output).stat().st_size > 100_000
    assert result.source_bytes == Path(pruned.path).stat().st_size
    assert sorted(scenes.parent.rglob("*")) == before and list(folder.iterdir()) == []
    assert sorted(path.name for path in Path(pruned.path).parent.iterdir()) == ["pruned.pt", "short.yaml"]


def test_what_computes_something_else_is_not_written(pruned, monkeypatch):
    def off_by_a_hundredth(file, device):
        for note, run in export.run_torchscript(file):
            yield note, lambda image, run=run: [one * 1.01 for one in run(image)]

    monkeypatch.setitem(export.RUNTIMES, "torchscript", off_by_a_hundredth)
    result = exporting(pruned, format="torchscript", imgsz=40)
    assert result.equal is False and result.output is None
    assert result.relative_difference == pytest.approx(0.01, rel=1e-2)
    assert (result.images, result.drawn) == (4, True)
    assert result.notes == ["image side 40 rounded up to 64, a multiple of the stride"]
    assert not Path(pruned.path).with_suffix(".torchscript").exists()


PAD_FUSION = "right only without onnxruntime's Pad_Fusion: create sessions with disabled_optimizers=['Pad_Fusion']"


def test_an_optimisation_of_the_runtime_that_is_wrong_is_named(pruned, tmp_path, monkeypatch):
    """Injected, since newer runtimes have it right."""

    def wrong_as_it_comes(file, device):
        (said, run), *others = export.run_onnx(file)
        yield said, lambda image: [one * 1.01 for one in run(image)]
        yield from others

    monkeypatch.setitem(export.RUNTIMES, "onnx", wrong_as_it_comes)
    result = exporting(pruned, format="onnx", output=str(tmp_path / "tiny.onnx"))
    assert result.equal and result.output == str(tmp_path / "tiny.onnx")
    assert result.notes == [PAD_FUSION]


def test_a_network_that_some_runtimes_get_wrong_is_exported_and_they_are_named(tmp_path):
    """onnxruntime up to 1.31 moves the zeros around YOLOv3-tiny's last map into the pooling behind; 1.32 does not."""
    import onnxruntime

    tiny = read_checkpoint(save_whole(narrow(tmp_path, "yolov3-tiny"), tmp_path / "tiny.pt"))
    result = exporting(tiny, format="onnx")
    assert result.equal and result.output == str(tmp_path / "tiny.onnx")
    image = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)).numpy()
    outputs = []
    for disabled in ([], ["Pad_Fusion"]):
        session = onnxruntime.InferenceSession(result.output, providers=["CPUExecutionProvider"], disabled_optimizers=disabled)
        outputs.append(torch.from_numpy(session.run(None, {session.get_inputs()[0].name: image})[0]))
    wrong = not torch.allclose(*outputs, atol=1e-3 * float(outputs[1].abs().max()))
    assert result.notes == ([PAD_FUSION] if wrong else [])


def test_a_runtime_that_is_not_here_leaves_the_file_uncompared_and_says_so(pruned, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = exporting(pruned, format="onnx", output=str(tmp_path / "out.onnx"))
    assert result.equal is None and result.max_abs_difference is None
    assert Path(result.output).is_file()
    assert result.notes == ["not compared: the runtime of onnx is not installed"]


def test_a_package_that_the_exporter_needs_is_named(pruned, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(JobError, match="export to onnx needs the package onnx: pip install onnx"):
        exporting(pruned, format="onnx", output=str(tmp_path / "out.onnx"))
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_exported_here_is_a_sentence(pruned, tmp_path):
    with pytest.raises(RequestError, match=r"^no format 'onxx': Ultralytics exports to torchscript, onnx, openvino"):
        exporting(pruned, format="onxx")
    with pytest.raises(RequestError, match="cannot be exported to engine here: ") as caught:
        exporting(pruned, format="engine")
    assert "\n" not in str(caught.value)
    (tmp_path / "there.onnx").touch()
    with pytest.raises(OutputError, match=r"there\.onnx exists already: choose another name with -o or give --force"):
        exporting(pruned, output=str(tmp_path / "there.onnx"))
    with pytest.raises(OutputError, match=r"no folder .*none, create it first"):
        exporting(pruned, output=str(tmp_path / "none" / "out.onnx"))


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    for name, content in (("old", "before"), ("new", "after")):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text(content)
    (tmp_path / "old" / "metadata.yaml").touch()
    put(tmp_path / "new", tmp_path / "old", force=True)
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert [path.name for path in (tmp_path / "old").iterdir()] == ["new"]


def test_a_folder_that_is_no_export_is_never_replaced_nor_is_the_model_itself(pruned, tmp_path):
    (tmp_path / "mine.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is a folder of other files"):
        exporting(pruned, output=str(tmp_path), force=True)
    assert (tmp_path / "mine.txt").read_text() == "years of work"
    (tmp_path / "link.pt").symlink_to(pruned.path)
    with pytest.raises(OutputError, match="is the model that is exported"):
        exporting(pruned, output=str(tmp_path / "link.pt"), force=True)


def test_the_folder_of_any_format_may_be_replaced_once_it_is_whole(tmp_path):
    for number, names in enumerate(export.EXPORTED):
        folder = tmp_path / str(number)
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).touch()
        assert export.is_export(folder)
        (folder / names[0]).unlink()
        (folder / "other").touch()
        assert not export.is_export(folder)


def test_images_of_which_none_can_be_read_compare_nothing(pruned, scenes, tmp_path):
    for image in (scenes.parent / "images/val").iterdir():
        image.write_bytes(b"")
    with pytest.raises(DataError, match="none of the 3 images can be read: nothing can be compared"):
        exporting(pruned, data=str(scenes), images=3, output=str(tmp_path / "out.onnx"))
    assert not (tmp_path / "out.onnx").exists()


def test_a_difference_is_that_of_the_worst_output_and_no_number_is_infinitely_far():
    assert distance(torch.tensor([4.0, -8.0]), torch.tensor([4.0, -7.0])) == export.Difference(1.0, 0.125)
    assert distance(torch.tensor([1.0]), torch.tensor([float("nan")])).relative == float("inf")


def test_ranked_detections_may_change_places():
    wanted = torch.tensor([[[1.0, 0.9], [5.0, 0.8999], [9.0, 0.1]]])
    given = wanted[:, [1, 0, 2]]
    assert torch.equal(in_order(wanted, given), wanted)


def test_outputs_of_another_shape_are_refused(pruned):
    with pytest.raises(JobError, match="gives outputs of shapes"):
        difference(pruned.model, "onnx", lambda image: [image], [torch.rand(1, 3, SIDE, SIDE)])
