"""Coupling maps kept on disk, keyed by everything that they depend on. Each file is a zip of one JSON document and one array; no pickle."""

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
from tui_pruner.core.tracing.adapters import installed_adapters
from tui_pruner.core.tracing.coupling_map import ChannelGroup, ChannelLink, CouplingMap, Indices, InnerBlock, Lock, Member, Product
from tui_pruner.core.tracing.labels import Axis, Operation, Role
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file

LIBRARIES = ("torch", "torchvision", "ultralytics")


def module_spec(name: str, where: Iterable[str] | None = None) -> ModuleSpec | None:
    """The module that the import system would load under a name; nothing is imported. `where`: the search path of its package.

    The name comes from a file, so any error of a finder means that the module does not exist.
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
    """A digest of all Python files beside the modules, or in the packages, of these names; empty where there are no such files."""
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
"""The compression level: the fastest already makes the file a tenth as large."""
Document = dict[str, Any]
Item = TypeVar("Item")


class Numbering(Generic[Item]):
    """Numbers different items in the order in which they are first seen; `items` has them."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._numbers: dict[Any, int] = {}

    def number(self, item: Item, key: Any = None) -> int:
        """The number of an item. Items are distinguished by `key`, by default the item itself."""
        known = self._numbers.setdefault(item if key is None else key, len(self.items))
        if known == len(self.items):
            self.items.append(item)
        return known


def to_bytes(coupling: CouplingMap, about: Mapping[str, Any]) -> bytes:
    """The content of the file; `about` is plain data that describes what the map belongs to."""
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
    """Everything but the index arrays, which have numbers; axes, operations and locks are listed in tables and referred to by row."""
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
    """The map, and the `about` that it was stored with. A damaged or foreign file raises the error of the zip, of JSON, or of a lookup."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:  # unlike np.load, `read` reads a member to its end, where its checksum is
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
    """The groups of a document; a member has the role of its axis."""
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
    """The arrays of these shapes, which one array holds end to end."""
    start = 0
    for shape in shapes:
        end = start + shape[0] * (shape[1] if len(shape) > 1 else 1)
        yield indices[start:end].reshape(shape)
        start = end


def nested(parts: Sequence[Sequence[int]]) -> tuple[tuple[int, ...], ...]:
    """Convert lists of lists to tuples of tuples."""
    return tuple(tuple(part) for part in parts)


DEPENDS_ON: list[Path] = []
"""Files outside the core that a trace depends on; frameworks register them."""
VERSIONED = ("torch", "ultralytics", "torch-pruning")
LOG = logging.getLogger(__name__)
Key = Mapping[str, Any]


def key_of(sha256: str, shape: Sequence[int], own_code: str = "") -> Key:
    """All that a map depends on: SHA-256 of the checkpoint, the input's shape, and `own_code`, the digest of classes of its own.

    Where it has such classes, adapters of installed packages may be for them.
    """
    return {
        "checkpoint": sha256,
        "own_code": own_code,
        "adapters": list(installed_adapters()) if own_code else [],
        "shape": list(shape),
        "program": __version__,
        "core": core_digest(),
        **{library: version(library) for library in VERSIONED},
    }


@cache
def core_digest() -> str:
    """SHA-256 of all files of the core, in the order of their paths, and of those that frameworks registered."""
    folder = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for file in (*sorted(folder.rglob("*.py")), *sorted(DEPENDS_ON)):
        digest.update(f"{os.path.relpath(file, folder)}\0".encode() + file.read_bytes())
    return digest.hexdigest()


def file_of(key: Key) -> Path:
    """The path of the map's file, whether or not it exists."""
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return paths.cache_folder() / "coupling" / f"{name}.npz"


def load(key: Key, skeleton: nn.Module) -> CouplingMap | None:
    """The map that is stored under this key; None where there is none, or it is damaged or does not fit the model."""
    file = file_of(key)
    try:
        coupling, about = from_bytes(file.read_bytes())
    except FileNotFoundError:
        return None
    except Exception as error:  # an unreadable file is replaced by tracing again
        LOG.info("traced again, since %s cannot be read: %s", file, error)
        return None
    if about != key or not fits(coupling, skeleton):
        LOG.info("traced again, since %s belongs to another model", file)
        return None
    return coupling


def fits(coupling: CouplingMap, skeleton: nn.Module) -> bool:
    """Whether every axis of a map is in the model and has the same length there."""
    shapes = {name: tensor.shape for name, tensor in named_tensors(skeleton)}
    return all(
        axis.parameter in shapes and axis.dim < len(shapes[axis.parameter]) and shapes[axis.parameter][axis.dim] == size
        for axis, size in coupling.sizes.items()
    )


def store(key: Key, coupling: CouplingMap) -> None:
    """Store a map completely or not at all; where the folder cannot be written, the next opening traces again."""
    file = file_of(key)
    try:
        replace_file(file, to_bytes(coupling, key))
    except OSError as error:
        LOG.info("the coupling map is not kept in %s: %s", file, error)
