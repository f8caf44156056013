"""Data sets with folders, lists and images whose names are not UTF-8; a yaml with such bytes elsewhere is read as Ultralytics does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.odd_names import odd_path
from tui_pruner.domain.errors import DataError
from tui_pruner.engine.client import Job
from tui_pruner.engine.job_messages import ExportParameters
from tui_pruner.engine.processes import start_python
from tui_pruner.engine.recovery_messages import FinetuneParameters
from tui_pruner.jobs.data.dataset import read_data
from tui_pruner.jobs.data.linked_copy import private_view
from tui_pruner.jobs.training.run import run_of
from tui_pruner.jobs.training.trainers import legible_yaml

NAMES = b"names: [a, b]\n"


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with an image and its label, both under odd names, in an odd folder."""
    folder = odd_path(tmp_path, b"d\xe4ta")
    for kind, name in (("images", b"im\xe9.png"), ("labels", b"im\xe9.txt")):
        (folder / kind).mkdir(parents=True)
        odd_path(folder / kind, name).write_bytes(b"0 0.5 0.5 0.4 0.4\n")
    return folder / "images"


@pytest.mark.parametrize(
    "text",
    [
        b"val: d\xe4ta/images\n",
        b'val: "d\\udce4ta/images"\n',
        b"path: d\xe4ta # \xe9\nval: [images]\n",
        b"val: l\xefst.txt\n",
        b"val: 'd\xe4ta/images'\ntest: k\xe4ine\n",
    ],
)
def test_odd_bytes_in_a_data_yaml_lead_to_the_exact_files(text: bytes, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    odd_path(tmp_path, b"l\xefst.txt").write_bytes(b"./nothing.txt\n\n./d\xe4ta/images/im\xe9.png\n")
    file = odd_path(tmp_path, b"d\xe4ta.yaml")
    file.write_bytes(text + b"names: [caf\xe9, b]\n")
    data = read_data(file)
    (image,) = data.images
    assert [place.samefile(image) for place in images.iterdir()] == [True] and data.names == ("caf", "b")
    assert len(data.digest()) == 64
    with private_view(data) as view:
        assert view.read_bytes().isascii()
        assert [place.samefile(image) for place in (view.parent / "images").iterdir()] == [True]
        assert len(list((view.parent / "labels").iterdir())) == 1


def test_folder_without_odd_bytes_is_used_if_none_with_them_exists(images: Path, tmp_path: Path):
    file = tmp_path / "data.yaml"
    (tmp_path / "plain").symlink_to(images)
    file.write_bytes(b"val: pla\xefin\n" + NAMES)
    assert len(read_data(file).images) == 1


def test_missing_file_with_odd_bytes_is_reported_in_printable_text(tmp_path: Path):
    file = odd_path(tmp_path, b"d\xe4ta.yaml")
    file.write_bytes(b"val: n\xf6ne\n" + NAMES)
    with pytest.raises(DataError, match=r"nne do not exist .line 1 has bytes that are not UTF-8") as caught:
        read_data(file)
    assert str(caught.value).startswith(rf"{tmp_path}/d\xe4ta.yaml") and str(caught.value).isprintable()


def test_training_folder_is_typable_and_its_arguments_are_saved(tmp_path: Path):
    from ultralytics.utils import YAML

    run = run_of(FinetuneParameters(checkpoint="/m/caf\udce9.pt", sha256="0", data="d.yaml", imgsz=64, output="o.pt", epochs=1, batch=1))
    assert run.folder.name.startswith("caf_-")
    with legible_yaml():
        YAML.save(tmp_path / "args.yaml", {"model": "caf\udce9.pt", "epochs": 3, "save_dir": tmp_path})
    assert YAML.load(tmp_path / "args.yaml") == {"model": r"caf\xe9.pt", "epochs": 3, "save_dir": str(tmp_path)}


MAIN = """
import sys
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.jobs.__main__ import Kind, main

def work(parameters, on_progress):
    on_progress(JobProgress(done=1, total=1, doing=parameters.output))
    return parameters

sys.exit(main(["try", *sys.argv[1:]], {"try": Kind("job_messages.ExportParameters", "__main__", "work")}))
"""


async def test_job_receives_and_returns_odd_paths_across_processes():
    async def start(kind: str, scratch: str, log: Path | None) -> asyncio.subprocess.Process:
        return await start_python("-c", MAIN, scratch, log=log)

    told: list[str] = []
    asked = ExportParameters(checkpoint="/m/caf\udce9.pt", sha256="0", data="d\udce4ta.yaml", imgsz=64, output="\udcff.onnx")
    answer = await Job("try", asked, lambda progress: told.append(progress.doing), start=start).run()
    assert ExportParameters.model_validate(answer) == asked and told == ["\udcff.onnx"]
