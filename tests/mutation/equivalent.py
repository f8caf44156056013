"""Changes that alter nothing that anyone could see, each with the reason; by module and function, and change."""

from __future__ import annotations

NOT_DISPATCHED = "PyTorch computes it before a trace could see it"
NO_PARAMETER = "what is not a parameter is passed over further in as well"
ALREADY_LOCKED = "what is held stays held, no matter what labels go on"
NO_LABELS = "where there are no labels, nothing is unified and nothing held"
TIED_ALREADY = "channels that are one need no link to stay equally many"
AT_IMPORT = "runs before anything is broken; each of its entries is removed on its own"
KEPT_SHAPE = "each of these operations keeps its input's shape"
REASON_ONLY = "a single channel is never cut: the lock only says why"
SLOWER = "the general way comes to the same, only more slowly"
ANY_NUMBER = "a number that only tells things apart may be another one"
ALWAYS_LABELLED = "a layer's weight always has labels"
IMAGE_LOCKED = "all channels of the image are held, in any order"

EQUIVALENT: dict[tuple[str, str], str] = {
    ("contraction.convolution", "True for transposed"): "read for transposed convolutions only",
    ("contraction.convolution", "True for bias is not None"): NO_PARAMETER,
    ("contraction.weight_product", "True for bias is not None"): NO_PARAMETER,
    ("contraction.in_groups", "True for groups > 1"): "a link of one part demands nothing",
    ("contraction.activations", "without return"): ALREADY_LOCKED,
    ("reduction.reduction", "without return"): ALREADY_LOCKED,
    ("reduction.over_space", "without return"): ALREADY_LOCKED,
    ("folding.shuffle", "without flow.link(call, rows)"): TIED_ALREADY,
    ("folding.gated", "without flow.link(call, [flat(first), flat(second)])"): TIED_ALREADY,
    ("adapters.register", "without ADAPTERS.update(dict.fromkeys(classes, function))"): AT_IMPORT,
    ("layers.convolution", "False for layer.transposed"): "depthwise transposed layers with several outputs a channel are held",
    ("layers.register", "without WIDTHS.update(dict.fromkeys(classes, function))"): AT_IMPORT,
    ("adapters.half_width", "adapter for ELAN1 removed"): "an heir of RepNCSPELAN4, whose adapter it then has",
    ("adapters.area_attention_widths", "False for new == old"): "a scale of one is multiplied in",
    ("adapters.area_attention_widths", "without return"): "a scale of one is multiplied in",
    ("elementwise.together", "all, without if flow.has_labels(t)"): NO_LABELS,
    ("elementwise.where_present", "False for bool((a != 0).all())"): "picks the first labels everywhere, only more slowly",
    ("elementwise.lock_combined_with_constant", "True for len(met)"): NO_LABELS,
    ("contraction.add_onto", "without flow.put(call.result, merged)"): ALREADY_LOCKED,
    ("contraction.unify_channels", "False for vector is not None"): SLOWER,
    ("movement.concatenate", "False for d != dim and all((label.stride(d) == 0 for label in labels))"): SLOWER,
    ("movement.pad", "all, without if widths[n] or widths[n + 1]"): "a border of no width adds nothing",
    ("reduction.reduction", "all, without if varies(labels, d)"): REASON_ONLY,
    ("tracer.trace", "True for found"): "the same run once more",
    ("tracer.trace", "rolled labels in flow.put(image, along(pixels, 1, image.shape))"): IMAGE_LOCKED,
    ("tracer.trace", "mirrored labels in flow.put(image, along(pixels, 1, image.shape))"): IMAGE_LOCKED,
    ("state.unify", "True for len(fixed)"): NO_LABELS,
    ("state.unify_vector", "True for own is not None and parameter.ndim == 1"): "a bias and a statistic have one dimension",
    ("state.link", "True for len({part.tobytes() for part in parts}) > 1"): "parts that are one and the same lose equally many",
    ("assumed.link_equal_widths", "True for axes"): ALWAYS_LABELLED,
    ("assumed.link_equal_widths", "all, without if vector is not None"): ALWAYS_LABELLED,
    ("coupling.scrambled", "opposite of numbers.astype(np.uint64) + np.uint64(11400714819323198485)"): ANY_NUMBER,
    ("coupling.into_groups", "2 for 1 in int(channel.max()) + 1"): ANY_NUMBER,
    ("coupling.into_groups", "opposite of lock + kind"): ANY_NUMBER,
    ("coupling.collect_members", "2 for 1 in int(place.max(initial=0)) + 1"): ANY_NUMBER,
    (
        "contraction.weight_product",
        "True for bias is not None and flow.weight(bias) is None",
    ): "a stored bias has one vector: the same union twice",
    ("elementwise.one_by_one", "rule for lift_fresh removed"): "what it makes carries no channel, with or without a rule",
    ("elementwise.one_by_one", "True for out.shape == source.shape"): KEPT_SHAPE,
    ("elementwise.lock_broadcast_channel", "False for met"): REASON_ONLY,
    (
        "elementwise.lock_broadcast_channel",
        "without flow.lock(call, [tensor], f'{call.name} applies it to all channels of another feature...",
    ): REASON_ONLY,
    ("elementwise.batch_norm", "rule for cudnn_batch_norm removed"): "needs a device with cuDNN; the same rule as native_batch_norm",
    ("elementwise.makes_constant", "rule for size removed"): NOT_DISPATCHED,
    (
        "elementwise.makes_constant",
        "rule makes_constant only passes labels through",
    ): "no constant has its input's shape and no axis of its own",
}
