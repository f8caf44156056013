"""PyTorch's and torchvision's modules whose own forward cannot be traced or cut: attention, and detectors.

A copy of a module has each `nn.MultiheadAttention` rewritten before it is traced, since PyTorch's forward requires that all heads together
are as wide as their input. The rewritten ones compute the same from the same parameters, but take widths from the parameters' shapes, so
that keys and values of every head can lose channels independently. Those that lost nothing become PyTorch's class again.

torchvision's detectors are traced up to their heads' predictions: postprocessing selects boxes by value, which cannot be traced, and reads
no channels. Images go to the backbone as given, normalised but not resized. In an R-CNN, boxes at fixed places replace the proposals, so
that the heads of boxes, masks and keypoints are traced too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tui_pruner.core.model.inputs import Inputs
from tui_pruner.core.model.layers import PROJECTING
from tui_pruner.core.tracing.adapters import Kept, register_own
from tui_pruner.core.tracing.cache import DEPENDS_ON
from tui_pruner.domain.errors import RequestError


class NarrowAttention(nn.MultiheadAttention):
    """Attention whose heads may be narrower than its input: `key_width` channels a head for queries and keys, `value_width` for values.

    Products are scaled by `scale`, which stays that of the original.
    """

    scale: float
    key_width: int
    value_width: int

    @property
    def in_channels(self) -> int:
        """How many channels the projection reads."""
        return int(self.in_proj_weight.shape[1])

    @property
    def out_channels(self) -> int:
        """How many channels it produces: queries, keys and values of all heads."""
        return int(self.in_proj_weight.shape[0])

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Compute what `nn.MultiheadAttention` computes; a mask is always applied, with any `is_causal`."""
        batched = query.dim() == 3
        turned = batched and not self.batch_first
        q, k, v = (self._heads(one) for one in self._projected(query, key, value))
        mask = self._mask(attn_mask, key_padding_mask, query, q.shape[0])
        weights = None
        if need_weights:
            scores = q * self.scale @ k.transpose(-2, -1)
            weights = torch.softmax(scores if mask is None else scores + mask, -1)
            mixed = F.dropout(weights, self.dropout, self.training) @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            mixed = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0, scale=self.scale)
        output = self.out_proj(mixed.transpose(1, 2).flatten(2))
        if not batched:
            return output.squeeze(0), None if weights is None else weights.squeeze(0)
        return output.transpose(0, 1) if turned else output, weights

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> Any:
        """Queries, keys and values of all heads, [batch, positions, channels]."""
        keys, values = self.num_heads * self.key_width, self.num_heads * self.value_width
        sizes = [keys, keys, values]
        if query is key and key is value:
            return torch.split(F.linear(self._batch_first(query), self.in_proj_weight, self.in_proj_bias), sizes, -1)
        given = [self._batch_first(one) for one in (query, key, value)]
        biases: Any = [None] * 3 if self.in_proj_bias is None else torch.split(self.in_proj_bias, sizes)
        return [F.linear(*one) for one in zip(given, torch.split(self.in_proj_weight, sizes), biases)]

    def _batch_first(self, given: Tensor) -> Tensor:
        """Return an input as [batch, positions, channels]."""
        if given.dim() == 2:
            return given.unsqueeze(0)
        return given if self.batch_first else given.transpose(0, 1)

    def _heads(self, projected: Tensor) -> Tensor:
        """[batch, positions, channels] to [batch, heads, positions, channels of a head]."""
        return torch.unflatten(projected, -1, (self.num_heads, -1)).transpose(1, 2)

    def _mask(self, among: Tensor | None, padding: Tensor | None, query: Tensor, batch: int) -> Tensor | None:
        """Return what is added to the scores: both masks together, as numbers."""
        canonical: Any = F._canonical_mask
        kinds = {"other_type": None, "other_name": "", "target_type": query.dtype, "check_other": False}
        if among is not None:
            among = canonical(among, "attn_mask", **kinds)
            among = among.reshape(batch, self.num_heads, *among.shape[1:]) if among.dim() == 3 and among.shape[0] > 1 else among
        if padding is None:
            return among
        padding = canonical(padding, "key_padding_mask", **kinds).reshape(batch, 1, 1, -1)
        return padding if among is None else among + padding


