"""One forward remembered block by block, so that a changed copy of the network computes only what the change can reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from tui_pruner.core.blocks import sequence
from tui_pruner.core.predictions import predictions
from tui_pruner.core.sharing import below, with_own
from tui_pruner.core.skeleton import OWN_TABLES, sharing_weights

SCALARS = (bool, int, float, str, type(None))


@dataclass(frozen=True)
class Recording:
    """What a network predicted, and what each of its blocks but the last handed out."""

    predictions: list[Tensor]
    outputs: dict[str, Any] = field(default_factory=dict)


def head_of(model: nn.Module) -> nn.Module | None:
    """The last block of an Ultralytics model."""
    return sequence(model)[-1][1] if isinstance(getattr(model, "model", None), nn.Sequential) else None


def chain(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """The blocks of an Ultralytics model but its head, in the order in which they run; none for any other network."""
    return sequence(model)[:-1] if head_of(model) is not None else []


def record(model: nn.Module, image: Tensor) -> Recording:
    """Run a network and remember its blocks. A later block may work in place, so what is kept is a copy."""
    outputs: dict[str, Any] = {}

    def remembering(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            outputs[path] = copied(output)

        return hook

    running = private(model)
    with ExitStack() as hooks:
        for path, block in chain(running):
            hooks.callback(block.register_forward_hook(remembering(path)).remove)
        return Recording(predicted(running, image), outputs)


def continued(model: nn.Module, original: nn.Module, recording: Recording, image: Tensor) -> list[Tensor]:
    """What a changed copy of a recorded network predicts on the recorded image, computed from its first changed block on."""
    blocks = unchanged_blocks(model, original)
    running = private(model, blocks)
    for path in blocks:
        running.get_submodule(path).__dict__["forward"] = answering(recording.outputs[path])
    return predicted(running, image)


def private(model: nn.Module, blocks: Sequence[str] = ()) -> nn.Module:
    """A copy that can be run, and whose `blocks` can be altered, without a trace of it in the model: only heads remember a forward."""
    if head_of(model) is None or any(module.training for module in model.modules()):
        return sharing_weights(model)
    return with_own(model, [*blocks, *below(model, sequence(model)[-1][0])])


def predicted(model: nn.Module, image: Tensor) -> list[Tensor]:
    """The predicted tensors that can differ by rounding: those of real numbers."""
    return [leaf for leaf in predictions(model, head_of(model), image) if leaf.is_floating_point() and leaf.numel()]


def copied(tree: Any) -> Any:
    """A nested structure with a copy of every tensor in it."""
    return tree_map(lambda leaf: leaf.clone() if isinstance(leaf, Tensor) else leaf, tree)


def unchanged_blocks(model: nn.Module, original: nn.Module) -> list[str]:
    """The blocks in front of the first one that differs: what reaches them is the same in both networks, and so is what they compute."""
    if not chain(original) or not alike(model, original, ("_modules",)):
        return []
    same = []
    for (path, block), (_, known) in zip(chain(model), chain(original)):
        if not alike(block, known):
            break
        same.append(path)
    return same


def alike(left: nn.Module, right: nn.Module, leave_out: tuple[str, ...] = ()) -> bool:
    """Whether two modules cannot but compute the same: one class, the very same tensors, equal attributes, and children likewise."""
    mine, other = vars(left), vars(right)
    if type(left) is not type(right) or mine.keys() != other.keys():
        return False
    return all(alike_in(name, value, other[name]) for name, value in mine.items() if value is not other[name] and name not in leave_out)


def alike_in(name: str, mine: Any, other: Any) -> bool:
    """Whether one attribute of two modules is the same."""
    if name == "_modules":
        return mine.keys() == other.keys() and all(
            mine[key] is other[key] or (mine[key] is not None and other[key] is not None and alike(mine[key], other[key])) for key in mine
        )
    if name in OWN_TABLES:
        return mine.keys() == other.keys() and all(mine[key] is other[key] for key in mine)
    return isinstance(mine, SCALARS) and isinstance(other, SCALARS) and mine == other


def answering(output: Any) -> Callable[..., Any]:
    """A forward that always gives the same."""
    return lambda *args, **kwargs: copied(output)
