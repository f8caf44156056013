"""Run a model's own forward on the meta device while labels follow every channel: each operation is applied to the labels as well."""

from __future__ import annotations

import traceback
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

import tui_pruner
from tui_pruner.core.model.copies import Parts, modules_of, owners_of_tensors
from tui_pruner.core.model.inputs import Inputs, as_inputs
from tui_pruner.core.model.layers import keeps_own_widths
from tui_pruner.core.model.predictions import Unseen, features_passed_through, predicted, tensors
from tui_pruner.core.tracing.adapters import EQUAL_WIDTHS, equal_widths, is_plain, own_adapter, runs_foreign_code
from tui_pruner.core.tracing.inner_blocks import InnerLabels, repeats_of, silenced_by
from tui_pruner.core.tracing.labels import Axis, FlowRecord, Labels, LinkedLabels, along, vector_along
from tui_pruner.core.tracing.meta_device import training_paths
from tui_pruner.core.tracing.rules import contraction, elementwise, kernels, movement  # noqa: F401  # they fill the table of rules
from tui_pruner.core.tracing.state import ENDING, Flow, numbers_in
from tui_pruner.core.tracing.watch import widths_in_attributes
from tui_pruner.core.tracing.width_search import lock_values, name_by_what_they_count
from tui_pruner.core.tracing.widths import WidthKept, without_widths
from tui_pruner.domain.deadlines import TimeUp, deadline
from tui_pruner.domain.errors import TraceError


class Late(TraceError):
    """A forward did not end."""


def link_equal_widths(flow: Flow, parts: Parts) -> None:
    """Link widths that no operation ties: those that a module's forward takes from its input's shape and expects elsewhere.

    Where one of the layers has no known channels, the channels of the other are locked.
    """
    kinds = {kind for kind in {type(module) for _, module in parts} if any(base.__name__ in EQUAL_WIDTHS for base in kind.__mro__)}
    reads = {axis.module: flow.record.source.labels_of(axis) for axis, role in flow.record.roles.items() if role == "in"}
    for path, module in parts:
        for pair in equal_widths(module) if type(module) in kinds else ():
            vectors = tuple(reads[f"{path}.{layer}"] for layer in pair if f"{path}.{layer}" in reads)
            operation = flow.record.note("same width", path)
            if len(vectors) == len(pair):
                flow.record.links.append(LinkedLabels(operation.index, vectors))
            for vector in vectors if len(vectors) < len(pair) else ():
                flow.record.lock(operation.index, vector, "must stay as wide as another layer, whose channels are not known")


def link_states(flow: Flow, parts: Parts) -> None:
    """Link the states of all layers and directions of a recurrent layer, whose width is a single attribute."""
    starts = flow.record.source.starts
    for path, module in parts:
        if isinstance(module, nn.RNNBase) and not keeps_own_widths(module):
            states = [Axis(f"{path}.{name}".lstrip("."), 1) for name in module._flat_weights_names if name.startswith("weight_hh")]
            vectors = tuple(flow.record.source.labels_of(axis) for axis in states if axis in starts)
            if len(vectors) > 1:
                flow.record.links.append(LinkedLabels(flow.record.note("same width", path).index, vectors))


def lock_own_widths(flow: Flow, parts: Parts) -> None:
    """Lock the parameters of PyTorch modules that keep widths in attributes which nothing rewrites."""
    names: dict[type, str] = {}
    for path, module in parts:
        kind = type(module)
        if kind not in names:
            names[kind] = keeps_own_widths(module)
        name = names[kind]
        if not name or not (module._parameters or module._modules) or own_adapter(module) is not None:
            continue
        own = [*module.parameters(recurse=False), *getattr(module, "parametrizations", nn.Module()).parameters()]
        if own:
            operation = flow.record.note(name, path)
            flow.lock_at(operation.index, own, f"PyTorch's {name} keeps its widths in attributes", 0, rank=2)


LONGEST_RUN = 120.0
"""Seconds that a forward may take on the meta device."""


NO_VALUES = (
    "on meta",
    "meta device",
    "meta tensor",
    "Meta tensor",
    "out of meta",
    "data-independent",
    "data-dependent",
    "'meta'",
    "fake value",
)
"""How PyTorch reports that the value of a meta tensor was asked for."""
LONGEST_QUOTE = 160
LONGEST_LINE = 60


