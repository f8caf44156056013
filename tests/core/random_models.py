"""Strategies that draw small models in Ultralytics' yaml form: a chain of blocks with branches, joins and a second backbone, then a head.

Every row is legal by construction: it knows the channels and the stride of what it reads. Widths are tiny, no stride exceeds 32.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

Values = SearchStrategy[list[Any]]
CLASSES = 3
LARGEST_STRIDE = 32
WIDTHS = st.sampled_from([8, 16, 24, 32])
BRANCH = st.sampled_from([8, 16])
BOOLEANS = st.booleans()
KERNELS = st.sampled_from([1, 3])
HALF_OR_ALL = st.sampled_from([0.5, 1.0])


def fixed(*values: Any) -> Values:
    """Always the same arguments."""
    return st.just(values).map(list)


def drawn(*values: SearchStrategy[Any]) -> Values:
    """One argument from each strategy."""
    return st.tuples(*values).map(list)


def width_only(read: int, width: int) -> list[int]:
    return [width]


def both_widths(read: int, width: int) -> list[int]:
    return [read, width]


def hidden_and_width(read: int, width: int) -> list[int]:
    return [8, width]


def no_width(read: int, width: int) -> list[int]:
    return []


@dataclass(frozen=True)
class Kind:
    """A block of one source: its arguments are `first(channels read, width)` and then `rest`.

    `widths` is None where it hands out as many channels as it reads, and `times` as many as its width says otherwise. `stride` divides
    the sides of the image. `repeats`: the largest number of inner blocks, for those that take one. `attends`: pixel to pixel, which is
    for small images only.
    """

    module: str
    rest: Values = field(default_factory=fixed)
    widths: SearchStrategy[int] | None = WIDTHS
    first: Callable[[int, int], list[int]] = width_only
    stride: float = 1
    times: int = 1
    repeats: int = 1
    attends: bool = False


KINDS = (
    Kind("Conv", drawn(KERNELS)),
    Kind("Conv", fixed(3, 2), stride=2),
    Kind("Conv", fixed(3, 1, None, 2), st.sampled_from([8, 16])),
    Kind("Conv2", fixed(3, 1), None, both_widths),
    Kind("RepConv", drawn(st.just(3), st.just(1), st.just(1), st.just(1), st.just(1), BOOLEANS, BOOLEANS), None, both_widths),
    Kind("DWConv", fixed(3)),
    Kind("DWConv", fixed(3, 2), stride=2),
    Kind("GhostConv", drawn(KERNELS)),
    Kind("GhostConv", fixed(3, 2), stride=2),
    Kind("GhostBottleneck", fixed(3, 2), stride=2),
    Kind("Bottleneck", drawn(BOOLEANS)),
    Kind("Bottleneck", fixed(True), None),
    Kind("Focus", drawn(KERNELS), stride=2),
    Kind("ADown", stride=2),
    Kind("AConv", stride=2),
    Kind("SCDown", fixed(3, 2), stride=2),
    Kind("C1", repeats=2),
    Kind("C2", drawn(BOOLEANS), repeats=2),
    Kind("C2f", drawn(BOOLEANS), repeats=2),
    Kind("C2fCIB", drawn(BOOLEANS, BOOLEANS), repeats=2),
    Kind("C3", drawn(BOOLEANS), repeats=2),
    Kind("C3x", drawn(BOOLEANS), repeats=2),
    Kind("C3TR", attends=True),
    Kind("C3Ghost", repeats=2),
    Kind("C3k2", drawn(BOOLEANS, HALF_OR_ALL), repeats=2),
    Kind("C3k2", fixed(False, 0.5, True), repeats=2, attends=True),
    Kind("C3k2", fixed(False, 1.0, True), st.just(128), attends=True),
    Kind("RepC3", drawn(HALF_OR_ALL), repeats=2),
    Kind("BottleneckCSP", drawn(BOOLEANS), repeats=2),
    Kind("RepNCSPELAN4", drawn(BRANCH, BRANCH, st.sampled_from([1, 2]))),
    Kind("ELAN1", drawn(BRANCH, BRANCH)),
    Kind("SPP", fixed([3, 5])),
    Kind("SPPF", drawn(st.sampled_from([3, 5]), st.sampled_from([2, 3]))),
    Kind("SPPF", fixed(5, 3, True), None),
    Kind("SPPELAN", drawn(BRANCH)),
    Kind("PSA", drawn(HALF_OR_ALL), None, attends=True),
    Kind("C2PSA", drawn(HALF_OR_ALL), None, repeats=2, attends=True),
    Kind("C2fPSA", drawn(HALF_OR_ALL), None, repeats=2, attends=True),
    Kind("A2C2f", drawn(BOOLEANS, st.sampled_from([1, 4])), st.sampled_from([64, 128]), attends=True),
    Kind("HGStem", first=hidden_and_width, stride=4),
    Kind("HGBlock", drawn(st.just(3), BOOLEANS, BOOLEANS), first=hidden_and_width, repeats=3),
    Kind("HGBlock", drawn(st.just(3), BOOLEANS, st.just(True)), None, hidden_and_width, repeats=3),
    Kind("ResNetLayer", drawn(st.just(1), st.just(False), st.sampled_from([1, 2])), st.just(8), both_widths, times=4),
    Kind("ResNetLayer", fixed(2, False, 1), st.just(8), both_widths, stride=2, times=4),
    Kind("ConvTranspose", drawn(st.just(2), st.just(2), st.just(0), BOOLEANS), stride=0.5),
    Kind("DWConvTranspose2d", fixed(2, 2), stride=0.5),
    Kind("nn.ConvTranspose2d", fixed(2, 2), stride=0.5),
    Kind("nn.Upsample", drawn(st.none(), st.just(2), st.sampled_from(["nearest", "bilinear"])), None, no_width, stride=0.5),
    Kind("nn.MaxPool2d", fixed(2, 2), None, no_width, stride=2),
    Kind("nn.AvgPool2d", fixed(3, 1, 1), None, no_width),
    Kind("nn.Identity", fixed(), None, no_width),
    Kind("AIFI", drawn(BRANCH, st.sampled_from([2, 4])), None, no_width, attends=True),
)
STEMS = (Kind("Conv", fixed(3, 2), stride=2), Kind("HGStem", first=hidden_and_width, stride=4), Kind("Focus", fixed(3), stride=2))
HALVING = tuple(kind for kind in KINDS if kind.stride == 2)
NARROW = (Kind("Conv", fixed(1), st.sampled_from([8, 16])),)


@dataclass(frozen=True)
class Head:
    """A head: its arguments, how many levels it reads at most, whether each must be half the one before, and more of the yaml."""

    module: str
    arguments: Values
    levels: int = 3
    pyramid: bool = False
    settings: tuple[tuple[str, Any], ...] = ()


ONE_TO_ONE = (("end2end", True), ("reg_max", 1))
KEYPOINTS = (("kpt_shape", [3, 3]),)
HEADS = (
    Head("Detect", fixed("nc")),
    Head("Detect", fixed("nc"), settings=ONE_TO_ONE),
    Head("v10Detect", fixed("nc"), 2),
    Head("Segment", fixed("nc", 8, 16), 2),
    Head("Segment26", fixed("nc", 8, 16), 2, True, ONE_TO_ONE),
    Head("Pose", fixed("nc", [3, 3]), 2, settings=KEYPOINTS),
    Head("Pose26", fixed("nc", [3, 3]), 2, settings=ONE_TO_ONE + KEYPOINTS),
    Head("OBB", fixed("nc", 1), 2),
    Head("OBB26", fixed("nc", 1), 2, settings=ONE_TO_ONE),
    Head("Classify", fixed("nc"), 1),
    Head("SemanticSegment", fixed("nc"), 2),
    Head("Depth", fixed(16), 3, True),
    Head("RTDETRDecoder", fixed("nc", 16, 4, 2, 2, 1, 24), 2),
)


@dataclass(frozen=True)
class Feature:
    """What a row hands out."""

    row: int
    channels: int
    stride: float


@dataclass
class Draft:
    """Rows so far, and the features among which the next one chooses."""

    draw: DrawFn
    rows: list[list[Any]] = field(default_factory=list)
    features: list[Feature] = field(default_factory=list)

    def add(self, source: int | list[int], number: int, module: str, arguments: list[Any], channels: int, stride: float) -> Feature:
        """Write a row."""
        self.rows.append([source, number, module, arguments])
        self.features.append(Feature(len(self.rows) - 1, channels, stride))
        return self.features[-1]

    def block(self, kinds: tuple[Kind, ...], source: Feature) -> None:
        """A block of one of these kinds, on a feature."""
        kind = self.draw(st.sampled_from([kind for kind in kinds if legal(kind, source)]))
        width = source.channels if kind.widths is None else self.draw(kind.widths)
        number = self.draw(st.integers(1, kind.repeats))
        arguments = [*kind.first(source.channels, width), *self.draw(kind.rest)]
        self.add(source.row if self.rows else -1, number, kind.module, arguments, width * kind.times, source.stride * kind.stride)

    def concat(self) -> None:
        """The last feature joined with one to three of the same size, itself perhaps among them."""
        last = self.features[-1]
        same = [feature for feature in self.features if feature.stride == last.stride]
        parts = [last, *self.draw(st.lists(st.sampled_from(same), min_size=1, max_size=3))]
        parts = self.draw(st.permutations(parts))
        self.add([part.row for part in parts], 1, "Concat", [1], sum(part.channels for part in parts), last.stride)

    def fusion(self) -> None:
        """One or two CBLinear blocks, and a CBFuse that resizes one part of each and adds them to the last feature."""
        last = self.features[-1]
        sources, places = [], []
        for source in self.draw(st.lists(st.sampled_from(self.features), min_size=1, max_size=2)):
            widths = self.draw(st.lists(BRANCH, max_size=2))
            place = self.draw(st.integers(0, len(widths)))
            widths.insert(place, last.channels)
            self.rows.append([source.row, 1, "CBLinear", [widths]])
            sources.append(len(self.rows) - 1)
            places.append(place)
        self.add([*sources, last.row], 1, "CBFuse", [places], last.channels, last.stride)

    def step(self) -> None:
        """One more row or two."""
        way = self.draw(st.sampled_from(["block"] * 6 + ["branch", "concat", "concat", "fusion"]))
        if way == "concat" and self.features[-1].channels <= 64:
            self.concat()
        elif way == "fusion":
            self.fusion()
        else:
            self.block(KINDS, self.draw(st.sampled_from(self.features)) if way == "branch" else self.features[-1])

    def head(self, head: Head) -> None:
        """The head on the last feature and some others of other sizes; heads are as wide as what they read, so that stays narrow."""
        if self.features[-1].channels > 8 * self.features[-1].stride:
            self.block(NARROW, self.features[-1])
        levels = [self.features[-1]]
        for feature in reversed(self.features[:-1]):
            known = [level.stride for level in levels]
            fits = feature.stride * 2 == min(known) if head.pyramid else feature.stride not in known
            if len(levels) < head.levels and fits and feature.channels <= 8 * feature.stride and self.draw(BOOLEANS):
                levels.append(feature)
        rows = [level.row for level in sorted(levels, key=lambda level: level.stride)]
        self.rows.append([rows if head.module != "Classify" else rows[0], 1, head.module, self.draw(head.arguments)])


def legal(kind: Kind, source: Feature) -> bool:
    """Whether a block's image stays between full size and the largest stride; what is wide or attends stays small."""
    stride = source.stride * kind.stride
    small = kind.widths is not None or source.channels <= 16 * stride
    return (16 if kind.attends else 2) <= stride <= LARGEST_STRIDE and small


@st.composite
def architectures(draw: DrawFn, blocks: int = 6) -> dict[str, Any]:
    """A model as Ultralytics' yaml says it."""
    draft = Draft(draw)
    image = Feature(-1, 3, 1)
    draft.block(STEMS, image)
    if draft.features[-1].stride == 2:
        draft.block(HALVING, draft.features[-1])
    for _ in range(draw(st.integers(1, blocks))):
        draft.step()
    head = draw(st.sampled_from(HEADS))
    draft.head(head)
    return {"nc": CLASSES, "reg_max": 4, **dict(head.settings), "backbone": draft.rows[:-1], "head": draft.rows[-1:]}
