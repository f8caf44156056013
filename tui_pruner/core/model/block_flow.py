"""Where the channels that each block reads come from: its sources with their offsets, and why consecutive widths need not match.

Nothing is taken from the model's yaml. Sources are the tensors that the model's own forward passes to a block and that an operation in it
reads; offsets and producing layers follow from the labels of a trace, channel by channel.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.model.analysis import Analysis, smallest_input
from tui_pruner.core.model.layers import Block, ModelLayer, block_tree, sequence
from tui_pruner.core.pruning.removal import NOTHING, Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing.coupling_map import PRODUCERS
from tui_pruner.core.tracing.labels import FlowRecord, Labels
from tui_pruner.core.tracing.meta_device import ShapeMode
from tui_pruner.core.tracing.tracer import trace

IMAGE = -1
"""The index of the image, where other indices are those of blocks."""


@dataclass(frozen=True)
class Source:
    """A tensor that a block reads: the block that returned it, its channels, and its offset among the channels that the block joins.

    Tensors that a block reads separately (those of a detection head) each have offset 0.
    """

    index: int
    channels: int
    offset: int


@dataclass(frozen=True)
class ChannelOrigin:
    """Channels that a block reads, followed back through blocks without layers to the layers that produce them."""

    index: int
    layers: tuple[str, ...]
    channels: int
    offset: int


@dataclass(frozen=True)
class BlockFlow:
    """What a block reads and writes, in channels.

    `previous` is what the block with the index before it writes; for the first block, the image's channels. `mismatch` explains why it is
    no error if `reads` differs from that, or from the output of the convolution that is listed last before the block.
    """

    index: int
    name: str
    type: str
    reads: int
    writes: int
    sources: tuple[Source, ...]
    origins: tuple[ChannelOrigin, ...]
    previous: int
    mismatch: str | None


@dataclass
class Passage:
    """One forward: for each block the numbers of the tensors passed to it, of those that were read, and what it returned."""

    handed: dict[str, list[Tensor]] = field(default_factory=dict)
    read: dict[str, set[int]] = field(default_factory=dict)
    returned: dict[str, list[Tensor]] = field(default_factory=dict)


class ReadTensors(ShapeMode):  # type: ignore[no-untyped-call]
    """Records which tensors the operations of the running block read."""

    def __init__(self, passage: Passage) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.passage = passage
        self.running = ""

    def observe(self, name: str, function: Any, args: tuple[Any, ...], kwargs: dict[str, Any], result: Any) -> None:
        """Record the tensors of one operation."""
        if self.running:
            self.passage.read[self.running].update(id(tensor) for tensor in tensors_in((args, tuple(kwargs.values()))))


def tensors_in(value: Any) -> Iterator[Tensor]:
    """Return every tensor in nested tuples and lists, in order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for entry in value:
            yield from tensors_in(entry)


def block_flows(analysis: Analysis, removal: Removal = NOTHING) -> list[BlockFlow]:
    """Return where every block's channels come from, in the model after a removal.

    Raises:
        PlanError: the removal breaks a lock or a link.
    """
    removed = bool(removal.places or removal.dropped)
    model = cut(analysis.skeleton, analysis.coupling, removal) if removed else analysis.skeleton
    return flows_of(model, block_tree(model, analysis.checkpoint.original_yaml))


def flows_of(skeleton: nn.Module, blocks: Sequence[Block]) -> list[BlockFlow]:
    """Return the same for a model on the meta device."""
    shape = smallest_input(skeleton)
    image = torch.empty(shape, device="meta")
    network = Network(skeleton, blocks, image, passed(skeleton, image), trace(skeleton, shape, sequence(skeleton)))
    return [network.flow(block) for block in blocks]


def passed(skeleton: nn.Module, image: Tensor) -> Passage:
    """Return what one forward passes from block to block."""
    passage = Passage()
    mode = ReadTensors(passage)
    with torch.no_grad(), noting(sequence(skeleton), passage, mode), mode:
        skeleton(image)
    return passage