def in_words(error: Exception, place: str) -> str:
    """Describe why a forward failed."""
    said = quoted(error)
    if any(phrase in said for phrase in NO_VALUES):
        why = "; ".join(part for part in (said[:LONGEST_LINE], line_of(error)) if part)
        return f"{place} decides by a computed value, which a trace of the shapes does not have: such a forward cannot be followed ({why})"
    return f"the forward stopped in {place}: {said}"


def line_of(error: Exception) -> str:
    """The last line of the traceback in a file that belongs neither to PyTorch nor to this package, if any."""
    libraries = tuple(str(Path(file).parent) for file in (torch.__file__, tui_pruner.__file__))
    lines = [at for at in traceback.extract_tb(error.__traceback__) if not at.filename.startswith((*libraries, "<"))]
    said = " ".join((lines[-1].line or "").split()) if lines else ""
    return f"line {lines[-1].lineno} of {Path(lines[-1].filename).name}: {said[:LONGEST_LINE]}" if lines else ""


def quoted(error: Exception) -> str:
    """The first line of an exception's message."""
    said = " ".join((str(error).splitlines() or [""])[0].split()) or type(error).__name__
    said = f"{type(error).__name__}: {said}" if isinstance(error, LookupError) else said
    return said if len(said) <= LONGEST_QUOTE else f"{said[:LONGEST_QUOTE]}..."


OF_NO_SIZES = frozenset(f"torch.nn.modules.{name}" for name in ("activation", "batchnorm", "conv", "dropout", "linear", "pooling"))
"""The modules of PyTorch's layers whose forward gives no operation a size to follow."""


def first_channels(labels: Tensor) -> Labels:
    """The labels of all channels of a feature map at one position."""
    return np.ascontiguousarray(vector_along(labels, 1))


def plain_modules(modules: Collection[nn.Module]) -> set[nn.Module]:
    """Those whose forward computes with no width; none where a hook runs, as part of the module around its own."""
    everywhere = (*hooks._global_forward_hooks.values(), *hooks._global_forward_pre_hooks.values())
    hooked = any(not hook.__module__.startswith("tui_pruner.") for hook in everywhere) or any(module._forward_hooks for module in modules)
    return set() if hooked else set(filter(is_plain, modules))


@contextmanager
def following_modules(flow: Flow, parts: Parts, blocks: Container[nn.Module], found: Parts) -> Iterator[None]:
    """Tell the flow which module is running, and keep the labels of each block's output, and around the repeats that were found.

    The hooks are global: two hooks for each of a thousand modules take longer to register than many a trace.
    """
    paths = {module: path for path, module in parts}
    unwatched = plain_modules(paths) if flow.watch.on else set()
    layers = {module for module in unwatched if not module._modules and type(module).__module__ in OF_NO_SIZES}
    repeats = {module: path for path, module in found}
    around: list[tuple[nn.Module, Any]] = []
    tensors_of_repeats: dict[str, tuple[nn.Module, Tensor, Tensor]] = {}

    def enter(module: nn.Module, args: Any) -> None:
        if module in paths:
            flow.modules.append(paths[module])
            flow.entered.append(len(flow.record.operations))
            flow.given.append(args)
            around.append((flow.running, by_operations_only(args) if module in layers else None))
            flow.running = module
            flow.watch.quiet = not flow.watch.on or module in unwatched

    def out() -> str:
        flow.running, only = around.pop()
        if only is not None:
            only.__exit__(None, None, None)
        flow.entered.pop()
        flow.given.pop()
        return flow.modules.pop()

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if module not in paths:
            return
        while around and flow.running is not module:  # the forward caught what a layer raised, and ran on unwatched
            flow.watch.blind = True
            out()
        flow.watch.quiet = True
        path = out()
        if module in blocks and isinstance(output, Tensor) and output.ndim > 1:
            flow.outputs[path] = flow.aside(output)
        if module in repeats and path not in tensors_of_repeats and replaceable(args, output):
            # Labels are read after the trace: an operation on them here would be recorded as one of the forward.
            tensors_of_repeats[path] = module, flow.aside(args[0]), flow.aside(output)
        flow.watch.quiet = not flow.watch.on or bool(around and flow.running in unwatched)

    handles = register_module_forward_pre_hook(enter), register_module_forward_hook(leave)
    try:
        yield
    finally:
        for only in [only for _, only in reversed(around) if only is not None]:  # where a forward failed
            only.__exit__(None, None, None)
        for handle in handles:
            handle.remove()
    keep_repeats(flow, tensors_of_repeats)


