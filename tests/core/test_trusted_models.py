"""A model with modules of its user's is cut, proved and written like any other once it is trusted, and trust reaches no further."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.own_modules import MODULE, own_checkpoint, own_modules, trusted
from tui_pruner.core.model.analysis import analyse, smallest_input, trace_checkpoint
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.pruning.proof import prove_file
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing import adapters, cache
from tui_pruner.core.tracing.cache import code_of
from tui_pruner.domain.cuts import parse_request
from tui_pruner.domain.errors import OutputError, UntrustedError, VerificationError
from tui_pruner.frameworks.ultralytics import WrittenFile, read_checkpoint, write_checkpoint
from tui_pruner.frameworks.ultralytics.security.allowed_names import code_of_file
from tui_pruner.storage.trust import VARIABLE

NAMES = [f"{MODULE}.Excite", f"{MODULE}.Excited", f"{MODULE}.OwnModel"]


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setenv(VARIABLE, "")
    with own_modules(tmp_path) as module:
        yield module


@pytest.fixture
def own(user: Any, tmp_path: Path) -> Path:
    return own_checkpoint(tmp_path, user)


def write_pruned(checkpoint: Checkpoint, file: Path, harm: Any = None) -> WrittenFile:
    analysis = analyse(checkpoint, imgsz=64)
    session = PruningSession(analysis)
    session.apply([parse_request("model.4.block.cv2=50%")])
    pruned = cut(checkpoint.model, analysis.coupling, session.removal)
    if harm is not None:
        harm(pruned)
    plan, kept = session.plan.plain(), session.removal.kept(analysis.coupling)
    return write_checkpoint(pruned, checkpoint, file, plan=plan, kept=kept, proof={"equal": True})


def test_trusted_model_is_written_with_its_classes_and_needs_trust_again(own: Path, tmp_path: Path):
    checkpoint = read_checkpoint(trusted(own))
    assert checkpoint.trusted and list(checkpoint.own_names) == NAMES
    assert any(f"takes {', '.join(NAMES)} from other modules" in line for line in checkpoint.warnings)
    written = write_pruned(checkpoint, tmp_path / "pruned.pt")
    assert list(written.own_names) == NAMES
    details = {check.name: check.detail for check in written.checks}
    assert details["known classes only"].endswith("3 of them beyond Ultralytics' own list")
    with pytest.raises(
        UntrustedError, match=f"names {', '.join(NAMES)}, which Ultralytics' own files do not.*--trust {written.sha256[:16]}"
    ):
        read_checkpoint(tmp_path / "pruned.pt")
    again = read_checkpoint(trusted(tmp_path / "pruned.pt"))
    assert again.provenance is not None
    assert again.provenance["trusted"] == {"name": "own.pt", "sha256": checkpoint.sha256, "names": NAMES}
    excite = again.model.get_submodule("model.4.excite")
    before = checkpoint.model.get_submodule("model.4.excite.down").in_features
    assert excite.down.in_features == excite.up.out_features == before // 2
    assert prove_file(checkpoint, again).equal


def test_reload_check_needs_the_users_modules_where_they_were_found(own: Path, user: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    checkpoint = read_checkpoint(trusted(own))
    with monkeypatch.context() as elsewhere, pytest.raises(VerificationError, match=r"'loads in Ultralytics'.*user_blocks"):
        elsewhere.setattr(sys, "path", [path for path in sys.path if not (Path(path) / "user_blocks.py").exists()])
        write_pruned(checkpoint, tmp_path / "pruned.pt")
    assert not (tmp_path / "pruned.pt").exists()


class Another(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def with_another(model: Any) -> None:
    model.model[0].act = Another()


def test_class_that_the_original_does_not_name_is_not_written(own: Path, tmp_path: Path):
    with pytest.raises(VerificationError, match=r"'known classes only' \(it names tests\.core\.test_trusted_models\.Another\)"):
        write_pruned(read_checkpoint(trusted(own)), tmp_path / "pruned.pt", with_another)
    assert not (tmp_path / "pruned.pt").exists()


def test_trust_in_one_file_does_not_extend_to_others_with_the_same_classes(own: Path, tmp_path: Path):
    read_checkpoint(trusted(own))
    other = tmp_path / "other.pt"
    torch.save({**torch.load(own, weights_only=False), "date": "another day"}, other)
    with pytest.raises(UntrustedError, match=f"names {NAMES[0]}"):
        read_checkpoint(other)


def test_unwritable_model_is_reported_on_opening_and_refused_before_work_starts(user: Any, tmp_path: Path):
    checkpoint = read_checkpoint(trusted(own_checkpoint(tmp_path, user, "Restless")))
    assert "lambda" in checkpoint.unwritable
    (said,) = [line for line in checkpoint.warnings if "nothing that is made from it can be written" in line]
    assert "lambda" in said
    with pytest.raises(OutputError, match=r"nothing that is made from .*own\.pt can be written .*lambda"):
        write_pruned(checkpoint, tmp_path / "pruned.pt")
    assert not (tmp_path / "pruned.pt").exists()


def test_changed_user_code_invalidates_cached_results(own: Path, tmp_path: Path):
    checkpoint = read_checkpoint(trusted(own))
    shape = smallest_input(checkpoint.model)
    before = cache.file_of(cache.key_of(checkpoint.sha256, shape, code_of(checkpoint.own_names)))
    assert code_of_file(own) == code_of(checkpoint.own_names) != ""
    analyse(checkpoint, imgsz=64)
    assert before.is_file()
    source = tmp_path / f"{MODULE}.py"
    source.write_text(source.read_text() + "\n# changed\n")
    after = cache.file_of(cache.key_of(checkpoint.sha256, shape, code_of(checkpoint.own_names)))
    assert after != before and not after.exists()


def test_map_is_neither_stored_nor_loaded_while_the_program_has_an_adapter_of_its_own(
    own: Path, user: Any, monkeypatch: pytest.MonkeyPatch
):
    checkpoint = read_checkpoint(trusted(own))
    file = cache.file_of(cache.key_of(checkpoint.sha256, smallest_input(checkpoint.model), code_of(checkpoint.own_names)))
    file.unlink(missing_ok=True)
    with monkeypatch.context() as registered:
        registered.setitem(adapters.OWN, user.Excite, lambda module, kept: None)
        trace_checkpoint(checkpoint)
        assert not file.exists()
        registered.setitem(adapters.FROM_PACKAGES, user.Excite, adapters.OWN[user.Excite])
        assert not adapters.adapted_by_program(checkpoint.model, with_packages=False)
    stored = trace_checkpoint(checkpoint)[1]
    assert file.is_file() and trace_checkpoint(checkpoint)[1].seconds == stored.seconds
    monkeypatch.setitem(adapters.OWN, user.Excite, lambda module, kept: None)
    assert trace_checkpoint(checkpoint)[1].seconds != stored.seconds


def test_model_with_only_ultralytics_classes_depends_on_no_other_code(demo_checkpoint: Path):
    assert code_of_file(demo_checkpoint) == ""