def narrow(module: nn.Module, kept: Kept) -> None:
    """Set the widths of a head: `out_proj` reads the values of all heads; the rest of the projection's outputs are queries and keys."""
    attention: Any = module
    values = attention.out_proj.weight.shape[1]
    attention.value_width = values // attention.num_heads
    attention.key_width = (attention.in_proj_weight.shape[0] - values) // (2 * attention.num_heads)
    attention.embed_dim = attention.kdim = attention.vdim = attention.in_proj_weight.shape[1]


def rewritable(module: nn.Module) -> bool:
    """Whether an attention is PyTorch's own with one projection for queries, keys and values, and nothing appended to them."""
    attention: Any = module
    return (
        type(module) is nn.MultiheadAttention
        and attention.in_proj_weight is not None
        and attention.bias_k is None
        and not attention.add_zero_attn
    )


def free_attention(attention: Any) -> None:
    """Make an attention a `NarrowAttention`, in place. PyTorch's fused layers then do not use it."""
    width = int(attention.head_dim)
    attention.__class__ = NarrowAttention
    attention.scale, attention.key_width, attention.value_width = width**-0.5, width, width
    attention._qkv_same_embed_dim = False


def restore_attention(attention: Any) -> None:
    """Give an attention PyTorch's own class again, in place."""
    attention.__class__ = nn.MultiheadAttention
    attention._qkv_same_embed_dim = True
    del attention.scale, attention.key_width, attention.value_width


def lost_nothing(attention: Any) -> bool:
    """Whether the widths of an attention are those that PyTorch's forward requires."""
    width = attention.num_heads * attention.head_dim
    return list(attention.in_proj_weight.shape) == [3 * width, width] and list(attention.out_proj.weight.shape) == [width, width]


def current_weights(module: Any) -> list[Tensor]:
    """The weights that a recurrent layer computes with: its parameters as they are now."""
    return [getattr(module, name) for name in module._flat_weights_names]


RECURRENT: dict[type[nn.Module], type[nn.Module]] = {
    kind: type(f"Narrow{kind.__name__}", (kind,), {"_flat_weights": property(current_weights, lambda module, weights: None)})
    for kind in (nn.LSTM, nn.GRU, nn.RNN)
}
"""PyTorch's recurrent layers, each with a class that computes the same, and has no list of weights that a cut or a copy would leave as
they were."""


STOCK_RECURRENT = {narrow: kind for kind, narrow in RECURRENT.items()}


def free_widths(model: nn.Module) -> nn.Module:
    """Rewrite the attentions and recurrent layers of a model in place, which must be a copy, so that they can be cut; return it."""
    for module in model.modules():
        if rewritable(module):
            free_attention(module)
        elif type(module) in RECURRENT and not getattr(module, "proj_size", 0):
            del module.__dict__["_flat_weights"]
            module.__class__ = RECURRENT[type(module)]
    return model


COMPILED, WRAPPED = "OptimizedModule", "_orig_mod"
"""The class of what `torch.compile` makes of a module, and its attribute that has the module."""


def uncompiled(module: nn.Module) -> nn.Module:
    """Have compiled parts of a module run what they wrap, in place, and return it: what the compiler made runs one module, and no copy."""
    for part in module.modules():
        if type(part).__name__ == COMPILED:
            part.__dict__["forward"] = MethodType(run_wrapped, part)  # which PyTorch drops from copies
    return module