def keep_repeats(flow: Flow, found: Mapping[str, tuple[nn.Module, Tensor, Tensor]]) -> None:
    """Keep the labels around repeats, by path: each with the labels of its input and of its output."""
    owners = owners_of_tensors(flow.model) if found else {}
    for path, (module, inputs, outputs) in found.items():
        places = first_channels(inputs), first_channels(outputs)
        silenced = tuple(f"{path}.{name}" for name in silenced_by(module))
        alone = all(len(owners.get(name, ())) == 1 for name in silenced)  # none where several modules share it
        flow.record.inner[path] = InnerLabels(type(module).__name__, *places, silenced if alone else ())


def by_operations_only(args: Sequence[Any]) -> Any:
    """Turn off what handles tensor functions, which PyTorch's layers need not be seen to call, where the only argument has no values.

    Return what turns it on again by `__exit__`; None where it stays on.
    """
    only = torch._C.DisableTorchFunction()
    only.__enter__()
    if len(args) == 1 and isinstance(args[0], Tensor) and args[0].is_meta:
        return only
    only.__exit__(None, None, None)
    return None


def replaceable(args: Any, output: Any) -> bool:
    """Whether a module maps one tensor to one of the same shape, so that its input can replace its output."""
    given = args[0] if len(args) == 1 else None
    return isinstance(given, Tensor) and isinstance(output, Tensor) and given.ndim > 1 and given.shape == output.shape


def trace(
    skeleton: nn.Module,
    given: Inputs | Sequence[int],
    blocks: Sequence[tuple[str, nn.Module]] = (),
    approximate: bool = False,
    watched: bool = False,
) -> FlowRecord:
    """Follow the channels of a model through one forward.

    Args:
        skeleton: the model on the meta device, in evaluation mode (`skeleton.without_weights`).
        given: the inputs, or the shape of an image [batch, channels, height, width]; as small as the model allows.
        blocks: path and module of the model's blocks.
        approximate: normalisations across channels do not hold them, but are over those that are left.
        watched: note what the forward does with widths.

    Raises:
        TraceError: the forward failed, or no tensor is found in what it returns.
        WidthKept: the forward cannot be watched.
    """
    flow = Flow(skeleton, approximate)
    inputs = as_inputs(given).on_meta()
    lock_inputs(flow, inputs)
    watch = flow.watch.begun() if watched and any(tensor.is_meta for tensor in inputs.tensors) else None
    parts, naming = modules_of(skeleton), False
    repeats = list(repeats_of(skeleton, parts))
    with (
        ExitStack() as attributes,
        torch.no_grad(),
        following_modules(flow, parts, {module for _, module in blocks}, repeats),
        features_passed_through(skeleton) as features,
    ):
        if watch is not None:
            foreign = inputs.forward is not None or runs_foreign_code(skeleton)
            naming = foreign and isinstance(given, Inputs)
            attributes.enter_context(widths_in_attributes(parts, watch, foreign, naming))
        try:
            with deadline(LONGEST_RUN), flow:
                depth = len(flow.modules)
                given_back = inputs.run(skeleton, watch)
                attributes.close()
                if watch is not None:
                    watch.blind = watch.blind or len(flow.modules) > depth
                    watch.end()
                    if watch.kept:  # and the forward caught what that raised
                        raise WidthKept
                flow.ended = True
                flow.record.steps.append((ENDING, numbers_in(without_widths(given_back, []))))
                leaves = predicted(given_back, features)
                flow.watch.note_returned(leaves.values())
                outputs = tensors(leaves)
                idle = flow.dependence.idle(outputs)
                outputs += trained(skeleton, inputs, flow, idle, features)
        except TraceError:
            raise
        except Unseen as error:
            raise TraceError(str(error)) from None
        except TimeUp:
            late = f"the forward of {type(skeleton).__name__} had not ended after {LONGEST_RUN:g} seconds, in {flow.place}"
            raise Late(f"{late}: trace a model that ends") from None
        except Exception as error:
            raise TraceError(in_words(error, flow.place)) from error
    if watch is not None:
        flow.record.counted = watch.counted
        name_by_what_they_count(flow.record)
        lock_values(flow.record, watch.valued)
        flow.record.decided = watch.decided()
        watch.forget()
    flow.record.block_outputs.update({path: first_channels(labels) for path, labels in flow.outputs.items()})
    contraction.make_up_for_roots(flow, naming and approximate)
    link_equal_widths(flow, parts)
    link_states(flow, parts)
    lock_own_widths(flow, parts)
    lock_contradictory_divisors(flow)
    told = [path for path, _ in repeats if not any(name.startswith(f"{path}.") for name in idle)]  # by a prediction
    flow.record.inner = {path: flow.record.inner[path] for path in told if path in flow.record.inner}
    end = flow.record.note("output", flow.modules[-1])
    for leaf in outputs:
        flow.lock_at(end.index, [leaf], "feeds the model's predictions", 1, rank=0)
    lock_unused_inputs(flow, idle - flow.dependence.read_by([*outputs, *flow.dependence.state.values()]))
    return flow.record


