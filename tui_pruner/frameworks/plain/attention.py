"""`nn.MultiheadAttention` with widths of its own: PyTorch's forward demands that the heads together are as wide as what they read.

A copy of a module has its attentions rewritten before it is traced. They compute the same from the same parameters, but ask these for their
widths, so that the keys and the values of every head can lose channels independently of it. Those that lost nothing are handed out as
PyTorch's again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tui_pruner.core.model.layers import PROJECTING
from tui_pruner.core.tracing.adapters import Kept, register_own
from tui_pruner.core.tracing.cache import DEPENDS_ON


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
        """How many channels it writes: queries, keys and values of all heads."""
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
        """Compute what `nn.MultiheadAttention` computes; a mask counts, no matter what `is_causal` says of it."""
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
        """Queries, keys and values of all heads, [batch, places, channels]."""
        keys, values = self.num_heads * self.key_width, self.num_heads * self.value_width
        sizes = [keys, keys, values]
        if query is key and key is value:
            return torch.split(F.linear(self._batch_first(query), self.in_proj_weight, self.in_proj_bias), sizes, -1)
        given = [self._batch_first(one) for one in (query, key, value)]
        biases: Any = [None] * 3 if self.in_proj_bias is None else torch.split(self.in_proj_bias, sizes)
        return [F.linear(*one) for one in zip(given, torch.split(self.in_proj_weight, sizes), biases)]

    def _batch_first(self, given: Tensor) -> Tensor:
        """Return an input as [batch, places, channels]."""
        if given.dim() == 2:
            return given.unsqueeze(0)
        return given if self.batch_first else given.transpose(0, 1)

    def _heads(self, projected: Tensor) -> Tensor:
        """[batch, places, channels] to [batch, heads, places, channels of a head]."""
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
    """The widths of a head: `out_proj` reads the values of all heads; what else the projection writes are queries and keys."""
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


def free_attentions(model: nn.Module) -> nn.Module:
    """Rewrite the attentions of a model that is a copy; the very model. PyTorch's fused layers then leave them alone."""
    for module in model.modules():
        if rewritable(module):
            attention: Any = module
            width = int(attention.head_dim)
            attention.__class__ = NarrowAttention
            attention.scale, attention.key_width, attention.value_width = width**-0.5, width, width
            attention._qkv_same_embed_dim = False
    return model


def settle_attentions(model: nn.Module) -> nn.Module:
    """Make attentions that lost nothing PyTorch's own again; the very model."""
    for module in model.modules():
        attention: Any = module
        if isinstance(module, NarrowAttention) and lost_nothing(attention):
            attention.__class__ = nn.MultiheadAttention
            attention._qkv_same_embed_dim = True
            del attention.scale, attention.key_width, attention.value_width
    return model


def lost_nothing(attention: Any) -> bool:
    """Whether the widths of an attention are those that PyTorch's forward demands."""
    width = attention.num_heads * attention.head_dim
    return list(attention.in_proj_weight.shape) == [3 * width, width] and list(attention.out_proj.weight.shape) == [width, width]


PROJECTING.append(NarrowAttention)
register_own({NarrowAttention: narrow})
DEPENDS_ON.append(Path(__file__))
