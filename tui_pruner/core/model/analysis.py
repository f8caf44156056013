"""The analysis of a model: its blocks, its coupling map, its cost at an input size. Everything else builds on it."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.model.copies import sharing_weights, without_weights
from tui_pruner.core.model.flops import Measurement, measure
from tui_pruner.core.model.inputs import Inputs, as_inputs, image_of
from tui_pruner.core.model.layers import Block, ModelLayer, block_tree, image_channels, legal_side, sequence, stride_of
from tui_pruner.core.pruning.classes import kept_classes, only_classes, with_classes
from tui_pruner.core.pruning.importance import Ranking
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.surgery import cut
from tui_pruner.core.tracing import cache
from tui_pruner.core.tracing.adapters import adapted_by_program, installed_adapters, runs_foreign_code
from tui_pruner.core.tracing.cache import code_of
from tui_pruner.core.tracing.coupling_map import CouplingMap
from tui_pruner.core.tracing.inner_blocks import Dropped, after
from tui_pruner.core.tracing.labels import FlowRecord
from tui_pruner.domain.errors import PrunerError, TraceError
from tui_pruner.domain.formatting import plural
from tui_pruner.domain.results import NOT_EQUAL

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Analysis:
    """A checkpoint with all that is known about its channels at one input size.

    `skeleton` is the model on the meta device; `notes` says what was adjusted, such as an input side that was rounded up.
    """

    checkpoint: Checkpoint
    skeleton: nn.Module
    blocks: tuple[Block, ...]
    coupling: CouplingMap
    measurement: Measurement
    imgsz: int
    notes: tuple[str, ...]

    @cached_property
    def layers(self) -> dict[str, ModelLayer]:
        """Every layer by its short name, in the model's order."""
        return {layer.name: layer for block in self.blocks for layer in block.layers}

    @cached_property
    def short_names(self) -> dict[str, str]:
        """Every layer's short name by the path of its module."""
        return {layer.path: layer.name for layer in self.layers.values()}

    @cached_property
    def sections(self) -> dict[str, tuple[ModelLayer, ...]]:
        """The layers of the backbone, the neck and the head."""
        names = dict.fromkeys(block.section for block in self.blocks)
        return {name: tuple(layer for block in self.blocks if block.section == name for layer in block.layers) for name in names}

    @cached_property
    def ranking(self) -> Ranking:
        """The importance of the groups' channels."""
        return Ranking(self.checkpoint.model)

    def ranked(self, removal: Removal) -> Ranking:
        """The importance of the groups' channels for the classes that a removal leaves."""
        kept = tuple(kept_classes(self.coupling, removal) or ())
        if not kept:
            return self.ranking
        if kept not in self._ranked:
            some = cut(self.checkpoint.model, self.coupling, only_classes(self.coupling, removal))
            self._ranked[kept] = self.ranking.of_classes(some)
        return self._ranked[kept]

    @cached_property
    def _ranked(self) -> dict[tuple[int, ...], Ranking]:
        return {}

    def after(self, dropped: Dropped) -> Analysis:
        """The analysis where some inner blocks are gone already: what is left to cut, in the same numbering."""
        if not dropped:
            return self
        left = replace(self, coupling=after(self.coupling, dropped))
        left.__dict__.update(ranking=self.ranking, _ranked=self._ranked)
        return left

    @property
    def image_shape(self) -> tuple[int, int, int, int]:
        """The shape of one input image with its batch dimension."""
        return 1, image_channels(self.skeleton), self.imgsz, self.imgsz

    @property
    def inputs(self) -> Inputs:
        """The arguments of the forward: the checkpoint's own inputs, or an image."""
        return self.checkpoint.inputs or image_of(self.image_shape)


def trace_model(
    model: nn.Module, given: Inputs | Sequence[int] | None = None, approximate: bool = False, watched: bool = True
) -> tuple[nn.Module, CouplingMap]:
    """The skeleton and the coupling map of a model; `given`: legal inputs, or the shape of an image, by default the smallest one.

    `watched`: its forward may be given widths that only pass for integers.

    Raises:
        TraceError: the model's forward failed, or did not end.
    """
    with without_garbage_collection():
        skeleton = without_weights(model)
        return skeleton, traced(skeleton, given or smallest_input(model), approximate, watched)


