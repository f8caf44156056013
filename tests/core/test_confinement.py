"""While a file is read: no connection, no program, and no more memory than such a file can need."""

from __future__ import annotations

import resource
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch

from tests.bad_files import DIGITS
from tests.faults.archives import write_pickle
from tui_pruner.domain.errors import CheckpointError
from tui_pruner.frameworks.ultralytics import read_checkpoint
from tui_pruner.frameworks.ultralytics.reading import look_into
from tui_pruner.frameworks.ultralytics.security import archive
from tui_pruner.frameworks.ultralytics.security.archive import Confined, available_memory, confined, limited_memory
from tui_pruner.frameworks.ultralytics.security.pickle_scan import RefusedPickle, survey

linux = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the kernel tells no figures")


def test_confined_thread_opens_no_connection_and_starts_no_program_while_others_can():
    programs: list[int] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with confined():
            with pytest.raises(Confined, match="socket"):
                socket.create_connection(listener.getsockname())
            with pytest.raises(Confined, match=r"subprocess\.Popen"):
                subprocess.run([sys.executable, "-c", ""], check=True)
            other = threading.Thread(target=lambda: programs.append(subprocess.run([sys.executable, "-c", ""], check=False).returncode))
            other.start()
            other.join()
        socket.create_connection(listener.getsockname()).close()
    assert programs == [0]


def test_trusted_file_may_start_programs_but_not_connect():
    with confined(trusted=True):
        assert subprocess.run([sys.executable, "-c", ""], check=True).returncode == 0
        with pytest.raises(Confined):
            socket.create_connection(("127.0.0.1", 9))


@linux
def test_memory_is_limited_only_while_a_file_is_read():
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with limited_memory(0), pytest.raises(RuntimeError, match="allocate memory"):
        torch.zeros(3 << 30, dtype=torch.uint8)
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert torch.zeros(8 << 20).sum() == 0


@linux
def test_file_that_needs_more_memory_than_is_free_is_refused_before_loading(monkeypatch: pytest.MonkeyPatch):
    assert (available_memory() or 0) > 1 << 20
    monkeypatch.setattr(archive, "available_memory", lambda: 10_000_000)
    with pytest.raises(CheckpointError, match=r"needs about 0\.0 GB of memory to be read, 0\.0 GB are free"):
        read_checkpoint(DIGITS)


def test_survey_of_a_valid_checkpoint_lists_its_classes_and_counts_its_values():
    contents = look_into(DIGITS)
    assert contents.refusal == "" and contents.members == 365
    assert "ultralytics.nn.modules.head.Detect" in contents.survey.names and "posix.system" not in contents.survey.names
    assert sum(storage.numbers for storage in contents.survey.storages) >= 3_012_798


@pytest.mark.parametrize(
    ("body", "refusal"),
    [
        (b"cos\nsystem\n(X\x01\0\0\0xtR", "calls os.system"),
        (b"c__builtin__\neval\n)R", "calls builtins.eval"),
        (b"cultralytics.nn.tasks\nDetectionModel\n)R", "calls ultralytics.nn.tasks.DetectionModel"),
        (b"cbuiltins\ngetattr\nctorch.nn.modules.linear\nLinear\nX\x04\0\0\0load\x86R)R", "calls what builtins.getattr gave"),
        (b"cnumpy\ndtype\nX\x01\0\0\0O\x85R", "calls numpy.dtype with what no stock model gives it"),
        (b"cnumpy\ndtype\nX\x02\0\0\0f8\x85R(K\x03X\x01\0\0\0<K\x01NNtb", "describes numbers as structures"),
        (b"})N\x86Ns", "has keys in its dictionaries"),
        (b"c_codecs\nencode\nX\x01\0\0\0xX\x03\0\0\0zip\x86R", "calls _codecs.encode with"),
    ],
)
def test_pickle_calls_that_no_stock_model_has_are_refused(body: bytes, refusal: str):
    with pytest.raises(RefusedPickle, match=refusal.replace(".", r"\.")):
        survey(b"\x80\x02" + body + b".")


def test_names_in_a_refused_file_are_listed(tmp_path: Path):
    write_pickle(tmp_path / "evil.pt", b"}X\x01\0\0\0acos\nsystem\n)Rs")
    contents = look_into(tmp_path / "evil.pt")
    assert contents.refusal == "calls os.system" and contents.survey.names == ("os.system",)
