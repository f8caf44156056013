"""What bad input gets: one line on stderr that says what to do, status 2, no traceback, nothing on stdout and nothing written."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from tests.bad_files import NOT_CHECKPOINTS, RunsACommand, flip_one_bit
from tests.cli.conftest import FIELD_MODEL, Answer, Call, Pruned


def refusal(answer: Answer) -> str:
    """The one line of a refused call."""
    assert answer.status == 2, answer
    assert answer.out == ""
    (line,) = answer.remarks
    assert line.startswith("tui-pruner: ")
    assert "the traceback is in" not in line
    return line


@contextmanager
def nothing_changes(folder: Path) -> Iterator[None]:
    """Holds that no file of a folder appears, goes, or changes."""

    def state() -> dict[Path, bytes]:
        return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    before = state()
    yield
    assert state() == before


@pytest.mark.parametrize("name", NOT_CHECKPOINTS)
def test_invalid_checkpoint_is_refused_with_what_the_file_is(name: str, call: Call, tmp_path: Path):
    make, expected = NOT_CHECKPOINTS[name]
    make(tmp_path / name)
    with nothing_changes(tmp_path):
        line = refusal(call("prune", tmp_path / name, "--cut", "5=30%", "-o", tmp_path / "out.pt", "--json"))
    assert expected in line
    assert name in line


def bit_flipped(path: Path, content: dict[str, object]) -> None:
    flip_one_bit(path, seed=1)


def bare_weights(path: Path, content: dict[str, object]) -> None:
    torch.save(content["model"].state_dict(), path)


def fused(path: Path, content: dict[str, object]) -> None:
    torch.save({**content, "model": copy.deepcopy(content["model"]).float().eval().fuse(verbose=False)}, path)


@pytest.mark.parametrize(
    ("make", "expected"), [(bit_flipped, "is damaged"), (bare_weights, "holds only weights (a state_dict)"), (fused, "is fused")]
)
@pytest.mark.parametrize("command", ["inspect", "groups"])
def test_checkpoint_that_cannot_be_pruned_is_refused(make, expected: str, command: str, call: Call, tmp_path: Path, demo_checkpoint: Path):
    make(tmp_path / "bad.pt", torch.load(demo_checkpoint, weights_only=False))
    assert expected in refusal(call(command, tmp_path / "bad.pt"))


def test_class_outside_the_allow_list_is_named_and_not_run(call: Call, tmp_path: Path, demo_checkpoint: Path, demo_data: Path):
    canary = tmp_path / "canary"
    content = torch.load(demo_checkpoint, weights_only=False)
    torch.save({**content, "extra": RunsACommand(f"touch {canary}")}, tmp_path / "evil.pt")
    for command in (["inspect"], ["prune", "--cut", "5=30%", "-o", tmp_path / "out.pt"], ["validate", "--data", demo_data]):
        line = refusal(call(command[0], tmp_path / "evil.pt", *command[1:]))
        assert f"calls {os.system.__module__}.system" in line
        assert not canary.exists()
    assert not (tmp_path / "out.pt").exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert canary.exists(), "the trap itself must work, or this test proves nothing"


BAD_CUTS = {
    "model.6.cv9=25%": "no layer 'model.6.cv9' in this model; the nearest are model.6.cv2",
    "99=25%": "no layer '99' in this model",
    "5=0": "the amount '0' removes nothing: give more than 0",
    "5=0%": "the amount '0%' removes nothing: give more than 0",
    "5=100%": "the amount '100%' would remove every channel: give less than 100%",
    "5=150%": "the amount '150%' would remove every channel",
    "5=30": "did you mean 30%?",
    "5=-3%": "is not a number",
    "5=much": "the amount 'much' is not a number: write what to remove (30% or 0.3), what to keep (keep:205), or drop",
    "5=nan": "is not a number",
    "5": "cannot read the cut '5': write LAYER=AMOUNT",
    "=30%": "cannot read the cut",
    "5=keep:0": "the amount 'keep:0' would keep no channel: keep at least 1",
    "5=keep:129": "model.5 has 128 channels: keep:129 is more than there are",
    "5=keep:x": "is not a number of channels",
    "6.cv1=keep:91": "is cut into 2 equal parts: keep:91 does not divide; use keep:90 or keep:92",
    "0=1%": "removes nothing: it is less than one channel",
    "model.22.dfl=30%": "model.22.dfl is locked: feeds the model's predictions",
    "model.22.cv3.0.2=30%": "model.22.cv3.0.2 is locked: feeds the model's predictions",
    "model.22.cv?.?.2=30%": "names only locked layers",
}


@pytest.mark.parametrize("cut", BAD_CUTS)
def test_invalid_cut_is_refused(cut: str, call: Call, tmp_path: Path, demo_checkpoint: Path):
    assert BAD_CUTS[cut] in refusal(call("preview", demo_checkpoint, "--cut", cut, "--json"))
    assert BAD_CUTS[cut] in refusal(call("prune", demo_checkpoint, "--cut", cut, "-o", tmp_path / "out.pt"))
    assert list(tmp_path.iterdir()) == []


def test_plan_for_another_checkpoint_is_refused(call: Call, pruned: Pruned, tmp_path: Path):
    for command in (["preview"], ["prune", "-o", tmp_path / "out.pt"]):
        line = refusal(call(command[0], *FIELD_MODEL, "--plan", pruned.plan, *command[1:]))
        assert "the plan was made for digits.pt (44ccea2f7277), not for this checkpoint" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot read the plan"),
        ("", "is not a plan: it must be a mapping"),
        ("steps: [", "is not YAML in line"),
        ("checkpoint: a\nsha256: b\nsteps: [{cuts: [{layer: '5', rato: 3}]}]", "steps.0.cuts.0"),
        ("format: 9\ncheckpoint: a\nsha256: b", "has format 9; this version reads format 1"),
        ("[" * 5000, "plan.yaml"),
    ],
)
def test_file_that_is_not_a_plan_is_refused(content: str | None, expected: str, call: Call, tmp_path: Path, demo_checkpoint: Path):
    if content is not None:
        (tmp_path / "plan.yaml").write_text(content)
    assert expected in refusal(call("preview", demo_checkpoint, "--plan", tmp_path / "plan.yaml"))


def the_input(folder: Path) -> Path:
    return folder / "best.pt"


def a_link_to_the_input(folder: Path) -> Path:
    (folder / "link.pt").symlink_to(folder / "best.pt")
    return folder / "link.pt"


def an_existing_file(folder: Path) -> Path:
    (folder / "old.pt").write_bytes(b"old")
    return folder / "old.pt"


def a_file_in_a_read_only_folder(folder: Path) -> Path:
    (folder / "closed").mkdir(mode=0o500)
    return folder / "closed" / "out.pt"


AS_A_USER = pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
BAD_OUTPUTS: list[tuple[Callable[[Path], Path], list[str], str]] = [
    (the_input, [], "is the model that is being pruned"),
    (the_input, ["--force"], "is the model that is being pruned"),
    (a_link_to_the_input, ["--force"], "is the model that is being pruned"),
    (an_existing_file, [], "exists already: choose another name or give --force"),
    (lambda folder: folder / "missing" / "out.pt", [], "no folder"),
    (lambda folder: folder, ["--force"], "is a folder: add a file name"),
    (lambda folder: folder / "out.onnx", [], "does not end in .pt"),
    (lambda folder: folder / f"{'x' * 300}.pt", [], "the name is too long"),
    pytest.param(a_file_in_a_read_only_folder, [], "is read-only for you", marks=AS_A_USER),
]


@pytest.mark.parametrize(("place", "options", "expected"), BAD_OUTPUTS)
def test_unwritable_output_is_refused(place, options: list[str], expected: str, call: Call, own_checkpoint: Path):
    output = place(own_checkpoint.parent)
    with nothing_changes(own_checkpoint.parent):
        line = refusal(call("prune", own_checkpoint, "--cut", "5=30%", "-o", output, *options))
    assert expected in line


def test_unwritable_folder_is_refused(call: Call, own_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tui_pruner.frameworks.ultralytics.contents.os.access", lambda *arguments: False)
    with nothing_changes(own_checkpoint.parent):
        line = refusal(call("prune", own_checkpoint, "--cut", "5=30%", "-o", own_checkpoint.parent / "out.pt"))
    assert "is read-only for you, choose another folder" in line


@pytest.mark.parametrize(("name", "expected"), [("missing/plan.yaml", "no folder"), (".", "is a folder"), ("mine.yaml", "exists already")])
def test_unwritable_path_for_the_plan_is_refused_before_work_starts(name: str, expected: str, call: Call, own_checkpoint: Path):
    folder = own_checkpoint.parent
    (folder / "mine.yaml").touch()
    with nothing_changes(folder):
        line = refusal(call("prune", own_checkpoint, "--cut", "5=30%", "-o", folder / "out.pt", "--save-plan", folder / name))
    assert expected in line


BAD_DATA = {
    "missing.yaml": (None, "no data yaml"),
    "names-missing.yaml": ("names: [zero]\n", "has no val split"),
    "no-images.yaml": ("val: empty\nnames: [zero]\n", "holds no images"),
    "nowhere.yaml": ("val: nowhere\nnames: [zero]\n", "do not exist"),
    "nameless.yaml": ("val: scenes\n", "has neither names nor nc"),
    "listed.yaml": ("val: list.txt\nnames: [zero]\n", "is listed but does not exist"),
    "broken.yaml": ("val: [\n", "is not a data yaml"),
}


@pytest.mark.parametrize("name", BAD_DATA)
def test_unusable_data_is_refused(name: str, call: Call, tmp_path: Path, demo_checkpoint: Path, demo_data: Path):
    content, expected = BAD_DATA[name]
    (tmp_path / "empty").mkdir()
    (tmp_path / "scenes").symlink_to(demo_data.parent / "images" / "val")
    (tmp_path / "list.txt").write_text("gone.jpg\n")
    if content is not None:
        (tmp_path / name).write_text(content)
    line = refusal(call("validate", demo_checkpoint, "--data", tmp_path / name))
    assert expected in line
    assert name in line


BAD_USAGE = {
    "no such option": (["inspect", "yolov8n.yaml", "--nope"], "No such option: --nope"),
    "no model": (["inspect"], "Missing argument 'MODEL'"),
    "one too many": (["inspect", "yolov8n.yaml", "more"], "unexpected extra argument"),
    "a side of 0": (["inspect", "yolov8n.yaml", "--imgsz", "0"], "--imgsz"),
    "a side that is not a number": (["inspect", "yolov8n.yaml", "--imgsz", "wide"], "--imgsz"),
    "no output": (["prune", "yolov8n.yaml", "--cut", "5=30%"], "Missing option '-o' / '--output'"),
    "no cut": (["preview", "yolov8n.yaml"], "nothing to cut: give --cut LAYER=AMOUNT"),
    "no data": (["validate", "yolov8n.yaml"], "which data set? give --data"),
    "no images": (["validate", "yolov8n.yaml", "--images", "0"], "--images"),
    "unknown criterion": (["preview", "yolov8n.yaml", "--cut", "5=30%", "--criterion", "l3"], "unknown criterion 'l3'"),
    "unknown yaml": (["inspect", "yolov8nn.yaml"], "no such architecture; nearest: "),
    "no classes": (["inspect", "yolov8n.yaml", "--classes", "0"], "--classes"),
    "steps of no plan": (["preview", "yolov8n.yaml", "--cut", "5=30%", "--steps", "1"], "give --plan FILE too"),
    "unknown place": (["locate", "treasure"], "no place 'treasure': ask for config, state, log, cache"),
    "no terminal": (["yolov8n.yaml"], "the app needs a terminal"),
    "nothing at all": ([], "the app needs a terminal"),
}


@pytest.mark.parametrize("case", BAD_USAGE)
def test_wrong_usage_is_reported_in_one_line(case: str, call: Call):
    arguments, expected = BAD_USAGE[case]
    assert expected in refusal(call(*arguments))


def test_unexpected_error_is_one_line_and_its_traceback_is_in_the_log(call: Call, monkeypatch: pytest.MonkeyPatch, demo_checkpoint: Path):
    def stumble(*arguments: object) -> None:
        raise ZeroDivisionError("on purpose\nwith a second line")

    monkeypatch.setattr("tui_pruner.core.pruning.coverage.coupling_report", stumble)
    answer = call("groups", demo_checkpoint)
    log = call("locate", "log").out.strip()
    assert (answer.status, answer.out) == (3, "")
    said = "tui-pruner: the command failed: ZeroDivisionError: on purpose; the traceback is in"
    assert answer.remarks == [f"{said} {log}: please report it with that log"]
    assert "in stumble" in Path(log).read_text()
    monkeypatch.setenv("XDG_STATE_HOME", "/dev/null")
    assert (call("groups", demo_checkpoint).status, len(call("groups", demo_checkpoint).remarks)) == (3, 1)


OVER_AN_INPUT = {
    "the pruned model": (["prune", "orig.pt", "--cut", "5=30%", "-o", "link.pt"], "is the model that is being pruned"),
    "a plan": (["plan", "orig.pt", "--target", "flops=90%", "-o", "orig.pt"], "orig.pt is the model that is being pruned"),
    "a plan by a hard link": (
        ["steps", "orig.pt", "--cut", "5=30%", "--save-plan", "hard.pt"],
        "is the model that is being pruned",
    ),
    "a refit": (
        ["reconstruct", "small.pt", "--original", "orig.pt", "--data", "d.yaml", "-o", "link.pt"],
        "is the original of this command",
    ),
    "a training": (["finetune", "small.pt", "--teacher", "orig.pt", "--data", "d.yaml", "-o", "orig.pt"], "is the teacher of this command"),
    "the data": (["scan", "orig.pt", "--data", "d.yaml", "-o", "d.yaml"], "d.yaml is what this command reads"),
    "a recipe": (
        ["compress", "orig.pt", "--target", "flops=90%", "--write-recipe", "link.pt"],
        "is the model that is being pruned",
    ),
    "both": (["prune", "orig.pt", "--cut", "5=30%", "-o", "x.pt", "--save-plan", "x.pt"], "is to be both --output and --save-plan"),
    "another model": (["steps", "orig.pt", "--cut", "5=30%", "--save-plan", "small.pt"], "the plan small.pt would replace a model"),
}


@pytest.mark.parametrize("case", OVER_AN_INPUT)
def test_input_is_never_overwritten_under_any_name_even_with_force(
    case: str, call: Call, pruned: Pruned, own_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    arguments, expected = OVER_AN_INPUT[case]
    monkeypatch.chdir(tmp_path)
    own_checkpoint.rename("orig.pt")
    os.link("orig.pt", "hard.pt")
    Path("link.pt").symlink_to("orig.pt")
    Path("small.pt").write_bytes(pruned.file.read_bytes())
    Path("d.yaml").write_text("val: .\nnames: [zero]\n")
    with nothing_changes(tmp_path):
        assert expected in refusal(call(*arguments, "--force"))
    assert Path("link.pt").is_symlink() and Path("hard.pt").samefile("orig.pt")


def test_origin_of_a_file_is_not_overwritten_though_the_command_does_not_name_it(
    call: Call, pruned: Pruned, own_checkpoint: Path, demo_data: Path, tmp_path: Path
):
    with nothing_changes(tmp_path):
        answer = call("recalibrate", pruned.file, "--data", demo_data, "--images", 2, "-o", own_checkpoint, "--force")
    (line,) = [line for line in answer.remarks if line.startswith("tui-pruner: ")]
    assert answer.status == 2
    assert "was made from, which stays as it is" in line


def test_gate_reports_do_not_replace_models_and_recipes_need_force(
    call: Call, pruned: Pruned, own_checkpoint: Path, demo_data: Path, tmp_path: Path
):
    (tmp_path / "r.yaml").write_text("mine")
    (tmp_path / "old.pt").write_bytes(b"PK")
    with nothing_changes(tmp_path):
        gate = call("gate", pruned.file, "--against", own_checkpoint, "--data", demo_data, "--markdown", tmp_path / "old.pt")
        assert "would replace a model" in refusal(gate)
        assert "exists already" in refusal(call("compress", own_checkpoint, "--target", "flops=90%", "--write-recipe", tmp_path / "r.yaml"))
