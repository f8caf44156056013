"""The members of a checkpoint's archive: whether they are what PyTorch writes, and hold as many numbers as the pickle says."""

from __future__ import annotations

import io
import pickletools
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tui_pruner.core.checkpoint.container import RETRAIN
from tui_pruner.core.checkpoint.pickle_survey import LARGEST_PICKLE, Malformed, Refused, Survey, survey, todays_name
from tui_pruner.core.checkpoint.room import require_room
from tui_pruner.errors import CheckpointError

PICKLE = "data.pkl"
ODD = "is no archive that PyTorch wrote"
BYTES_OF_STORAGE = {
    "torch.ByteStorage": 1, "torch.CharStorage": 1, "torch.BoolStorage": 1, "torch.ShortStorage": 2, "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2, "torch.IntStorage": 4, "torch.FloatStorage": 4, "torch.LongStorage": 8, "torch.DoubleStorage": 8,
    "torch.ComplexFloatStorage": 8, "torch.ComplexDoubleStorage": 16, "torch.storage.UntypedStorage": 1,
}  # fmt: skip


@dataclass(frozen=True)
class Contents:
    """What an archive holds, seen from outside: how many members, their bytes, and what its pickle would do.

    `refusal`: why only a user who trusts the file may have it loaded; empty where nothing speaks against it.
    """

    members: int
    bytes: int
    survey: Survey
    refusal: str = ""


def contents_of(path: Path) -> Contents:
    """What an intact archive holds; nothing of it is loaded.

    Raises:
        CheckpointError: not as PyTorch writes it, other weights than it says, or too large for this machine.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        _require_plain_members(path, members)
        require_room(path, sum(member.file_size for member in members))
        pickled = archive.read(next(member for member in members if _inner(member) == PICKLE))
    _require_the_same_for_pytorch(path, [member.filename for member in members], pickled)
    total = sum(member.file_size for member in members)
    try:
        found = survey(pickled)
    except Refused as refusal:
        return Contents(len(members), total, Survey(names_in(pickled), ()), str(refusal))
    except Malformed as error:
        raise CheckpointError(f"{path} {error}: fetch it again, or {RETRAIN}") from error
    _require_storages(path, found, {_inner(member): member.file_size for member in members})
    return Contents(len(members), total, found)


def names_in(pickled: bytes) -> tuple[str, ...]:
    """All names that a pickle takes from modules, of whatever protocol, as far as it can be read."""
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
    """PyTorch stores its members as they are, in one folder, each once: then they cannot be larger than the file."""
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
    """What was looked at must be what will be loaded: two readers can see different members in an archive made for that."""
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
