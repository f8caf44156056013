"""Rules of operations on spectra and complex numbers: a transform along dimensions without channels leaves channels alone."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from tui_pruner.core.tracing.labels import varies
from tui_pruner.core.tracing.rules.elementwise import together
from tui_pruner.core.tracing.state import Call, Flow, rule


@rule("_fft_r2c _fft_c2c _fft_c2r")
def transformed(flow: Flow, call: Call) -> None:
    """Every value of a spectrum is computed from all values along its dimensions."""
    source = call.args[0]
    flow_along(flow, call, source, [d % source.ndim for d in call.args[1]])


@rule("tril triu")
def triangle(flow: Flow, call: Call) -> None:
    """What is above or below the diagonal of the last two dimensions becomes zero, by its place."""
    source = call.args[0]
    flow_along(flow, call, source, [source.ndim - 2, source.ndim - 1])


def flow_along(flow: Flow, call: Call, source: Tensor, dims: Sequence[int]) -> None:
    """Pass channels on, unless these dimensions carry them."""
    labels = flow.elements(source)
    if any(varies(labels, d) for d in dims):
        flow.lock(call, [source], f"{call.name.strip('_')} mixes channels")
        return
    for d in dims:
        labels = labels.narrow(d, 0, 1)
    flow.put(call.result, labels.expand(call.result.shape))


@rule("view_as_real")
def parts(flow: Flow, call: Call) -> None:
    """Both parts of a complex number belong to its channel."""
    flow.put(call.result, flow.elements(call.args[0]).unsqueeze(-1).expand(call.result.shape))


@rule("view_as_complex")
def whole(flow: Flow, call: Call) -> None:
    """Two values are one number: of one channel, or held."""
    labels = flow.elements(call.args[0])
    if varies(labels, labels.ndim - 1):
        flow.lock(call, [call.args[0]], "view_as_complex makes one number of two channels")
    else:
        flow.put(call.result, labels.select(-1, 0))


@rule("complex polar")
def joined(flow: Flow, call: Call) -> None:
    """Two parts at one place are one channel, as in a sum."""
    together(flow, call)
