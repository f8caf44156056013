"""Changes that alter nothing that anyone could see, each with the reason; by module and function, and change."""

from __future__ import annotations

NOT_DISPATCHED = "PyTorch computes it before a trace could see it"
NO_PARAMETER = "what is no parameter is passed over further in as well"
HELD_ALREADY = "what is held stays held, whatever labels go on"
NO_LABELS = "where there are no labels, nothing is unified and nothing held"
TIED_ALREADY = "channels that are one need no link to stay equally many"
AT_IMPORT = "runs before anything is broken; each of its entries is removed on its own"
KEPT_SHAPE = "each of these operations keeps its input's shape"
REASON_ONLY = "a single channel is never cut: the lock only says why"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("contraction.convolution", "True for transposed"): "read for transposed convolutions only",
    ("contraction.convolution", "True for bias is not None"): NO_PARAMETER,
    ("contraction.weight_product", "True for bias is not None"): NO_PARAMETER,
    ("contraction.in_groups", "True for groups > 1"): "a link of one part demands nothing",
    ("contraction.activations", "without return"): HELD_ALREADY,
    ("reduction.reduction", "without return"): HELD_ALREADY,
    ("reduction.over_space", "without return"): HELD_ALREADY,
    ("folding.shuffle", "without flow.link(call, rows)"): TIED_ALREADY,
    ("folding.gated", "without flow.link(call, [flat(first), flat(second)])"): TIED_ALREADY,
    ("adapters.register", "without ADAPTERS.update(dict.fromkeys(classes, function))"): AT_IMPORT,
    ("layers.register", "without WIDTHS.update(dict.fromkeys(classes, function))"): AT_IMPORT,
    ("adapters.half_width", "adapter for ELAN1 removed"): "an heir of RepNCSPELAN4, whose adapter it then has",
    ("adapters.area_attention_widths", "False for new == old"): "a scale of one is multiplied in",
    ("adapters.area_attention_widths", "without return"): "a scale of one is multiplied in",
    ("elementwise.together", "all, without if flow.has_labels(t)"): NO_LABELS,
    ("elementwise.where_present", "False for bool((a != 0).all())"): "picks the first labels everywhere, only more slowly",
    ("elementwise.hold_against_constant", "True for len(met)"): NO_LABELS,
    ("contraction.add_onto", "False for not flow.has_labels(base)"): NO_LABELS,
    (
        "contraction.weight_product",
        "True for bias is not None and flow.weight(bias) is None",
    ): "a stored bias has one vector: the same union twice",
    ("elementwise.one_by_one", "rule for lift_fresh removed"): "what it makes carries no channel, with or without a rule",
    ("elementwise.one_by_one", "True for out.shape == source.shape"): KEPT_SHAPE,
    ("elementwise.hold_shared", "False for met"): REASON_ONLY,
    (
        "elementwise.hold_shared",
        "without flow.lock(call, [tensor], f'{call.name} applies it to all channels of another feature...",
    ): REASON_ONLY,
    ("elementwise.batch_norm", "rule for cudnn_batch_norm removed"): "needs a device with cuDNN; the same rule as native_batch_norm",
    ("elementwise.makes_constant", "rule for size removed"): NOT_DISPATCHED,
    (
        "elementwise.makes_constant",
        "rule makes_constant only passes labels through",
    ): "no constant has its input's shape and no axis of its own",
}
