"""Taking checkpoint files apart and putting them together again, differently."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

FOLDER = "archive"
PICKLE = f"{FOLDER}/data.pkl"
HEADER = b"\x80\x02"
EMPTY_HOOKS = b"ccollections\nOrderedDict\n)R"


def members_of(path: Path) -> dict[str, bytes]:
    """What is in an archive, its folder called `archive`."""
    with zipfile.ZipFile(path) as archive:
        return {f"{FOLDER}/{name.partition('/')[2]}": archive.read(name) for name in archive.namelist()}


def write_archive(path: Path, members: Mapping[str, bytes] | Iterable[tuple[str, bytes]], compression: int = zipfile.ZIP_STORED) -> None:
    """An archive of these members, with right checksums."""
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items() if isinstance(members, Mapping) else members:
            archive.writestr(name, content)


def write_pickle(path: Path, body: bytes, storages: Mapping[str, bytes] = {}) -> None:
    """A checkpoint whose pickle is this body, between its header and its end."""
    data = {f"{FOLDER}/data/{key}": content for key, content in storages.items()}
    write_archive(path, {PICKLE: HEADER + body + b".", f"{FOLDER}/byteorder": b"little", **data, f"{FOLDER}/version": b"3\n"})


def text(value: str) -> bytes:
    """A string, pickled."""
    encoded = value.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def number(value: int) -> bytes:
    """A whole number, pickled."""
    return b"J" + struct.pack("<i", value)


def name(module: str, attribute: str) -> bytes:
    """Something from a module, pickled."""
    return f"c{module}\n{attribute}\n".encode()


def call(module: str, attribute: str, *arguments: bytes) -> bytes:
    """A call, pickled."""
    return name(module, attribute) + b"(" + b"".join(arguments) + b"tR"


def tensor(key: str, stored: int, shape: Iterable[int], strides: Iterable[int], storage: str = "FloatStorage", offset: int = 0) -> bytes:
    """A tensor on a storage of this many numbers, pickled."""
    reference = b"(" + text("storage") + name("torch", storage) + text(key) + text("cpu") + number(stored) + b"tQ"
    sides, steps = (b"(" + b"".join(map(number, sizes)) + b"t" for sizes in (shape, strides))
    return call("torch._utils", "_rebuild_tensor_v2", reference, number(offset), sides, steps, b"\x89", EMPTY_HOOKS)


def mapping(**entries: bytes) -> bytes:
    """A dictionary, pickled."""
    return b"}(" + b"".join(text(key) + value for key, value in entries.items()) + b"u"


def loaded(path: Path) -> dict[str, Any]:
    """A checkpoint of our own, whole."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=False)
    return content
