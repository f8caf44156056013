"""The Python API: what the commands do, in a script."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import tui_pruner as tp
from tests.deadlines import HANGING
from tests.faults.nth_call import quick_verification
from tui_pruner.domain.errors import PlanError, ProofError
from tui_pruner.frameworks.ultralytics import read_checkpoint

LAYER = "model.6.m.0.cv1"


@pytest.fixture(scope="module")
def opened(demo_checkpoint: Path) -> tp.Session:
    return tp.open(demo_checkpoint, imgsz=64)


@pytest.fixture
def session(opened: tp.Session) -> tp.Session:
    while opened.steps:
        opened.undo()
    return opened


def test_package_imports_no_torch_and_names_missing_attributes():
    code = "import sys, tui_pruner; print(sorted({'torch', 'ultralytics', 'textual'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=HANGING)
    assert done.stdout == "[]\n"
    with pytest.raises(AttributeError, match="no attribute 'prune'"):
        tp.prune  # noqa: B018


def test_attributes_of_the_package_are_listed():
    assert {"open", "load", "apply_plan", "compress", "PrunerError"} <= set(dir(tp)) and "annotations" not in dir(tp)


@pytest.mark.parametrize("options", [{"approximate": True}, {"loss": max}, {"evaluate": max}, {"forward": max}, {"adapters": {int: max}}])
def test_options_for_modules_are_refused_for_a_file(options: dict[str, Any], demo_checkpoint: Path):
    with pytest.raises(tp.RequestError, match=f"{next(iter(options))}: for a module only"):
        tp.open(demo_checkpoint, **options)


MODULE = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 1), torch.nn.ReLU(), torch.nn.Conv2d(8, 4, 1))
IMAGE = torch.rand(1, 3, 8, 8)
NO_OPENINGS: list[tuple[dict[str, Any], str]] = [
    ({"example_inputs": 3}, "example_inputs is a int"),
    ({"example_inputs": (IMAGE,), "kwargs": 3}, "kwargs is a int"),
    ({"example_inputs": (IMAGE,), "adapters": 3}, "adapters are a int"),
    ({"example_inputs": (IMAGE,), "evaluate": 3}, "evaluate is a int: give a function"),
    ({"example_inputs": (IMAGE,), "loss": 3}, "loss is a int: give a function"),
    ({"example_inputs": (IMAGE,), "imgsz": 64}, "imgsz: for a file of Ultralytics only"),
    ({"example_inputs": (IMAGE,), "classes": 3}, "classes: for a file of Ultralytics only"),
    ({"example_inputs": (IMAGE,), "trust": 5}, "trust is a int"),
    ({"example_inputs": (IMAGE,), "approximate": "no"}, "approximate is 'no': give True or False"),
]


@pytest.mark.parametrize(("options", "message"), NO_OPENINGS)
def test_invalid_options_for_opening_a_module_are_refused(options: dict[str, Any], message: str):
    with pytest.raises(tp.RequestError, match=message):
        tp.open(MODULE, **options)


@pytest.mark.parametrize("imgsz", [0, -32, "64", True])
def test_invalid_image_size_is_refused(imgsz: Any, demo_checkpoint: Path):
    with pytest.raises(tp.RequestError, match=r"imgsz is [^:]+: give a whole number from 1"):
        tp.open(demo_checkpoint, imgsz=imgsz)


WRONG: list[tuple[Callable[[tp.Session], Any], str]] = [
    (lambda session: session.preview([f"{LAYER}=30%"], round_to=0), "round_to is 0"),
    (lambda session: session.apply([f"{LAYER}=30%"], round_to=1.5), "round_to is 1.5"),  # type: ignore[arg-type]
    (lambda session: session.apply([f"{LAYER}=30%"], criterion=None), "are texts, not NoneType"),  # type: ignore[arg-type]
    (lambda session: session.preview([f"{LAYER}=30%"], round_to=None), "round_to is None"),  # type: ignore[arg-type]
    (lambda session: session.preview(["10=30%"]), r"no layer '10' in this model; a block such as a Concat .* see layers\(\)"),
    (lambda session: session.apply([f"{LAYER}=30%", f"{LAYER}=40%"]), f"{LAYER} is asked for 30% and for 40%: give one amount"),
    (lambda session: session.apply([f"{LAYER}=30%"], criterion="taylor"), "call target with this criterion and data="),
    (lambda session: session.front(["flops=50%"], "data.yaml", images=0), "images is 0"),
    (lambda session: session.explain(3), "are texts, not int"),  # type: ignore[arg-type]
    (lambda session: session.explain(LAYER, 3), "are texts, not int"),  # type: ignore[arg-type]
    (lambda session: session.target("latency=50%"), "a latency is found by timing"),
    (lambda session: session.target("flops=50%", data=3), "a data set is named by a path"),
    (lambda session: session.front(3, "data.yaml"), "are texts, not int|no data yaml"),  # type: ignore[arg-type]
    (lambda session: session.load(3), "a plan is named by a path"),  # type: ignore[arg-type]
    (lambda session: session.save(3), "the pruned model is named by a path"),  # type: ignore[arg-type]
    (lambda session: session.mask(3), "the masked model is named by a path"),  # type: ignore[arg-type]
    (lambda session: tp.apply_plan(MODULE, 3), "a plan is named by a path"),  # type: ignore[arg-type]
    (lambda session: session.save("a\0b"), "a path has no zero byte"),
    (lambda session: tp.adapter()(max), "an adapter is for classes"),
    (lambda session: tp.load(3, MODULE), "what was saved is named by a path"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("call", "message"), WRONG)
def test_argument_of_a_wrong_type_is_an_error_of_this_package(call: Callable[[tp.Session], Any], message: str, session: tp.Session):
    with pytest.raises(tp.PrunerError, match=message) as caught:
        call(session)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"), [({"epoch": 3}, "compress has no option epoch"), ({"epochs": "x"}, "epochs: "), ({"epochs": -1}, "epochs")]
)
def test_options_of_a_compression_are_checked_first(options: dict[str, Any], message: str, demo_checkpoint: Path, tmp_path: Path):
    with pytest.raises(tp.RequestError, match=message):
        tp.compress(demo_checkpoint, data="digits.yaml", target="flops=50%", folder=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_a_refit_does_not_replace_the_original(demo_checkpoint: Path, tmp_path: Path):
    own = tmp_path / "own.pt"
    own.write_bytes(demo_checkpoint.read_bytes())
    opened = tp.open(own, imgsz=64)
    opened.apply([f"{LAYER}=25%"])
    opened.reconstruct([torch.rand(1, 3, 64, 64)])
    with pytest.raises(tp.OutputError, match=r"own\.pt is the model that is being pruned"):
        opened.save(own, force=True)
    assert own.read_bytes() == demo_checkpoint.read_bytes()


def test_error_about_an_existing_file_names_the_argument_for_scripts(session: tp.Session, tmp_path: Path):
    session.apply([f"{LAYER}=25%"])
    (tmp_path / "small.pt").touch()
    with pytest.raises(tp.OutputError, match="give force=True"):
        session.save(tmp_path / "small.pt")


def test_preview_changes_nothing_and_a_step_has_the_previewed_size(session: tp.Session):
    whole = session.size
    preview = session.preview([f"{LAYER}=25%", "model.8.m.0=drop"])
    assert preview.layers[LAYER] == ((64, 64), (64, 48)) and preview.layers["model.8.m.0.cv1"][1] == (0, 0)
    assert preview.conflicts == () and preview.before == whole == session.size
    assert "<td>64 -&gt; 48</td>" in preview._repr_html_()
    session.apply([f"{LAYER}=25%", "model.8.m.0=drop"])
    assert session.size == preview.after and session.layers()[LAYER].out_channels == 48
    assert len(session.kept()[f"{LAYER}.conv.weight"]["0"]) == 48
    proof = session.prove()
    assert proof.equal and proof.effect > 0
    session.undo()
    assert session.size == whole and session.steps == []
    session.redo()
    assert len(session.steps) == 1


def test_model_is_independent_of_the_session(session: tp.Session):
    session.apply([f"{LAYER}=25%"])
    model = session.model()
    before = session.checkpoint.model.state_dict()["model.0.conv.weight"].clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert torch.equal(session.checkpoint.model.state_dict()["model.0.conv.weight"], before)
    assert bool(session.model().state_dict()["model.0.conv.weight"].any())


def test_groups_have_statuses_and_locked_ones_a_reason(session: tp.Session):
    groups = session.groups()
    statuses = {group.status for group in groups}
    assert {"free", "linked", "locked"} <= statuses
    assert all(group.reason for group in groups if group.status == "locked")
    assert session.explain("model.2", "model.3").coupled
    assert "<th>layers</th>" in groups._repr_html_()


def test_target_becomes_a_step_and_an_unreachable_one_is_reported(session: tp.Session):
    whole = session.size.flops
    session.target("flops=80%")
    assert 0.78 < session.size.flops / whole <= 0.801
    with pytest.raises(tp.PrunerError, match="out of reach"):
        session.target("flops=1%")
    with pytest.raises(tp.RequestError, match="no layer"):
        session.apply(["nowhere=30%"])
    with pytest.raises(PlanError, match="made for"):
        session.load({"checkpoint": "other.pt", "sha256": "0" * 64, "steps": []})


def test_refit_comes_closer_to_the_original_and_is_saved_as_a_stage(session: tp.Session, tmp_path: Path):
    with pytest.raises(tp.RequestError, match="apply a step first"):
        session.reconstruct([torch.rand(1, 3, 64, 64)])
    session.apply(["6=50%"])
    generator = torch.Generator().manual_seed(0)
    found = session.reconstruct([torch.rand(4, 3, 64, 64, generator=generator)], [torch.rand(2, 3, 64, 64, generator=generator)])
    assert found.distance[found.kept] == min(found.distance.values()) <= found.distance["cut"]
    with quick_verification():
        written = session.save(tmp_path / "small.pt")
    checkpoint = read_checkpoint(written)
    assert [stage["kind"] for stage in checkpoint.provenance["stages"]][-1] == "reconstruct"
    stored, made = checkpoint.model.state_dict()["model.0.conv.weight"], session.model().state_dict()["model.0.conv.weight"]
    assert torch.allclose(stored, made, atol=1e-2)


def test_unproved_model_is_not_returned(session: tp.Session, monkeypatch: pytest.MonkeyPatch):
    session.apply([f"{LAYER}=25%"])
    failed = dataclasses.replace(session.prove(), equal=False, failure="of a test")
    monkeypatch.setattr(type(session._steps), "prove", lambda self, applied: failed)
    with pytest.raises(ProofError, match="is not proved"):
        session.model()


def test_mask_keeps_all_shapes_and_flow_has_the_remaining_widths(session: tp.Session, tmp_path: Path):
    session.apply(["6=25%"])
    assert [block.reads for block in session.flow()][11:13] == [352, 352]
    with quick_verification():
        file = session.mask(tmp_path / "masked.pt")
    whole, masked = session.checkpoint.model.state_dict(), read_checkpoint(file).model.state_dict()
    assert {name: tensor.shape for name, tensor in whole.items()} == {name: tensor.shape for name, tensor in masked.items()}
    zeros = (masked["model.6.cv2.conv.weight"] == 0).all(dim=(1, 2, 3)).sum()
    assert int(zeros) == 32 and not (whole["model.6.cv2.conv.weight"] == 0).all(dim=(1, 2, 3)).any()
