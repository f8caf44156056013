"""A file that runs code of its own is loaded for anyone who names its SHA-256, in that call alone; the app remembers what was typed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from tests.bad_files import DIGITS, RunsACommand
from tests.cli.conftest import spawn
from tui_pruner.domain.errors import RequestError, UntrustedError
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.storage import paths
from tui_pruner.storage.trust import VARIABLE, begins, fingerprint, is_trusted, remember, remembered, trust, trust_remembered


@pytest.fixture(autouse=True)
def nothing_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")


@pytest.fixture
def own_code(tmp_path: Path) -> Path:
    """The bundled checkpoint with a command that leaves a canary beside it."""
    content = torch.load(DIGITS, map_location="cpu", weights_only=False)
    torch.save({**content, "extra": RunsACommand(f"touch {tmp_path / 'canary'}")}, tmp_path / "own.pt")
    return tmp_path / "own.pt"


@pytest.mark.parametrize(
    ("typed", "right"), [("0123abcd", True), (" 0123ABCD ", True), ("0123abc", False), ("123abcde", False), ("", False)]
)
def test_trust_needs_the_first_eight_digits(typed: str, right: bool):
    assert begins(typed, "0123abcd" + "0" * 56) is right


def test_text_that_is_not_a_sha256_is_refused():
    with pytest.raises(RequestError, match="at least the first 8"):
        trust(["0123"])


def test_remembered_trust_is_stored_and_a_damaged_file_is_empty():
    first, second = "1" * 64, "2" * 64
    remember(first)
    remember(second)
    remember(first)
    assert remembered() == (second, first)
    paths.trust_file().write_text(f"rubbish\n{first[:10]}\n{second} a note\n\x00")
    assert remembered() == (second,)
    paths.trust_file().write_bytes(b"\xff\xfe")
    assert remembered() == ()


def test_trusted_file_is_loaded_and_a_changed_one_is_not(own_code: Path):
    with pytest.raises(UntrustedError, match=r"calls posix\.system.*--trust"):
        read_checkpoint(own_code)
    assert not own_code.with_name("canary").exists()
    trust([fingerprint(own_code)[:8]])
    assert read_checkpoint(own_code).classes == 10
    assert own_code.with_name("canary").exists()
    own_code.write_bytes(own_code.read_bytes() + b"\0")
    assert not is_trusted(fingerprint(own_code))


def test_script_trusts_only_the_files_it_names(own_code: Path, monkeypatch: pytest.MonkeyPatch):
    sha256 = fingerprint(own_code)
    remember(sha256)
    trust_remembered()
    assert VARIABLE in os.environ and is_trusted(sha256)
    refused = spawn("inspect", own_code)
    assert refused.status == 2 and "calls posix.system" in refused.err and not own_code.with_name("canary").exists()
    assert spawn("inspect", own_code, "--trust", sha256).status == 0
    assert own_code.with_name("canary").exists()
