"""Damage from outside: bytes that are missing, changed, or of another format altogether."""

from __future__ import annotations

import io
import json
import pickle
import random
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch

from tests.bad_files import NOT_CHECKPOINTS
from tests.faults.archives import FOLDER, PICKLE, members_of, write_archive

Make = Callable[[Path], None]
KIB = 1024


def truncated(original: Path) -> Iterator[Make]:
    """The first KiB, the first two, and so on."""
    content = original.read_bytes()
    for end in range(0, len(content), KIB):
        yield lambda path, end=end: path.write_bytes(content[:end])


def flipped(original: Path, chance: random.Random) -> Iterator[Make]:
    """A few bits changed anywhere, headers and directory included."""
    content = original.read_bytes()
    while True:
        damaged = bytearray(content)
        for _ in range(chance.randint(1, 8)):
            damaged[chance.randrange(len(damaged))] ^= 1 << chance.randrange(8)
        yield lambda path, damaged=bytes(damaged): path.write_bytes(damaged)


def shuffled(original: Path, chance: random.Random) -> Iterator[Make]:
    """Members that changed places, are not there, are there twice, or have another name; the checksums are right."""
    members = members_of(original)
    names = sorted(members)

    def swapped(one: str, other: str) -> list[tuple[str, bytes]]:
        return list({**members, one: members[other], other: members[one]}.items())

    def without(one: str, other: str) -> list[tuple[str, bytes]]:
        return [entry for entry in members.items() if entry[0] != one]

    def twice(one: str, other: str) -> list[tuple[str, bytes]]:
        return [*members.items(), (one, members[other])]

    def renamed(one: str, other: str) -> list[tuple[str, bytes]]:
        odd = chance.choice([one.upper(), f"elsewhere/{one}", f"{FOLDER}/../{one}", f"{FOLDER}/\x1b[31m", f"{FOLDER}//data.pkl"])
        return [(odd if name == one else name, content) for name, content in members.items()]

    while True:
        entries = chance.choice([swapped, without, twice, renamed])(*chance.sample(names, 2))
        yield lambda path, entries=entries: write_archive(path, entries)


def changed_pickle(original: Path, chance: random.Random) -> Iterator[Make]:
    """One to four bytes of the pickle changed, taken out or doubled, and the archive made anew, so that no checksum tells."""
    members = members_of(original)
    while True:
        content = bytearray(members[PICKLE])
        for _ in range(chance.randint(1, 4)):
            place = chance.randrange(len(content))
            length = chance.choice([1, 1, 2, 40])
            content[place : place + length] = chance.choice([chance.randbytes(length), b"", bytes(content[place : place + length]) * 2])
        yield lambda path, content=bytes(content): write_archive(path, {**members, PICKLE: content})


def legacy_tar(path: Path) -> None:
    with tarfile.open(path, "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            content = pickle.dumps({"protocol_version": 1000, "little_endian": True}, protocol=2)
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))


def safetensors(path: Path) -> None:
    header = json.dumps({"weight": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 4)


def compressed(path: Path) -> None:
    write_archive(path, {PICKLE: b"\x80\x02}."}, zipfile.ZIP_DEFLATED)


FOREIGN: dict[str, Make] = {
    **{name: make for name, (make, _) in NOT_CHECKPOINTS.items() if name not in ("folder.pt", "missing.pt")},
    "legacy tar": legacy_tar,
    "safetensors": safetensors,
    "gguf": lambda path: path.write_bytes(b"GGUF\x03\0\0\0" + b"\0" * 64),
    "tflite": lambda path: path.write_bytes(b"\x1c\0\0\0TFL3" + b"\0" * 64),
    "hdf5": lambda path: path.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 64),
    "numpy array": lambda path: np.save(path.open("wb"), np.zeros(4)),
    "numpy archive": lambda path: np.savez(path.open("wb"), a=np.zeros(4)),
    "numpy objects": lambda path: np.save(path.open("wb"), np.array([{}], dtype=object), allow_pickle=True),
    "compressed": compressed,
    "state dict": lambda path: torch.save(torch.nn.Conv2d(3, 8, 3).state_dict(), path),
    "text": lambda path: path.write_text("epoch,loss\n1,0.5\n"),
    "json": lambda path: path.write_text("{}"),
    "html": lambda path: path.write_text("<!doctype html><title>404</title>"),
    "nothing but zeros": lambda path: path.write_bytes(b"\0" * 100_000),
    "only the zip's end": lambda path: path.write_bytes(b"PK\x05\x06" + b"\0" * 18),
    "zip beginning alone": lambda path: path.write_bytes(b"PK\x03\x04" + b"\0" * 200),
    "pickle of protocol 4": lambda path: torch.save({"model": None}, path, pickle_protocol=4),
    "a tensor alone": lambda path: torch.save(torch.zeros(3), path),
    "a layer alone": lambda path: torch.save(torch.nn.Conv2d(3, 8, 3), path),
}