def lock_inputs(flow: Flow, inputs: Inputs) -> None:
    """Label the channels of the forward's inputs and lock them; tensors of integers have none."""
    start, first = flow.record.note("input", ""), flow.record.source.count
    flow.watch.made.update(map(id, inputs.tensors))
    for tensor in inputs.tensors:
        if tensor.is_meta and tensor.ndim > 1:
            channels = flow.record.source.fresh(tensor.shape[1])
            flow.put(tensor, along(channels, 1, tensor.shape))
            flow.record.lock(start.index, channels, f"reads the {inputs.name}", 1, rank=1)
    flow.given_labels = (first, flow.record.source.count)


def lock_contradictory_divisors(flow: Flow) -> None:
    """Lock parameters that one operation divides by and another needs to be zero in a removed channel."""
    for axis in sorted(flow.record.spared & flow.record.relied):
        operation = flow.record.note("division", axis.module)
        labels = flow.record.source.labels_of(axis)
        flow.record.lock(operation.index, labels, "is divided by in one place and summed over in another", axis.dim)


def trained(skeleton: nn.Module, inputs: Inputs, flow: Flow, idle: set[str], features: Mapping[int, Tensor]) -> list[Tensor]:
    """Return what the model predicts on the paths of training, where some parameters do not affect its predictions.

    An auxiliary head runs in training only, or its result is thrown away elsewhere, but it reads channels that may be cut. Where these
    paths cannot be run there are no further predictions; what an auxiliary head reads is locked where the image is too small for it.
    """
    depth = len(flow.modules)
    with training_paths(skeleton, idle) as found:
        try:
            return tensors(predicted(inputs.run(skeleton), features)) if found else []
        except (TraceError, TimeUp):
            raise
        except Exception as error:
            unread = idle - flow.dependence.read
            if unread:
                lock_inputs_of_failed_module(
                    flow, skeleton, {skeleton.get_submodule(name.rpartition(".")[0]) for name in unread}, error, depth
                )
            del flow.modules[depth:], flow.entered[depth:], flow.given[depth:]
            return []


def lock_inputs_of_failed_module(flow: Flow, model: nn.Module, idle: set[nn.Module], error: Exception, depth: int) -> None:
    """Lock what the first module reads that runs in training only, where its forward fails."""
    said, place = quoted(error), flow.place
    read = next((n for n in range(depth, len(flow.modules)) if only_in_training(model.get_submodule(flow.modules[n]), idle)), None)
    if read is not None:
        place = flow.modules[read]
        operation = flow.record.note("training", place).index
        flow.lock_at(operation, tensors(flow.given[read]), f"is read in training only, where it stops: {said}")
    left = "what it reads stays as it is" if read is not None else "layers that only training runs may not fit the pruned model"
    flow.record.remarks.append(f"the forward of training cannot be followed, as it stops in {place} ({said}): {left}")


def only_in_training(module: nn.Module, idle: set[nn.Module]) -> bool:
    """Whether evaluation reads no parameter of a module or of its children."""
    owners = [part for part in module.modules() if part._parameters]
    return bool(owners) and idle.issuperset(owners)


def lock_unused_inputs(flow: Flow, idle: set[str]) -> None:
    """Lock what the forward reads although no output depends on it: the proof could not detect a wrong cut there."""
    read = [flow.dependence.tensors[name] for name in sorted(idle & flow.dependence.read)]
    if read:
        operation = flow.record.note("output", flow.modules[-1])
        flow.lock_at(operation.index, read, "is read by what no prediction depends on, so no proof could tell", 1, rank=2)
