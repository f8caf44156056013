"""What Ultralytics' modules assume beside their weights, registered with the core when this package is imported.

Attributes to rewrite after a cut, widths that must stay equal, heads with one output for each class, repeats that may be dropped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner.core.model.layers import IN_BLOCKS
from tui_pruner.core.model.predictions import DETECTION_HEADS
from tui_pruner.core.model.recorded_forward import STATELESS
from tui_pruner.core.pruning.classes import HEADS, Head
from tui_pruner.core.tracing.adapters import COMPUTES, HEADED, LIBRARIES, NAMES_MORE, Kept, adapter, convolution_of
from tui_pruner.core.tracing.adapters import EQUAL_WIDTHS as KNOWN_EQUAL_WIDTHS
from tui_pruner.core.tracing.cache import DEPENDS_ON
from tui_pruner.core.tracing.inner_blocks import ENDS, Ends


def heads_left(module: nn.Module, kept: Kept, width: int) -> int:
    """How many heads still have channels; `width` is what qkv produced for each. `num_heads` is still the original's."""
    indices = kept("qkv.conv")
    heads = int(module.num_heads)  # type: ignore[arg-type]
    return heads if indices is None else len({index // width for index in indices})


@adapter("C2f", "C2fAttn", "C2", "C2PSA", "PSA", "RepNCSPELAN4", "ELAN1", asks=["cv1"])
def half_width(module: nn.Module, kept: Kept) -> None:
    """`c`: the width of each of the two halves that cv1's output is split into (`forward_split` reads it at export)."""
    module.__dict__["c"] = int(convolution_of(module, "cv1").out_channels) // 2


@adapter("Attention", asks=["qkv", "proj", "num_heads", "key_dim", "head_dim"])
def key_and_value_widths(module: nn.Module, kept: Kept) -> None:
    """The number of heads, `head_dim` from the projection's input, `key_dim` from the rest of qkv's outputs; `scale` stays."""
    heads = heads_left(module, kept, 2 * int(module.key_dim) + int(module.head_dim))  # type: ignore[arg-type]
    value = int(convolution_of(module, "proj").in_channels) // heads
    key = (int(convolution_of(module, "qkv").out_channels) // heads - value) // 2
    module.__dict__.update(num_heads=heads, head_dim=value, key_dim=key)


@adapter("AAttn", asks=["qkv", "num_heads", "head_dim"])
def area_attention_widths(module: nn.Module, kept: Kept) -> None:
    """Heads, `head_dim`, `all_head_dim`. The forward scales by the new head_dim, so the queries' norm is rescaled to keep the old scale."""
    old = int(module.head_dim)  # type: ignore[arg-type]
    heads = heads_left(module, kept, 3 * old)
    new = int(convolution_of(module, "qkv").out_channels) // (3 * heads)
    module.__dict__.update(num_heads=heads, head_dim=new, all_head_dim=new * heads)
    if new == old:
        return
    norm = module.get_submodule("qkv.bn")
    queries = torch.arange(3 * heads * new) % (3 * new) < new
    factor = torch.where(queries, (new / old) ** 0.5, 1.0)
    for name in ("weight", "bias"):
        parameter: Any = getattr(norm, name)
        scaled = parameter.detach() * factor.to(parameter.device, parameter.dtype)
        setattr(norm, name, nn.Parameter(scaled, requires_grad=parameter.requires_grad))


@adapter("CBLinear", asks=["conv", "c2s"])
def part_widths(module: nn.Module, kept: Kept) -> None:
    """`c2s`: the widths of the parts that the output is split into, one for each level of the second backbone."""
    left = kept("conv")
    if left is not None:
        borders = np.cumsum([0, *module.c2s])  # type: ignore[misc]
        module.__dict__["c2s"] = np.histogram(left, borders)[0].tolist()


@adapter("MSDeformAttn", asks=["value_proj"])
def sampled_width(module: nn.Module, kept: Kept) -> None:
    """`d_model`: the width of the sampled values, of all heads together."""
    module.__dict__["d_model"] = int(module.get_submodule("value_proj").out_features)  # type: ignore[arg-type]


HEAD_MODULE = "ultralytics.nn.modules.head"


BOXES = 4
LABEL = 5
"""The column of a final detection with its class number."""
MAIN = frozenset({"output", "output[0]", "output[0][0]"})


def detection_layers(head: Any) -> list[str]:
    """Return the last layer of each branch that scores classes."""
    branches = [name for name in ("cv3", "one2one_cv3") if getattr(head, name, None) is not None]
    found = [f"{name}.{level}.{len(last) - 1}" for name in branches for level, last in enumerate(getattr(head, name))]
    semantic = getattr(getattr(head, "proto", None), "semseg", None)
    return [*found, f"proto.semseg.{len(semantic) - 1}"] if semantic is not None else found


def decoder_layers(head: Any) -> list[str]:
    """Return the layers that score queries, and the embedding of the classes that training adds noise to."""
    return ["enc_score_head", *(f"dec_score_head.{number}" for number in range(len(head.dec_score_head))), "denoising_class_embed"]


def detection_outputs(head: Any, place: str, leaf: Tensor, kept: Sequence[int]) -> Tensor:
    """Return an output of a dense head with only the kept classes."""
    if place.endswith("['scores']") or (place.endswith("['proto'][1]") and leaf.shape[1] == head.nc):
        return leaf[:, list(kept)]
    if place not in MAIN:
        return leaf
    if head.end2end:
        return relabelled(leaf, kept)
    stays = [*range(BOXES), *(BOXES + number for number in kept), *range(BOXES + head.nc, leaf.shape[1])]
    return leaf[:, stays]


def decoder_outputs(head: Any, place: str, leaf: Tensor, kept: Sequence[int]) -> Tensor:
    """Return an output of a decoder with only the kept classes."""
    if place == "output[0]" and leaf.ndim == 3 and leaf.shape[-1] == LABEL + 1:
        return relabelled(leaf, kept)
    return leaf[..., list(kept)] if place in ("output[1][1]", "output[1][3]", "output[1]", "output[3]") else leaf


def relabelled(detections: Tensor, kept: Sequence[int]) -> Tensor:
    """Return final detections [images, n, 6 or more] renumbered, -1 where the class is gone; without trailing ones of that kind."""
    old = detections[..., LABEL]
    new = torch.full_like(old, -1)
    for number, before in enumerate(kept):
        new[old == before] = number
    there = int((new >= 0).sum(1).min())
    return torch.cat([detections[..., :LABEL], new[..., None], detections[..., LABEL + 1 :]], -1)[:, :there]


DENSE = Head(detection_layers, detection_outputs, lambda head: not head.end2end)
OWN_HEADS: dict[str, Head] = {
    **dict.fromkeys(("Detect", "v10Detect", "Segment", "Segment26", "Pose", "Pose26", "OBB", "OBB26"), DENSE),
    "Classify": Head(lambda head: ["linear"], lambda head, place, leaf, kept: leaf[:, list(kept)], lambda head: True),
    "RTDETRDecoder": Head(decoder_layers, decoder_outputs),
}
EQUAL_WIDTHS: dict[str, tuple[tuple[str, str], ...]] = {
    # view(B, C, H, W) with the C of the input: the values of all heads together stay as wide as the input
    "Attention": (("qkv.conv", "proj.conv"),),
}
OWN_ENDS: dict[str, Ends] = {
    "Bottleneck": lambda module: ["cv2"] if module.add else [],
    "CIB": lambda module: ["cv1.4"] if module.add else [],
    "GhostBottleneck": lambda module: ["conv.2.cv1", "conv.2.cv2"] if isinstance(module.shortcut, nn.Identity) else [],
    "PSABlock": lambda module: ["attn.proj", "ffn.1"] if module.add else [],
    "ABlock": lambda module: ["attn.proj", "mlp.1"],
}


def is_detect(module: nn.Module) -> bool:
    """Whether a module is Ultralytics' `Detect` or of a subclass."""
    heads: Any = sys.modules.get(HEAD_MODULE)
    return heads is not None and isinstance(module, heads.Detect)


LIBRARIES.append("ultralytics.nn.")
NAMES_MORE.add("MSDeformAttn")
COMPUTES.update(("ADown", "A2C2f"))
HEADED.update(("Attention", "AAttn"))
KNOWN_EQUAL_WIDTHS.update(EQUAL_WIDTHS)
ENDS.update(OWN_ENDS)
HEADS.update({f"{HEAD_MODULE}.{name}": head for name, head in OWN_HEADS.items()})
STATELESS.append("ultralytics.")
IN_BLOCKS.append("ultralytics.")
DETECTION_HEADS.append(is_detect)
DEPENDS_ON.append(Path(__file__))
