"""Checks of a model file's archive before any library opens it, and limits on memory and access while it is loaded."""

from __future__ import annotations

import contextlib
import functools
import io
import pickletools
import re
import resource
import struct
import sys
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_pruner.domain.errors import CheckpointError
from tui_pruner.frameworks.ultralytics.security.pickle_scan import LARGEST_PICKLE, Malformed, RefusedPickle, Survey, survey, todays_name
from tui_pruner.storage.model_file import RETRAIN, require_zip

LARGEST_DIRECTORY = 4 << 20
"""Twenty times that of YOLOv9e."""
LONGEST_END = (1 << 16) + 22
IN_64_BITS = 0xFFFFFFFF
DAMAGE = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError, NotImplementedError, ValueError, OverflowError, OSError)
"""What `zipfile` raises for damaged bytes, depending on where the damage is."""


def require_sound_archive(path: Path) -> None:
    """Refuse what is not an intact PyTorch archive, and say what it is instead.

    Every checksum inside is compared, since PyTorch itself loads a file with a flipped byte without an error.
    """
    require_zip(path)
    _require_checkpoint_members(path, _intact_members(path))


def _require_sane_directory(path: Path) -> None:
    """Refuse an archive with hundreds of thousands of members, since listing them would take minutes."""
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
        raise CheckpointError(f"{path} is not an archive that PyTorch wrote (a directory of {size:,} bytes): {RETRAIN}")


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


COPIES = 3
"""Half precision as it is stored, then float32."""
SPARE = 1 << 30


def require_memory(path: Path, stored: int) -> None:
    """Refuse a file whose `stored` bytes of weights need more memory than is available.

    Raises:
        CheckpointError: they do.
    """
    free = available_memory()
    if free is not None and COPIES * stored > free:
        needed = f"{COPIES * stored / 1e9:.1f} GB of memory to be read, {free / 1e9:.1f} GB are free"
        raise CheckpointError(f"{path} needs about {needed}: end other programs first")


@contextlib.contextmanager
def limited_memory(stored: int) -> Iterator[None]:
    """Limit this process to the memory that reading a file of `stored` bytes can need.

    The limit is on data (RLIMIT_DATA), which the kernel counts without what libraries merely map or reserve: PyTorch and CUDA reserve
    tens of gigabytes of addresses, so a limit on those (RLIMIT_AS) would end them. No effect where the kernel does not report that figure.
    """
    used = _figure(Path("/proc/self/status"), "VmData")
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if used is None:
        yield
        return
    wanted = used + 2 * COPIES * stored + SPARE
    limit = min(limit for limit in (wanted, soft, hard) if limit != resource.RLIM_INFINITY)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def available_memory() -> int | None:
    """The bytes that programs can still get without swapping; None where the system does not report it (not Linux)."""
    return _figure(Path("/proc/meminfo"), "MemAvailable")