@contextmanager
def noting(blocks: Sequence[tuple[str, nn.Module]], passage: Passage, mode: ReadTensors) -> Iterator[None]:
    """Record what is passed to blocks and what they return."""

    def enter(path: str) -> Any:
        def hook(module: nn.Module, args: Any) -> None:
            passage.handed[path], passage.read[path], mode.running = list(tensors_in(args)), set(), path

        return hook

    def leave(path: str) -> Any:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            passage.returned[path], mode.running = list(tensors_in(output)), ""

        return hook

    handles = [module.register_forward_pre_hook(enter(path)) for path, module in blocks]
    handles += [module.register_forward_hook(leave(path)) for path, module in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class Network:
    """One model with the results of a forward and of a trace for its blocks."""

    def __init__(self, skeleton: nn.Module, blocks: Sequence[Block], image: Tensor, passage: Passage, record: FlowRecord) -> None:
        self.blocks, self.image, self.passage, self.record = blocks, image, passage, record
        self.skeleton = skeleton
        self.holders = {id(image): [IMAGE]}
        for block in blocks:
            for tensor in passage.returned.get(block.path, ()):
                self.holders.setdefault(id(tensor), []).append(block.index)
        self.sources = {block.index: tuple(self.sources_of(block)) for block in blocks}

    def sources_of(self, block: Block) -> Iterator[Source]:
        """Return the tensors that a block reads; where none of its operations reads any, all that are passed to it."""
        handed, read = self.passage.handed.get(block.path, []), self.passage.read.get(block.path, set())
        used = [tensor for tensor in handed if id(tensor) in read] or handed
        known = [(self.holder(block, tensor), tensor.shape[1]) for tensor in used if id(tensor) in self.holders and tensor.ndim > 1]
        joined, offset = self.joins(block, [index for index, _ in known]), 0
        for index, channels in known:
            yield Source(index, channels, offset)
            offset += channels if joined else 0

    def holder(self, block: Block, tensor: Tensor) -> int:
        """Return the block that returned a tensor; where an Identity passed it on, the block that the yaml names."""
        holders = self.holders[id(tensor)]
        return next((index for index in holders if index in block.sources), holders[-1])

    def joins(self, block: Block, sources: Sequence[int]) -> bool:
        """Return whether a block's output is its inputs concatenated, label by label."""
        own, parts = self.record.block_outputs.get(block.path), [self.labels_of(index) for index in sources]
        return own is not None and bool(parts) and all(p is not None for p in parts) and np.array_equal(own, np.concatenate(parts))  # type: ignore[arg-type]

    def labels_of(self, index: int) -> Labels | None:
        """Return the labels of the channels that a block returns; None for several tensors and for the image."""
        return self.record.block_outputs.get(self.blocks[index].path) if index != IMAGE else None

    def origins(self, index: int, channels: int, offset: int) -> Iterator[ChannelOrigin]:
        """Return which layers produce a block's output channels, followed back through blocks without layers."""
        if index == IMAGE:
            yield ChannelOrigin(IMAGE, (), channels, offset)
            return
        block, sources = self.blocks[index], self.sources[index]
        if block.layers or not self.joins(block, [source.index for source in sources]):
            yield ChannelOrigin(index, self.writers(index), channels, offset)
            return
        for source in sources:
            yield from self.origins(source.index, source.channels, offset + source.offset)

    def writers(self, index: int) -> tuple[str, ...]:
        """Return the layers in a block whose output channels it returns, by short names."""
        labels = self.labels_of(index)
        if labels is None:
            return ()
        own = {layer.path: layer.name for layer in self.blocks[index].layers}
        axes = [axis for axis in self.record.source.owners(labels) if self.record.roles.get(axis) in PRODUCERS]
        return tuple(dict.fromkeys(own[axis.module] for axis in axes if axis.module in own))

    def writes(self, index: int) -> int:
        """Return how many channels a block returns, over all its feature maps."""
        if index == IMAGE:
            return int(self.image.shape[1])
        returned = self.passage.returned.get(self.blocks[index].path, ())
        return sum(int(tensor.shape[1]) for tensor in returned if tensor.ndim > 1)

    def flow(self, block: Block) -> BlockFlow:
        """Return what one block reads and writes."""
        sources = self.sources[block.index]
        return BlockFlow(
            index=block.index,
            name=block.path,
            type=block.type,
            reads=sum(source.channels for source in sources),
            writes=self.writes(block.index),
            sources=sources,
            origins=tuple(found for one in sources for found in self.origins(one.index, one.channels, one.offset)),
            previous=self.writes(block.index - 1),
            mismatch=self.mismatch(block, sources),
        )

    def mismatch(self, block: Block, sources: Sequence[Source]) -> str | None:
        """Return why a different width before a block is right; None where the widths match."""
        before, reads = block.index - 1, sum(source.channels for source in sources)
        if reads != self.writes(before):
            alone = "" if before == IMAGE else f"; {named(before)} alone writes {self.writes(before)}"
            return f"reads {reads} channels: {self.inputs(block)}{alone}"
        if before == IMAGE or [source.index for source in sources] != [before]:
            return None
        listed = next((one.layers[-1] for one in reversed(self.blocks[: block.index]) if one.layers), None)
        if listed is None or self.width(listed) == reads:
            return None
        writers = self.writers(before)
        if self.blocks[before].layers:
            whole = f"reads {reads} channels, all that {named(before)} writes" + (f" with {' and '.join(writers)}" if writers else "")
            part = "of them" if listed.name in writers else "that stay inside the block"
            return f"{whole}; {listed.name}, the last convolution listed in it, writes {self.width(listed)} {part}"
        return (
            f"reads {reads} channels: {named(before)} is {self.made_of(self.blocks[before])} and has no convolution of its own; "
            f"{listed.name}, the last one listed before it, writes {self.width(listed)}"
        )

    def inputs(self, block: Block) -> str:
        """Return in words where a block's inputs come from."""
        sources = self.sources[block.index]
        if not sources:
            return "from no other block"
        if len(sources) == 1:
            return f"all of {named(sources[0].index)}, which its input is"
        return self.made_of(block) if any(source.offset for source in sources) else f"{len(sources)} inputs apart, {listed_of(sources)}"

    def made_of(self, block: Block) -> str:
        """Return in words which blocks a block joins: a Concat of two with their offsets."""
        return f"{'an' if block.type[0] in 'AEIOU' else 'a'} {block.type} of {listed_of(self.sources[block.index])}"

    def width(self, layer: ModelLayer) -> int:
        """Return how many channels a layer produces."""
        module: Any = self.skeleton.get_submodule(layer.path)
        return int(module.out_features if isinstance(module, nn.Linear) else module.out_channels)


def named(index: int) -> str:
    """Return a block's name for display."""
    return "the image" if index == IMAGE else f"block {index}"


def listed_of(sources: Sequence[Source]) -> str:
    """Return sources in words, with their channels, and their offsets where they are concatenated."""
    joined = any(source.offset for source in sources)
    parts = [
        f"{named(one.index)} at offset {one.offset} ({one.channels})" if joined else f"{named(one.index)} ({one.channels})"
        for one in sources
    ]
    return " and ".join(filter(None, (", ".join(parts[:-1]), parts[-1])))