def run_wrapped(module: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """Run the module that a compiled one wraps."""
    return getattr(module, WRAPPED)(*args, **kwargs)


def restore_classes(model: nn.Module) -> nn.Module:
    """Give recurrent layers, and attentions that lost nothing, PyTorch's own class again, compile what was, and return the model."""
    for module in model.modules():
        if isinstance(module, NarrowAttention) and lost_nothing(module):
            restore_attention(module)
        elif type(module) in STOCK_RECURRENT:
            module.__class__ = STOCK_RECURRENT[type(module)]
            module.__dict__["_flat_weights"] = current_weights(module)
        elif type(module).__name__ == COMPILED:
            kept: Any = module
            kept.__setstate__(kept.__getstate__())
    return model


PROJECTING += [NarrowAttention, *RECURRENT.values(), nn.RNNCellBase]
register_own({NarrowAttention: narrow})
DEPENDS_ON.append(Path(__file__))


PLACES = ((0.1, 0.1, 0.6, 0.7), (0.3, 0.2, 0.9, 0.9))
"""Left, top, right and bottom of the boxes that replace proposals, as shares of the image."""
IMAGE = 3
"""Dimensions of an image without a batch."""
HEADS = ("mask", "keypoint")
REMARK = "is followed to its heads' predictions, without what looks for boxes by their values: images are read in the size that is given"


def forward_of(module: nn.Module) -> Callable[..., Any] | None:
    """What to trace in place of the forward of a torchvision detector or a subclass; None for all other modules."""
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(module).__mro__}
    return next((forward for name, forward in FORWARDS.items() if f"torchvision.models.detection.{name}" in names), None)


def in_a_batch(given: Inputs) -> Inputs:
    """A detector's images as one tensor, where they are a list or tuple, as its own forward takes them, or a single image."""
    if not given.args:
        return given
    return replace(given, args=(as_batch(given.args[0]), *given.args[1:]))


def as_batch(images: Any) -> Tensor:
    """Images as a tensor [batch, channels, height, width].

    Raises:
        RequestError: they differ in size, or are no images.
    """
    listed = [images] if isinstance(images, Tensor) else list(images)
    parts = [image if image.ndim > IMAGE else image.unsqueeze(0) for image in listed if isinstance(image, Tensor)]
    if not parts or any(part.ndim != IMAGE + 1 or part.shape[1:] != parts[0].shape[1:] for part in parts):
        raise RequestError("a detector is followed on images of one size: give them as one tensor [batch, 3, height, width]")
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def features_of(detector: Any, images: Tensor) -> Mapping[str, Tensor]:
    """The feature maps that the backbone computes from normalised images, by name."""
    transform = detector.transform
    shape = (1, -1, *[1] * (IMAGE - 1))
    mean, std = (torch.as_tensor(list(v), dtype=images.dtype, device=images.device) for v in (transform.image_mean, transform.image_std))
    features = detector.backbone((images - mean.view(shape)) / std.view(shape))
    return {"0": features} if isinstance(features, Tensor) else features


def dense(detector: Any, images: Tensor, targets: Any = None) -> Any:
    """The predictions of a detector without proposals, for every anchor or position."""
    return detector.head(list(features_of(detector, images).values()))


def by_regions(detector: Any, images: Tensor, targets: Any = None) -> dict[str, Any]:
    """The predictions of an R-CNN for every anchor, and for fixed boxes on every feature map: classes, offsets, masks, keypoints."""
    features, heads = features_of(detector, images), detector.roi_heads
    found = {"proposals": detector.rpn.head(list(features.values()))}
    found["boxes"] = heads.box_predictor(heads.box_head(pooled(heads.box_roi_pool, features)))
    for name in HEADS:
        if (pool := getattr(heads, f"{name}_roi_pool", None)) is not None:
            read = getattr(heads, f"{name}_head")(pooled(pool, features))
            found[name] = getattr(heads, f"{name}_predictor")(read)
    return found


def pooled(pool: Any, features: Mapping[str, Tensor]) -> Tensor:
    """The features of the boxes at fixed places, from each feature map that a pool reads: [boxes, channels, height, width]."""
    from torchvision.ops import roi_align  # type: ignore[import-untyped]

    found = []
    for feature in (features[name] for name in pool.featmap_names if name in features):
        height, width = feature.shape[-2:]
        corners = [(0.0, left * width, top * height, right * width, bottom * height) for left, top, right, bottom in PLACES]
        boxes = torch.tensor(corners, dtype=feature.dtype, device=feature.device)
        found.append(roi_align(feature, boxes, pool.output_size, 1.0, pool.sampling_ratio))
    return torch.cat(found)


FORWARDS: dict[str, Callable[..., Any]] = {
    "retinanet.RetinaNet": dense,
    "fcos.FCOS": dense,
    "ssd.SSD": dense,
    "generalized_rcnn.GeneralizedRCNN": by_regions,
}
"""By class within `torchvision.models.detection`."""