def _figure(file: Path, name: str) -> int | None:
    try:
        found = re.search(rf"^{name}:\s+(\d+) kB", file.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return int(found[1]) * 1024 if found else None


CONNECTIONS = ("socket.",)
PROGRAMS = ("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "pty.")
_reading = threading.local()


class Confined(RuntimeError):
    """The file tried to open a connection or to start a program."""


@contextlib.contextmanager
def confined(trusted: bool = False) -> Iterator[None]:
    """Refuse connections in this thread, and also starting programs unless the file is trusted."""
    _listen()
    _reading.forbidden = CONNECTIONS if trusted else CONNECTIONS + PROGRAMS
    try:
        yield
    finally:
        _reading.forbidden = ()


@functools.lru_cache(maxsize=1)
def _listen() -> None:
    """Install the audit hook, once: Python never removes one, so it ignores most events."""
    sys.addaudithook(_refuse)


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    forbidden = getattr(_reading, "forbidden", ())
    if forbidden and event.startswith(forbidden):
        raise Confined(f"tried {event}, which nothing may while a file is read")


PICKLE = "data.pkl"
ODD = "is not an archive that PyTorch wrote"
BYTES_OF_STORAGE = {
    "torch.ByteStorage": 1, "torch.CharStorage": 1, "torch.BoolStorage": 1, "torch.ShortStorage": 2, "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2, "torch.IntStorage": 4, "torch.FloatStorage": 4, "torch.LongStorage": 8, "torch.DoubleStorage": 8,
    "torch.ComplexFloatStorage": 8, "torch.ComplexDoubleStorage": 16, "torch.storage.UntypedStorage": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """What is in an archive: the number of members, their bytes, and what its pickle would do.

    `refusal`: why it is only loaded for a user who trusts it; empty where it is not refused.
    """

    members: int
    bytes: int
    survey: Survey
    refusal: str = ""


def contents_of(path: Path) -> Contents:
    """Inspect an intact archive without loading anything.

    Raises:
        CheckpointError: not as PyTorch writes it, other weights than it declares, or too large for this machine.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _require_plain_members(path, members)
        require_memory(path, sum(member.file_size for member in members))
        pickled = archive.read(next(member for member in members if _inner(member) == PICKLE))
    _require_the_same_for_pytorch(path, [member.filename for member in members], pickled)
    total = sum(member.file_size for member in members)
    try:
        found = survey(pickled)
    except RefusedPickle as refusal:
        return Contents(len(members), total, Survey(names_in(pickled), ()), str(refusal))
    except Malformed as error:
        raise CheckpointError(f"{path} {error}: fetch it again, or {RETRAIN}") from error
    _require_storages(path, found, {_inner(member): member.file_size for member in members})
    return Contents(len(members), total, found)


def names_in(pickled: bytes) -> tuple[str, ...]:
    """All names that a pickle imports, of any protocol, as far as it can be parsed."""
    names: set[str] = set()
    memo: dict[int, Any] = {}
    latest: list[Any] = [None, None]
    """The two values pushed last, which STACK_GLOBAL takes; only texts count."""
    argument: Any
    try:
        for operation, argument, _ in pickletools.genops(io.BytesIO(pickled)):
            match operation.name:
                case "GLOBAL" | "INST":
                    names.add(todays_name(*argument.split(" ", 1)))
                case "STACK_GLOBAL":
                    names.add(todays_name(*map(str, latest)))
                case "MEMOIZE":
                    memo[len(memo)] = latest[-1]
                case "PUT" | "BINPUT" | "LONG_BINPUT":
                    memo[argument] = latest[-1]
                case "GET" | "BINGET" | "LONG_BINGET":
                    latest = [latest[-1], memo.get(argument)]
                case _ if isinstance(argument, str):
                    latest = [latest[-1], argument]
    except (ValueError, TypeError, UnicodeError, OverflowError):
        pass
    return tuple(sorted(names))


def _inner(member: zipfile.ZipInfo) -> str:
    return member.filename.partition("/")[2]


def _require_plain_members(path: Path, members: list[zipfile.ZipInfo]) -> None:
    """Require members as PyTorch stores them, uncompressed, in one folder, each once: then they cannot be larger than the file."""
    if any(member.compress_type != zipfile.ZIP_STORED or member.file_size != member.compress_size for member in members):
        raise CheckpointError(f"{path} {ODD} (its members are compressed): fetch it again, or {RETRAIN}")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise CheckpointError(f"{path} {ODD} (its members are larger than the file): {RETRAIN}")
    folders = {member.filename.partition("/")[0] for member in members}
    if len(folders) != 1 or len({member.filename.casefold() for member in members}) != len(members):
        raise CheckpointError(f"{path} {ODD} (several members have the same name, or they are in several folders): {RETRAIN}")
    if any(member.file_size > LARGEST_PICKLE for member in members if _inner(member) == PICKLE):
        raise CheckpointError(f"{path} {ODD} (its pickle is larger than that of any model): {RETRAIN}")


def _require_the_same_for_pytorch(path: Path, names: list[str], pickled: bytes) -> None:
    """Require that PyTorch loads what was inspected: two readers can see different members in an archive crafted for that."""
    import torch

    try:
        with path.open("rb") as file:  # PyTorch opens no name that is not UTF-8
            reader: Any = torch._C.PyTorchFileReader(file)
            same = sorted(reader.get_all_records()) == sorted(name.partition("/")[2] for name in names)
            same = same and reader.get_record(PICKLE) == pickled
    except RuntimeError:
        raise CheckpointError(f"{path} is damaged (PyTorch cannot open the archive): fetch it again") from None
    if not same:
        raise CheckpointError(f"{path} {ODD} (it looks different to different readers): {RETRAIN}")


def _require_storages(path: Path, found: Survey, sizes: dict[str, int]) -> None:
    for storage in found.storages:
        width, size = BYTES_OF_STORAGE.get(storage.type), sizes.get(f"data/{storage.key}")
        if width is None:
            raise CheckpointError(f"{path} keeps its weights as {storage.type}, which cannot be read: {RETRAIN}")
        if size is None or size != storage.numbers * width:
            there = "none" if size is None else f"{size // width:,}"
            raise CheckpointError(f"{path} is damaged (of {storage.numbers:,} numbers of a tensor there are {there}): fetch it again")