def trace_checkpoint(checkpoint: Checkpoint) -> tuple[nn.Module, CouplingMap]:
    """The skeleton and the coupling map of a checkpoint's model; the map of a file is traced once and kept in the cache folder.

    It is not kept where it depends on adapters that the key does not name: a program that runs may register another one at any time.

    Raises:
        TraceError: the model's forward failed, or did not end.
    """
    if not checkpoint.is_trained:  # its digest does not identify everything that an architecture is built from
        return trace_model(checkpoint.model, checkpoint.inputs, checkpoint.approximate, not checkpoint.shared)
    skeleton, shape = without_weights(checkpoint.model), smallest_input(checkpoint.model)
    key = cache.key_of(checkpoint.sha256, shape, code_of(checkpoint.own_names))
    if adapted_by_program(skeleton, with_packages=not key["adapters"]):
        return skeleton, traced(skeleton, shape)
    coupling = cache.load(key, skeleton)
    if coupling is None:
        coupling = traced(skeleton, shape)
        cache.store(key, coupling)
    return skeleton, coupling


def smallest_input(model: nn.Module) -> tuple[int, int, int, int]:
    """The shape of the smallest image that every family accepts: two of the largest strides to a side."""
    side = 2 * stride_of(model)
    return 1, image_channels(model), side, side


def traced(skeleton: nn.Module, given: Inputs | Sequence[int], approximate: bool = False, watched: bool = True) -> CouplingMap:
    """The coupling map of a model on the meta device, with the time that the trace took.

    Raises:
        TraceError: the forward failed, or did not end.
        RequestError: an installed package's adapters cannot be imported.
    """
    if runs_foreign_code(skeleton):
        installed_adapters()  # not while operations are traced
    # Late: where the map comes from the cache, neither the tracer nor its rules are needed.
    from tui_pruner.core.tracing.size_check import couple_with_size_check, difference, run
    from tui_pruner.core.tracing.tracer import Late, trace
    from tui_pruner.core.tracing.widths import WidthKept

    def recorded(watched: bool) -> FlowRecord:
        first = sharing_weights(skeleton)  # tensors that a forward stores must not meet those of a later run
        return trace(first, inputs, sequence(first), approximate, watched)

    started, inputs = time.perf_counter(), as_inputs(given)
    foreign = watched and (inputs.forward is not None or runs_foreign_code(skeleton))
    with without_garbage_collection():
        try:
            record = recorded(watched)
            if foreign and difference(record.steps, *run(sharing_weights(skeleton), inputs))[1]:  # it noticed that it was watched
                record = recorded(watched=False)
        except Late:
            raise
        except (TraceError, WidthKept):  # perhaps because of how it was watched
            logger.info("the forward is traced again without a watch", exc_info=True)
            record = recorded(watched=False)
        coupling = couple_with_size_check(record, skeleton, given)
    return with_classes(coupling, skeleton).timed(time.perf_counter() - started)


@contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Keep the garbage collector from running: in one trace it would walk all modules in memory several times, which takes longer."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def analyse(checkpoint: Checkpoint, imgsz: int | None = None) -> Analysis:
    """Analyse a checkpoint. `imgsz`, by default the one it was trained at, is rounded up to a multiple of the stride.

    Raises:
        TraceError: the model's forward failed, or a file's layers do not fit their classes.
    """
    try:
        return _analysed(checkpoint, imgsz)
    except (PrunerError, MemoryError):
        raise
    except Exception as error:
        if not checkpoint.is_trained:
            raise
        # A damaged file can have any value anywhere; if the fault is ours after all, the log has the traceback.
        logger.info("looking at %s", checkpoint.path, exc_info=True)
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise TraceError(f"{checkpoint.path} has layers that are not as Ultralytics makes them ({reason}): fetch the file again") from error


def _analysed(checkpoint: Checkpoint, imgsz: int | None) -> Analysis:
    skeleton, coupling = trace_checkpoint(checkpoint)
    wanted = imgsz or checkpoint.default_imgsz
    side = legal_side(wanted, checkpoint.stride) if checkpoint.inputs is None else wanted
    notes = [f"imgsz {wanted} rounded up to {side}: a multiple of the stride {checkpoint.stride}"] if side != wanted else []
    notes += [f"no rule for {name} ({count} times): what enters it is locked" for name, count in coupling.unknown_operations.items()]
    notes += coupling.remarks
    if coupling.approximate:
        notes.append(f"{plural(len(coupling.approximate), 'normalisation')} across channels will be over those that are left: {NOT_EQUAL}")
    if coupling.scaled:
        notes.append(f"{plural(len(coupling.scaled), 'attention')} without a scale of its own will have its query scaled: {NOT_EQUAL}")
    measured = sharing_weights(skeleton)
    inputs = checkpoint.inputs or image_of((1, image_channels(skeleton), side, side))
    return Analysis(
        checkpoint=checkpoint,
        skeleton=skeleton,
        blocks=block_tree(checkpoint.model, checkpoint.original_yaml, coupling.output_axes),
        coupling=coupling,
        measurement=measure(measured, inputs, sequence(measured)),
        imgsz=side,
        notes=tuple(notes),
    )
