"""Coupling maps kept on disk by all that they depend on; each is a zip of one JSON document and one array, without pickle."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from functools import cache
from importlib.machinery import ModuleSpec
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from torch import nn

from tui_pruner import __version__
from tui_pruner.core.model.copies import named_tensors
from tui_pruner.core.tracing.coupling_map import ChannelGroup, ChannelLink, CouplingMap, Indices, InnerBlock, Lock, Member, Product
from tui_pruner.core.tracing.labels import Axis, Operation, Role
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file

LIBRARIES = ("torch", "torchvision", "ultralytics")


def module_spec(name: str, where: Iterable[str] | None = None) -> ModuleSpec | None:
    """What the import system would load under a name, `where` its package is; found without importing anything.

    A file chooses the name, so any error of a finder means that the module does not exist.
    """
    known = getattr(sys.modules.get(name), "__spec__", None)
    if known is not None:
        return known  # type: ignore[no-any-return]
    for finder in sys.meta_path:
        with contextlib.suppress(Exception):
            spec = finder.find_spec(name, None if where is None else list(where))
            if spec is not None:
                return spec
    return None


NOT_OWN = {*LIBRARIES, "builtins", "collections", "numpy", "pathlib", "_codecs"}
MOST_FILES = 5_000


def code_of(names: Iterable[str]) -> str:
    """A digest of all Python files beside the modules, or in the packages, that these names are from; empty where there is none."""
    modules = sorted({name.partition(".")[0] for name in names} - NOT_OWN)
    digest = hashlib.sha256()
    found = False
    for file in dict.fromkeys(file for module in modules for file in _sources(module)):
        digest.update(f"{file.name}\0".encode(errors="surrogateescape") + file.read_bytes())
        found = True
    return digest.hexdigest() if found else ""


def _sources(module: str) -> Iterator[Path]:
    spec = module_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(folder).rglob("*.py"))[:MOST_FILES]
    origin = Path(spec.origin) if spec and spec.origin else None
    if spec and not spec.submodule_search_locations and origin and origin.is_file():
        yield from sorted({origin, *origin.parent.glob("*.py")})[:MOST_FILES]


DOCUMENT, INDICES = "map.json", "indices.npy"
FASTEST = 1
"""The compression level: the file is a tenth of its content already here."""
Document = dict[str, Any]
Item = TypeVar("Item")


class Numbering(Generic[Item]):
    """Numbers different items in the order in which they come up; `items` are they."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._numbers: dict[Any, int] = {}

    def number(self, item: Item, key: Any = None) -> int:
        """The number of an item, which is told apart from others by its key, by default itself."""
        known = self._numbers.setdefault(item if key is None else key, len(self.items))
        if known == len(self.items):
            self.items.append(item)
        return known


def to_bytes(coupling: CouplingMap, about: Mapping[str, Any]) -> bytes:
    """The content of the file; `about` is plain data that says what the map is of."""
    arrays: Numbering[Indices] = Numbering()
    document = {**described(coupling, arrays), "about": about, "shapes": [array.shape for array in arrays.items]}
    indices = np.concatenate([array.reshape(-1) for array in arrays.items] or [np.zeros(0, np.int64)]).astype(np.int32)
    stream, numbers = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array(numbers, indices, allow_pickle=False)
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED, compresslevel=FASTEST) as archive:
        archive.writestr(DOCUMENT, json.dumps(document, separators=(",", ":")))
        archive.writestr(INDICES, numbers.getvalue())
    return stream.getvalue()


def described(coupling: CouplingMap, arrays: Numbering[Indices]) -> Document:
    """Everything but the index arrays, which are numbered; axes, operations and locks are named by their numbers in tables."""
    axes = {axis: number for number, axis in enumerate(coupling.sizes)}
    operations: Numbering[Operation] = Numbering()
    locks: Numbering[Lock] = Numbering()

    def array_number(indices: Indices) -> int:
        return arrays.number(indices, (indices.shape, indices.tobytes()))

    groups = [
        {
            "channels": group.channels,
            "members": [[axes[member.axis], array_number(member.indices)] for member in group.members],
            "lock": None if group.lock is None else locks.number(group.lock),
            "links": group.links,
            "joined_by": [operations.number(operation) for operation in group.joined_by],
        }
        for group in coupling.groups
    ]
    return {
        "axes": [[axis.parameter, axis.dim, size] for axis, size in coupling.sizes.items()],
        "roles": [[axes[axis], role] for axis, role in coupling.roles.items()],
        "operations": [astuple(operation) for operation in operations.items],
        "locks": [astuple(lock) for lock in locks.items],
        "links": [asdict(link) for link in coupling.links],
        "groups": groups,
        "block_outputs": {path: array_number(numbers) for path, numbers in coupling.block_outputs.items()},
        "inner": [
            [b.path, b.type, array_number(b.inputs), array_number(b.outputs), b.tied, list(b.silenced)] for b in coupling.inner.values()
        ],
        "products": [
            [product.module, product.place, [array_number(groups) for groups in product.factors]] for product in coupling.products
        ],
        "unknown_operations": dict(coupling.unknown_operations),
        "spared": sorted(axes[axis] for axis in coupling.spared),
        "remarks": list(coupling.remarks),
        "classes": coupling.classes,
        "operation_count": coupling.operations,
        "seconds": coupling.seconds,
    }


