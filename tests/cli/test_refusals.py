"""A file that nothing here can load says which name is missing and where it is looked for, and is not offered trust; others are."""

from __future__ import annotations

import pickle
import re
import sys
from collections import OrderedDict
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from tests.cli.conftest import Call
from tests.faults.archives import PICKLE, members_of, write_archive
from tests.own_modules import MODULE, own_checkpoint, own_modules
from tui_pruner.__main__ import run
from tui_pruner.domain.errors import CheckpointError, UntrustedError
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.frameworks.ultralytics.security.archive import names_in
from tui_pruner.storage.trust import VARIABLE, fingerprint, trust

Rename = tuple[bytes, bytes]


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")


def renamed(demo_checkpoint: Path, file: Path, before: Rename, after: Rename) -> Path:
    """The bundled checkpoint with another name of a module in it."""
    members = members_of(demo_checkpoint)
    old, new = (b"c" + module + b"\n" + name + b"\n" for module, name in (before, after))
    assert old in members[PICKLE]
    write_archive(file, {**members, PICKLE: members[PICKLE].replace(old, new)})
    return file


def refusal(file: Path) -> CheckpointError:
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(file)
    assert "\n" not in str(caught.value) and file.name in str(caught.value)
    return caught.value


MODEL, BLOCK = (b"ultralytics.nn.tasks", b"DetectionModel"), (b"ultralytics.nn.modules.block", b"Bottleneck")
LOST: dict[str, tuple[Rename, Rename, str]] = {
    "a script's own class": (
        MODEL, (b"__main__", b"WeightedDetectionModel"),
        r"names __main__\.WeightedDetectionModel, which the script that saved it defined.*model\.__class__ = DetectionModel",
    ),
    "a fork's class": (
        BLOCK, (b"ultralytics.nn.modules.block", b"CoordAtt"),
        r"names ultralytics\.nn\.modules\.block\.CoordAtt, which ultralytics 8\.\S+ does not have: .*PYTHONPATH",
    ),
    "a fork's module": (
        BLOCK, (b"ultralytics.nn.modules.attention", b"CBAM"),
        r"names ultralytics\.nn\.modules\.attention\.CBAM, which ultralytics 8\.\S+ does not have",
    ),
    "another version of torch": (
        (b"torch.nn.modules.activation", b"SiLU"), (b"torch.nn.modules.activation", b"Swish"),
        r"names torch\.nn\.modules\.activation\.Swish, which torch \S+ does not have",
    ),
    "a module that is nowhere": (
        BLOCK, (b"my_blocks.attention", b"Coord"),
        r"names my_blocks\.attention\.Coord, and no module my_blocks here: it is looked for on PYTHONPATH",
    ),
    "YOLOv5's repository": (
        MODEL, (b"models.yolo", b"DetectionModel"),
        r"saved by the code of another repository \(it names models\.yolo\.DetectionModel\).*which Ultralytics cannot open",
    ),
    "odd names": (BLOCK, (b"..\x01/x", b"Coord"), "no module"),
}  # fmt: skip


@pytest.mark.parametrize("kind", LOST)
def test_missing_name_is_reported_without_an_offer_of_trust(kind: str, demo_checkpoint: Path, tmp_path: Path, call: Call):
    before, after, expected = LOST[kind]
    file = renamed(demo_checkpoint, tmp_path / "lost.pt", before, after)
    error = refusal(file)
    assert not isinstance(error, UntrustedError) and "--trust" not in str(error)
    assert re.search(expected, str(error)), str(error)
    told = call("contents", file)
    assert told.status == 1 and str(error) in told.out and "--trust" not in told.out
    trust([fingerprint(file)])
    assert str(refusal(file)) == str(error)


def test_importable_module_is_named_with_an_offer_to_trust_it(tmp_path: Path, call: Call):
    (tmp_path / "user").mkdir()
    with own_modules(tmp_path / "user") as user:
        file = own_checkpoint(tmp_path, user)
        sys.modules.pop(MODULE)
        error = refusal(file)
        assert isinstance(error, UntrustedError) and f"names {MODULE}.Excite, " in str(error)
        assert MODULE not in sys.modules, "a file that is not trusted must not have modules imported"
        told = call("contents", file)
        assert told.status == 1 and f"with --trust {fingerprint(file)[:8]} it is" in told.out
    elsewhere = refusal(file)
    assert not isinstance(elsewhere, UntrustedError) and f"no module {MODULE} here" in str(elsewhere)


def test_module_that_lost_the_class_is_named_with_its_file(tmp_path: Path):
    (tmp_path / "user").mkdir()
    with own_modules(tmp_path / "user") as user:
        file = own_checkpoint(tmp_path, user)
    with own_modules(tmp_path / "user", "x = 1\n"):
        trust([fingerprint(file)])
        assert f"{MODULE}.OwnModel, which {tmp_path / 'user' / MODULE}.py does not define" in str(refusal(file))


def test_missing_import_of_a_users_module_is_named(tmp_path: Path):
    (tmp_path / "user").mkdir()
    with own_modules(tmp_path / "user") as user:
        file = own_checkpoint(tmp_path, user)
    (tmp_path / "user" / f"{MODULE}.py").write_text("import no_such_package\n")
    sys.path.insert(0, str(tmp_path / "user"))
    trust([fingerprint(file)])
    try:
        assert "needs a module that is not installed here (No module named 'no_such_package'): install it first" in str(refusal(file))
    finally:
        sys.path.remove(str(tmp_path / "user"))


@pytest.mark.parametrize("command", [["inspect"], ["preview", "--cut", "model.4.cv2=25%"], ["contents"]])
def test_contents_and_inspect_refuse_the_same_files(command: list[str], demo_checkpoint: Path, tmp_path: Path):
    file = renamed(demo_checkpoint, tmp_path / "lost.pt", *LOST["a fork's class"][:2])
    assert run([command[0], str(file), *command[1:]]) != 0
    assert run([command[0], str(demo_checkpoint), *command[1:]]) == 0


def test_pruning_masks_in_a_file_need_no_trust(demo_checkpoint: Path, tmp_path: Path):
    content = torch.load(demo_checkpoint, map_location="cpu", weights_only=False)
    for module in content["model"].float().modules():
        if isinstance(module, nn.Conv2d) and module.out_channels == 32:
            prune.ln_structured(module, "weight", 0.5, 2, 0)  # type: ignore[no-untyped-call]
    torch.save(content, tmp_path / "masked.pt")
    checkpoint = read_checkpoint(tmp_path / "masked.pt")
    assert not checkpoint.trusted and checkpoint.own_names == ()
    assert any("torch.nn.utils.prune.remove(module, 'weight')" in line for line in checkpoint.warnings)
    assert "torch.nn.utils.prune.LnStructured" in torch.serialization.get_unsafe_globals_in_checkpoint(tmp_path / "masked.pt")


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_names_are_found_in_pickles_of_every_protocol(protocol: int):
    again = Fraction(1, 2)
    found = names_in(pickle.dumps([OrderedDict(), again, Decimal(1), OrderedDict(), {"Decimal": again}, Decimal(2), Fraction], protocol))
    assert found == ("collections.OrderedDict", "decimal.Decimal", "fractions.Fraction")
