"""The file picker shows only folders and models, filters while typing, and describes a file before it is opened."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from textual.app import App

from tests.bad_files import NOT_CHECKPOINTS
from tests.tui.helpers import screen_text, until
from tui_pruner.tui.app import PrunerApp
from tui_pruner.tui.screens.entry_list import Entries
from tui_pruner.tui.screens.file_picker import PARENT, FilePicker, data_near, entries_in, kind_of, matching


class Picking(App[str]):
    """Nothing but the picker."""

    CSS_PATH = [str(PrunerApp.OTHER_STYLES.with_name(PrunerApp.CSS_PATH)), str(PrunerApp.OTHER_STYLES)]

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return {"border-blurred": "gray", "selection": "blue"}

    def on_mount(self) -> None:
        self.push_screen(FilePicker(self._folder), self.exit)


@pytest.fixture
def folder(tmp_path: Path, demo_checkpoint: Path) -> Path:
    """Models, other files, hidden ones, and folders."""
    (tmp_path / "runs" / "train").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "runs" / "train" / "best.pt").write_bytes(demo_checkpoint.read_bytes())
    for name in ("Last.pt", "net.yaml", "notes.txt", ".secret.pt", "data.yml"):
        (tmp_path / name).write_text("backbone: []" if name == "net.yaml" else "train: images")
    (tmp_path / "broken.pt").symlink_to(tmp_path / "nowhere.pt")
    return tmp_path


def test_data_yamls_beside_a_checkpoint_are_listed_after_the_one_of_its_training(folder, monkeypatch: pytest.MonkeyPatch):
    run = folder / "runs" / "train"
    (run / "weights").mkdir()
    elsewhere = folder.parent / f"{folder.name}-elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert data_near(str(folder / "Last.pt")) == [str(folder / "data.yml")]
    (run / "args.yaml").write_text(f"task: detect\ndata: {folder / 'data.yml'}\n")
    assert data_near(str(run / "weights" / "best.pt")) == [str(folder / "data.yml")]
    (run / "args.yaml").write_text("data: coco8.yaml\n")
    assert data_near(str(run / "weights" / "best.pt")) == []
    monkeypatch.chdir(folder)
    assert data_near("Last.pt") == ["data.yml"]
    (run / "own.yaml").write_text("val: images")
    assert data_near("Last.pt", str(run / "own.yaml")) == ["runs/train/own.yaml", "data.yml"]
    for recorded in ("", "coco8.yaml", str(folder), str(folder / "net.yaml"), "a\0b.yaml", "x" * 5000 + ".yaml"):
        assert data_near("Last.pt", recorded) == ["data.yml"]
    gone = elsewhere / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert data_near(str(folder / "Last.pt")) == [str(folder / "data.yml")] and data_near("Last.pt") == []


def test_folder_lists_folders_then_models_by_name_without_hidden_or_broken_files(folder):
    assert [place.name for place in entries_in(folder)] == [PARENT, "runs", "data.yml", "Last.pt", "net.yaml"]
    assert [place.name for place in matching(entries_in(folder), "Y a")] == [PARENT, "data.yml", "net.yaml"]
    assert PARENT not in [place.name for place in entries_in(Path(folder.anchor))]


async def test_model_is_found_by_navigating_and_filtering(folder):
    app = Picking(folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: bool(app.screen.query(Entries)), "the picker")
        await until(pilot, lambda: "Last.pt" in screen_text(app), "the files")
        assert "notes.txt" not in screen_text(app) and "secret" not in screen_text(app)
        await pilot.press(*"runs", "enter")
        await until(pilot, lambda: "train/" in screen_text(app), "the folder")
        await pilot.press("enter")
        await until(pilot, lambda: "best.pt" in screen_text(app), "the model")
        await until(pilot, lambda: "checkpoint, detect" in screen_text(app), "what it is")
        assert "6.21 MB" in screen_text(app)
        await pilot.press("backspace", "backspace")
        await until(pilot, lambda: "Last.pt" in screen_text(app), "the folder above")
        assert app.screen.query_one(Entries).key == "runs"
        await pilot.press(*"zzz")
        await until(pilot, lambda: "nothing here has that in its name" in screen_text(app), "the empty answer")
        await pilot.press("ctrl+u", *"runs/train/")
        await until(pilot, lambda: "best.pt" in screen_text(app), "the typed folder")
        await pilot.press("enter")
    assert app.return_value == str(folder / "runs" / "train" / "best.pt")


async def test_mouse_opens_a_folder_and_escape_cancels(folder):
    app = Picking(folder)
    async with app.run_test(size=(60, 20)) as pilot:
        await until(pilot, lambda: "runs/" in screen_text(app), "the files")
        y = next(y for y, line in enumerate(screen_text(app).splitlines()) if "runs/" in line)
        await pilot.click(offset=(8, y))
        await until(pilot, lambda: "train/" in screen_text(app), "the folder")
        await pilot.press("escape")
    assert app.return_value == ""


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
async def test_unreadable_folder_is_reported(folder):
    (folder / "runs").chmod(0)
    app = Picking(folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "runs/" in screen_text(app), "the files")
        await pilot.press("up", "up", "enter")
        await until(pilot, lambda: "cannot be opened: permission denied" in screen_text(app), "the reason")
    (folder / "runs").chmod(0o700)


async def test_deleted_folder_is_reported_and_the_picker_stays(folder):
    app = Picking(folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "runs/" in screen_text(app), "the files")
        (folder / "runs").rename(folder / "walks")
        await pilot.press("up", "up", "enter")
        await until(pilot, lambda: "cannot be opened: no such file or directory" in screen_text(app), "the reason")
        assert "Last.pt" in screen_text(app)


async def test_cursor_starts_on_a_checkpoint_and_enter_opens_the_entry_under_it(folder):
    app = Picking(folder)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "not a PyTorch checkpoint" in screen_text(app), "what the first checkpoint is")
        await pilot.press("down", "enter")
    assert app.return_value == str(folder / "net.yaml")


async def test_ten_thousand_files_are_listed_and_filtered_while_typing(tmp_path):
    for number in range(10_000):
        (tmp_path / f"epoch{number:05}.pt").touch()
    app = Picking(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await until(pilot, lambda: "epoch00000.pt" in screen_text(app), "the files")
        assert "10000 checkpoints here" in screen_text(app) or "empty" in screen_text(app)
        started = time.perf_counter()
        await pilot.press("end", *"09999")
        await until(pilot, lambda: app.screen.query_one(Entries).key == "epoch09999.pt", "the last one")
        assert time.perf_counter() - started < 3.0
        await pilot.press("enter")
    assert app.return_value == str(tmp_path / "epoch09999.pt")


@pytest.mark.parametrize("name", [name for name in NOT_CHECKPOINTS if name not in ("folder.pt", "model.onnx")])
def test_file_that_is_not_a_checkpoint_is_not_labelled_as_one(name, tmp_path):
    make, _ = NOT_CHECKPOINTS[name]
    make(tmp_path / name)
    kind = kind_of(tmp_path / name)
    assert kind and not kind.startswith("checkpoint, detect")


def test_file_is_described_in_a_few_words(folder, demo_checkpoint):
    assert kind_of(demo_checkpoint) == "checkpoint, detect"
    assert kind_of(folder / "net.yaml") == "an architecture, with random weights"
    assert kind_of(folder / "data.yml") == "a data set, not a model"
    assert kind_of(folder / "none.pt") == "no such file or directory"
