"""Files that are no usable checkpoint, made on the spot, each with the words that its refusal must hold."""

from __future__ import annotations

import os
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from tui_pruner.storage import paths

DIGITS = paths.demo_folder() / "digits.pt"


def empty(path: Path) -> None:
    path.write_bytes(b"")


def truncated(path: Path) -> None:
    path.write_bytes(DIGITS.read_bytes()[:1_000_000])


def random_bytes(path: Path) -> None:
    path.write_bytes(b"#" + random.Random(0).randbytes(5000))


def bare_pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps({"weights": [1, 2]}))


def foreign_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("notes.txt", "hello")


def torchscript(path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)).save(str(path))


NOT_CHECKPOINTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty.pt": (empty, "is empty"),
    "truncated.pt": (truncated, "is truncated"),
    "random.pt": (random_bytes, "is not a PyTorch checkpoint"),
    "image.pt": (lambda path: path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"0" * 64), "is a PNG image"),
    "pointer.pt": (lambda path: path.write_bytes(b"version https://git-lfs/spec/v1\noid sha256:0"), "git lfs pull"),
    "pickle.pt": (bare_pickle, "is a bare pickle"),
    "old.pt": (lambda path: torch.save({"a": 1}, path, _use_new_zipfile_serialization=False), "format before 1.6"),
    "foreign.pt": (foreign_zip, "holds no PyTorch checkpoint"),
    "script.pt": (torchscript, "is a TorchScript export"),
    "model.onnx": (lambda path: path.write_bytes(b"no matter what"), "is an ONNX export"),
    "renamed-onnx.pt": (lambda path: path.write_bytes(b"\x08\x09\x12\x07pytorch\x1a\x05"), "is an ONNX export"),
    "folder.pt": (lambda path: path.mkdir(), "is a folder"),
    "missing.pt": (lambda path: None, "no such file"),
    "list.pt": (lambda path: torch.save([1, 2], path), "is not a checkpoint that Ultralytics saved"),
    "numbers.pt": (lambda path: torch.save({"epoch": 3}, path), "holds no model"),
    "linear.pt": (lambda path: torch.save({"model": nn.Linear(2, 2)}, path), "holds a Linear"),
}


def start_of(member: zipfile.ZipInfo, content: bytearray) -> int:
    """Where a member's bytes begin: behind its local header, whose name and extra field have their lengths in it."""
    header = member.header_offset
    return (
        header
        + 30
        + int.from_bytes(content[header + 26 : header + 28], "little")
        + int.from_bytes(content[header + 28 : header + 30], "little")
    )


def flip_one_bit(path: Path, seed: int) -> None:
    """The bundled checkpoint with one bit changed somewhere in its contents."""
    content = bytearray(DIGITS.read_bytes())
    with zipfile.ZipFile(DIGITS) as archive:
        members = [member for member in archive.infolist() if member.file_size]
    member = random.Random(seed).choice(members)
    content[start_of(member, content) + random.Random(seed).randrange(member.file_size)] ^= 1 << seed % 8
    path.write_bytes(content)


class RunsACommand:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)