def from_bytes(content: bytes) -> tuple[CouplingMap, Mapping[str, Any]]:
    """The map and what it is of. Another kind of file, or a damaged one, raises the error of the zip, the JSON or their use."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:  # unlike np.load, `read` goes to a member's end, where its checksum is compared
        document: Document = json.loads(archive.read(DOCUMENT))
        indices = np.lib.format.read_array(io.BytesIO(archive.read(INDICES)), allow_pickle=False).astype(np.int64)
    axes = [Axis(parameter, dim) for parameter, dim, _ in document["axes"]]
    roles: dict[Axis, Role] = {axes[number]: role for number, role in document["roles"]}
    arrays = list(cut_apart(indices, document["shapes"]))
    coupling = CouplingMap(
        groups=tuple(groups_in(document, axes, roles, arrays)),
        links=tuple(ChannelLink(**{**link, "parts": nested(link["parts"])}) for link in document["links"]),
        sizes={axis: size for axis, (_, _, size) in zip(axes, document["axes"], strict=True)},
        roles=roles,
        block_outputs={path: arrays[number] for path, number in document["block_outputs"].items()},
        inner={
            path: InnerBlock(path, kind, arrays[inputs], arrays[outputs], tied, tuple(silenced))
            for path, kind, inputs, outputs, tied, silenced in document["inner"]
        },
        products=tuple(Product(module, place, tuple(arrays[n] for n in factors)) for module, place, factors in document["products"]),
        unknown_operations=document["unknown_operations"],
        spared=frozenset(axes[number] for number in document["spared"]),
        remarks=tuple(document["remarks"]),
        classes=document["classes"],
        operations=document["operation_count"],
        seconds=document["seconds"],
    )
    return coupling, document["about"]


def groups_in(document: Document, axes: Sequence[Axis], roles: Mapping[Axis, Role], arrays: Sequence[Indices]) -> Iterator[ChannelGroup]:
    """The groups of a document; the role of a member is that of its axis."""
    operations = [Operation(*fields) for fields in document["operations"]]
    locks = [Lock(*fields) for fields in document["locks"]]
    for number, group in enumerate(document["groups"]):
        yield ChannelGroup(
            number=number,
            channels=group["channels"],
            members=tuple(Member(axes[axis], roles.get(axes[axis]), arrays[array]) for axis, array in group["members"]),
            lock=None if group["lock"] is None else locks[group["lock"]],
            links=tuple(group["links"]),
            joined_by=tuple(operations[n] for n in group["joined_by"]),
        )


def cut_apart(indices: Indices, shapes: Iterable[Sequence[int]]) -> Iterator[Indices]:
    """The arrays of these shapes that lie end to end in one."""
    start = 0
    for shape in shapes:
        end = start + shape[0] * (shape[1] if len(shape) > 1 else 1)
        yield indices[start:end].reshape(shape)
        start = end


def nested(parts: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Lists of lists as tuples of tuples."""
    return tuple(tuple(part) for part in parts)


DEPENDS_ON: list[Path] = []
"""Files beside the core that a trace depends on; entered by frameworks."""
VERSIONED = ("torch", "ultralytics", "torch-pruning")
LOG = logging.getLogger(__name__)
Key = Mapping[str, Any]


def key_of(sha256: str, shape: Sequence[int], own_code: str = "") -> Key:
    """All that the map of a checkpoint depends on: `sha256` of its file, the shape of the input, and the code of classes of its own."""
    return {
        "checkpoint": sha256,
        "own_code": own_code,
        "shape": list(shape),
        "program": __version__,
        "core": core_digest(),
        **{library: version(library) for library in VERSIONED},
    }


@cache
def core_digest() -> str:
    """SHA-256 of this program's core, all its files in the order of their paths, and of what frameworks entered into it."""
    folder = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for file in (*sorted(folder.rglob("*.py")), *sorted(DEPENDS_ON)):
        digest.update(f"{os.path.relpath(file, folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def file_of(key: Key) -> Path:
    """Where the map is kept, whether or not it is there."""
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return paths.cache_folder() / "coupling" / f"{name}.npz"


def load(key: Key, skeleton: nn.Module) -> CouplingMap | None:
    """The map that is kept under this key; None where there is none, or nothing that is whole and fits the model."""
    file = file_of(key)
    try:
        coupling, about = from_bytes(file.read_bytes())
    except FileNotFoundError:
        return None
    except Exception as error:  # a file that cannot be read is made again by tracing
        LOG.info("traced again, since %s cannot be read: %s", file, error)
        return None
    if about != key or not fits(coupling, skeleton):
        LOG.info("traced again, since %s belongs to another model", file)
        return None
    return coupling


def fits(coupling: CouplingMap, skeleton: nn.Module) -> bool:
    """Whether every axis of a map is in the model and as long as there."""
    shapes = {name: tensor.shape for name, tensor in named_tensors(skeleton)}
    return all(
        axis.parameter in shapes and axis.dim < len(shapes[axis.parameter]) and shapes[axis.parameter][axis.dim] == size
        for axis, size in coupling.sizes.items()
    )


def store(key: Key, coupling: CouplingMap) -> None:
    """Keep a map, whole or not at all; without a folder that can be written the next opening traces again."""
    file = file_of(key)
    try:
        replace_file(file, to_bytes(coupling, key))
    except OSError as error:
        LOG.info("the coupling map is not kept in %s: %s", file, error)
