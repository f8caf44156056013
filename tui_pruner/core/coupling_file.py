"""A coupling map as bytes and back: NumPy's zip with one JSON document and one array that holds all index arrays end to end. No pickle.

One array in place of one per member, since NumPy reads the header of each anew; equal index arrays are kept once, as most members of a
group name the same positions.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple
from typing import Any, Generic, TypeVar

import numpy as np

from tui_pruner.core.flow.labels import Axis
from tui_pruner.core.flow.record import Operation, Role
from tui_pruner.core.groups import ChannelGroup, CouplingMap, Indices, InnerBlock, Link, Lock, Member, Product

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
    """The map and what it is of. What is no such file, or a damaged one, raises whatever the zip, the JSON or their use come upon."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:  # unlike np.load, `read` goes to a member's end, where its checksum is compared
        document: Document = json.loads(archive.read(DOCUMENT))
        indices = np.lib.format.read_array(io.BytesIO(archive.read(INDICES)), allow_pickle=False).astype(np.int64)
    axes = [Axis(parameter, dim) for parameter, dim, _ in document["axes"]]
    roles: dict[Axis, Role] = {axes[number]: role for number, role in document["roles"]}
    arrays = list(cut_apart(indices, document["shapes"]))
    coupling = CouplingMap(
        groups=tuple(groups_in(document, axes, roles, arrays)),
        links=tuple(Link(**{**link, "parts": nested(link["parts"])}) for link in document["links"]),
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
