"""A look at a model file from the outside, before any library opens it: what it is not, and whether it is whole."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path

from tui_pruner.errors import CheckpointError

RETRAIN = "give the best.pt or last.pt that Ultralytics saved"
LARGEST_DIRECTORY = 4 << 20
"""Twenty times that of YOLOv9e."""
LONGEST_END = (1 << 16) + 22
IN_64_BITS = 0xFFFFFFFF
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, NotImplementedError, ValueError, OverflowError, OSError)
"""What `zipfile` raises on damaged bytes, depending on where the damage is."""

BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (b"\x80\x02\x8a\x0al\xfc\x9cF", f"is a PyTorch file in the format before 1.6: save it again with a newer torch, or {RETRAIN}"),
    (b"\x80", f"is a bare pickle, not a PyTorch checkpoint: {RETRAIN}"),
    (b"\x89PNG", f"is a PNG image, not a checkpoint: {RETRAIN}"),
    (b"\xff\xd8\xff", f"is a JPEG image, not a checkpoint: {RETRAIN}"),
    (b"GIF8", f"is a GIF image, not a checkpoint: {RETRAIN}"),
    (b"\x1f\x8b", "is a gzip archive: unpack it first"),
    (b"\x89HDF", f"is an HDF5 file, not a checkpoint: {RETRAIN}"),
    (b"<", "is a web page or XML, not a checkpoint: the download has probably failed, fetch it again"),
)
ONNX = f"is an ONNX export, which cannot be pruned: {RETRAIN}"


def require_sound_archive(path: Path) -> None:
    """Refuse what is not an intact PyTorch archive, naming what it is instead.

    Every checksum inside is compared, since PyTorch itself loads a file with a flipped byte in silence.
    """
    with path.open("rb") as file:
        beginning = file.read(512)
    if path.suffix.lower() == ".onnx" or looks_like_onnx(beginning):
        raise CheckpointError(f"{path} {ONNX}")
    if not beginning.startswith(b"PK"):
        raise CheckpointError(f"{path} {_what_it_is(beginning)}")
    _require_checkpoint_members(path, _intact_members(path))


def looks_like_onnx(beginning: bytes) -> bool:
    """Whether the bytes begin like a serialised ONNX model: its IR version, then a producer, graph or operator set."""
    return len(beginning) > 3 and beginning[0] == 0x08 and beginning[1] < 32 and beginning[2] in (0x12, 0x1A, 0x3A, 0x42)


def _what_it_is(beginning: bytes) -> str:
    if beginning[257:262] == b"ustar":
        return f"is a tar archive, perhaps PyTorch's oldest format: {RETRAIN}"
    for start, verdict in BEGINNINGS:
        if beginning.startswith(start):
            return verdict
    return f"is not a PyTorch checkpoint: {RETRAIN}"


def _require_sane_directory(path: Path) -> None:
    """Refuse an archive that says it has hundreds of thousands of members, since listing them would take minutes."""
    with path.open("rb") as file:
        end = file.seek(0, 2)
        start = file.seek(max(end - LONGEST_END, 0))
        last = file.read()
        found = last.rfind(b"PK\5\6")
        size = int.from_bytes(last[found + 12 : found + 16], "little") if found >= 0 else 0
        if size == IN_64_BITS and last[found - 20 : found - 16] == b"PK\6\7":
            file.seek(min(int.from_bytes(last[found - 12 : found - 4], "little"), start + found))
            size = int.from_bytes(file.read(56)[40:48], "little")
    if size > LARGEST_DIRECTORY:
        raise CheckpointError(f"{path} is no archive that PyTorch wrote (a directory of {size:,} bytes): {RETRAIN}")


def _intact_members(path: Path) -> list[str]:
    _require_sane_directory(path)
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
            members = archive.namelist()
    except zipfile.BadZipFile as error:
        if "not a zip file" in str(error):
            raise CheckpointError(f"{path} is truncated (its end is missing): fetch it again") from error
        raise CheckpointError(f"{path} is damaged ({error}): fetch it again") from error
    except DAMAGE as error:
        raise CheckpointError(f"{path} is damaged ({type(error).__name__}: {error}): fetch it again") from error
    if damaged:
        raise CheckpointError(f"{path} is damaged (the checksum of {damaged} is wrong): fetch it again")
    return members


def _require_checkpoint_members(path: Path, members: list[str]) -> None:
    inner = {name.partition("/")[2] for name in members}
    if "constants.pkl" in inner:
        raise CheckpointError(f"{path} is a TorchScript export, which cannot be pruned: {RETRAIN}")
    if "data.pkl" not in inner:
        raise CheckpointError(f"{path} is a zip archive but holds no PyTorch checkpoint: {RETRAIN}")
