"""Requests become exact channels: amounts, names, rounding, links; contradictions are reported, never resolved silently."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.core.conftest import ask, removed
from tui_pruner.core.pruning.removal import NOTHING, Demand, DemandSet, apply_links, demand_share, spread, unit_of
from tui_pruner.core.tracing.coupling import links_by_group
from tui_pruner.core.tracing.coupling_map import ChannelGroup, ChannelLink, CouplingMap, Lock, Member
from tui_pruner.core.tracing.labels import Axis
from tui_pruner.domain.cuts import Request, parse_amount, parse_request
from tui_pruner.domain.errors import ConflictError, RequestError


@pytest.mark.parametrize(("text", "remove"), [("30%", 0.3), ("0.3", 0.3), (".5", 0.5), ("12.5 %", 0.125)])
def test_amount_is_parsed_as_a_share_to_remove(text, remove):
    assert parse_amount(text).remove == pytest.approx(remove)


@pytest.mark.parametrize(
    "text", ["0", "0%", "100%", "1", "1.0", "150%", "-5%", "x", "", "keep:0", "keep:", "keep:-1", "keep:1.5", "nan", "inf"]
)
def test_invalid_amount_is_refused_with_a_hint(text):
    with pytest.raises(RequestError, match="the amount"):
        parse_amount(text)


@pytest.mark.parametrize("text", ["model.5", "=30%", "model.5=", "model.5:30%"])
def test_incomplete_cut_is_refused(text):
    with pytest.raises(RequestError, match="LAYER=AMOUNT"):
        parse_request(text)


def test_layer_can_be_named_in_several_ways(nano):
    for name in ("model.6.m.0.cv1", "model.6.m.0.cv1.conv", "6.m.0.cv1"):
        assert removed(nano, ask(nano, f"{name}=30%"), ["model.6.m.0.cv1"]) == [19]


def test_block_number_selects_every_group_that_the_block_produces(nano):
    names = [name for name in nano.layers if name.startswith("model.6.")]
    assert removed(nano, ask(nano, "6=50%"), names) == [64, 64, 32, 32, 32, 32]


def test_section_name_selects_every_layer_of_it_that_can_be_cut(nano):
    found = ask(nano, "neck=25%")
    assert removed(nano, found, ["model.16", "model.21.cv2"]) == [16, 64]
    assert {name.split(".")[1] for name in found.asked} == {"12", "15", "16", "18", "19", "21"}


def test_glob_skips_locked_layers_with_a_note(nano):
    found = ask(nano, "model.22.cv3.*=25%")
    assert removed(nano, found, ["model.22.cv3.0.0", "model.22.cv3.0.2"]) == [16, 0]
    assert found.notes == ("model.22.cv3.*: skipped the locked model.22.cv3.0.2, model.22.cv3.1.2, model.22.cv3.2.2",)


def test_locked_layer_named_exactly_is_refused_with_its_reason(nano):
    found = ask(nano, "model.22.cv3.0.2=25%")
    assert found.refusals[0].message == "model.22.cv3.0.2 is locked: feeds the model's predictions"
    with pytest.raises(RequestError):
        found.demand_clean()


def test_unknown_layer_gets_the_nearest_names(nano):
    assert "the nearest are model.6.cv2" in ask(nano, "model.6.cv9=25%").refusals[0].message


def test_keeping_more_channels_than_exist_is_refused(nano):
    assert ask(nano, "5=keep:129").refusals[0].message == "model.5 has 128 channels: keep:129 is more than there are"


def test_ratio_below_one_channel_is_an_error(nano):
    assert "less than one channel" in ask(nano, "model.0=1%").refusals[0].message


def test_keeping_all_channels_is_an_error(nano):
    assert ask(nano, "5=keep:128").refusals[0].message == "5=keep:128 removes nothing: that many channels are there; ask for fewer"


def test_linked_halves_need_an_even_width(nano):
    assert "use keep:90 or keep:92" in ask(nano, "model.6.cv1=keep:91").refusals[0].message


def test_rounding_is_to_the_nearest_multiple_and_reported(nano):
    found = ask(nano, "model.5=30%", round_to=16)  # 90 of 128 would stay; 96 is nearer than 80
    assert removed(nano, found, ["model.5"]) == [32]
    assert found.notes == ("model.5: keeps 96 instead of 90 of 128 (multiple of 16)",)


def test_rounding_never_empties_a_layer(nano):
    found = ask(nano, "model.0=90%", round_to=8)
    assert removed(nano, found, ["model.0"]) == [8]


def test_different_widths_for_one_group_contradict_and_the_group_is_not_cut(nano):
    found = ask(nano, "model.6.m.0.cv2=30%", "model.6.m.1.cv2=20%", "model.5=50%")
    (contradiction,) = found.contradictions
    assert contradiction.layers == ("model.6.m.0.cv2", "model.6.m.1.cv2")
    assert removed(nano, found, ["model.6.cv1", "model.6.m.0.cv2", "model.5"]) == [0, 0, 64]
    with pytest.raises(ConflictError):
        found.demand_clean()


def test_same_width_for_one_group_does_not_contradict(nano):
    found = ask(nano, "model.6.m.0.cv2=30%", "model.6.m.1.cv2=30%")
    assert not found.contradictions
    assert removed(nano, found, ["model.6.m.1.cv2"]) == [19]


def test_second_step_takes_its_ratio_of_the_remaining_channels(nano):
    first = ask(nano, "model.5=50%").removal
    assert removed(nano, ask(nano, "model.5=50%", base=first), ["model.5"]) == [32]


def test_least_important_channels_are_removed(nano):
    (group,) = nano.coupling.output_groups("model.5.conv")
    scores = nano.ranking.scores(group)
    gone = ask(nano, "model.5=25%").removal.of(group)
    assert scores[gone].max() <= np.delete(scores, gone).min()


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn-scale", "lamp", "fpgm", "random"])
def test_every_criterion_selects_channels(nano, criterion):
    assert removed(nano, ask(nano, "model.7=20%", criterion=criterion), ["model.7"]) == [51]


def test_unknown_criterion_is_refused_with_the_list_of_criteria(nano):
    assert "l2" in ask(nano, "model.7=20%", criterion="best").refusals[0].message


def linked(widths: list[int], *parts: tuple[tuple[int, ...], ...], locked: tuple[int, ...] = (), heads: bool = False) -> CouplingMap:
    """One group for each layer, of these widths, and links between them."""
    links = tuple(ChannelLink(number, "split", "net", link, heads) for number, link in enumerate(parts))
    of_group = links_by_group(links)
    groups = tuple(
        ChannelGroup(
            number=number,
            channels=width,
            members=(Member(Axis(f"layer{number}.weight", 0), "out", np.arange(width)[:, None]),),
            lock=Lock("on purpose", "add", "net", 1) if number in locked else None,
            links=of_group.get(number, ()),
            joined_by=(),
        )
        for number, width in enumerate(widths)
    )
    return CouplingMap(groups, links, {}, {}, {}, (), {}, 0, 0.0)


def demanded(coupling: CouplingMap, counts: dict[int, int], amount: str = "25%") -> tuple[dict[int, int], DemandSet]:
    """What each group loses once the links are obeyed, where these are asked to lose this many."""
    demand_set = DemandSet()
    for number, count in counts.items():
        demand_set.add(coupling.groups[number], Demand(count, f"layer{number}", Request(f"layer{number}", amount)))
    apply_links(coupling, NOTHING, demand_set)
    return {number: demands[0].count for number, demands in demand_set.demands.items()}, demand_set


HALVES = ((1,), (2,))
"""A link that ties two groups to one number."""


@pytest.mark.parametrize(
    ("links", "asked", "carried"),
    [
        ([((0,), (1, 2))], {0: 4}, {1: 2, 2: 2}),
        ([((0,), (1, 2)), ((2,), (3,))], {0: 4}, {1: 2, 2: 2, 3: 2}),
        ([((0,), (1, 2)), HALVES, ((0,), (3,))], {0: 4}, {1: 2, 2: 2, 3: 4}),
        ([((0,), (1, 2))], {2: 4}, {0: 4}),
        ([((0,), (1, 4))], {0: 4}, {1: 4}),  # 4 is locked
        ([((0,), (1, 2), (3,))], {0: 4, 1: 4}, {3: 4}),  # 1 and 2 lose enough
    ],
)
def test_linked_parts_lose_equally_many_channels(links, asked, carried):
    assert demanded(linked([12, 6, 6, 12, 6], *links, locked=(4,)), asked)[0] == asked | carried


def test_whole_head_demands_nothing_of_others_and_partial_heads_agree():
    heads = linked([6, 6, 6], ((0,), (1,), (2,)), heads=True)
    assert demanded(heads, {0: 6})[0] == {0: 6}
    assert demanded(heads, {0: 6, 1: 2})[0] == {0: 6, 1: 2, 2: 2}


def test_shares_that_round_differently_are_raised_to_agree_with_a_note():
    found, demand_set = demanded(linked([10, 5, 5, 5], ((0,), (1, 2, 3)), locked=(3,)), {0: 3, 1: 1, 2: 1})
    assert found == {0: 3, 1: 2, 2: 1}
    assert not demand_set.contradictions
    assert demand_set.notes == ["layer1: removes 2 instead of 1 channels, as many as what is linked to it"]


@pytest.mark.parametrize(
    ("links", "counts", "amount", "message"),
    [
        ([((0,), (1,))], {0: 4, 1: 2}, "keep:4", r"^layer0 \(keep:4\) and layer1 \(keep:4\) share coupled channels but ask for different"),
        ([((0,), (1, 2)), HALVES], {0: 3}, "25%", r"^layer0 \(25%\) cannot be shared out evenly"),
    ],
)
def test_impossible_demand_on_links_contradicts_in_the_whole_linked_system(links, counts, amount, message):
    coupling = linked([8, 6, 6], *links)
    found = demanded(coupling, counts, amount)[1].contradictions
    assert found.keys() == coupling.linked_system(coupling.groups[0])
    assert all(re.search(message, contradiction.message) for contradiction in found.values())


@pytest.mark.parametrize(
    ("widths", "total", "links", "counts"),
    [
        ([9, 3], 5, [], [4, 1]),  # 3.75 and 1.25
        ([5, 3, 2], 4, [], [2, 1, 1]),  # 2, 1.2 and 0.8
        ([12, 6, 6], 8, [HALVES], [4, 2, 2]),
        ([10, 6, 6], 5, [HALVES], [3, 1, 1]),  # 2.27 and twice 1.36: a single channel cannot go to both
        ([6, 6, 6], 5, [((0,), (1,), (2,))], None),
        ([3, 3], 6, [], None),
    ],
)
def test_count_is_distributed_by_width_and_equally_where_required(widths, total, links, counts):
    coupling = linked(widths, *links)
    assert spread(coupling, total, coupling.groups, widths) == counts


@pytest.mark.parametrize(
    ("links", "unit"),
    [
        ([], 1),
        ([((0,), (1, 2))], 1),  # two that may differ share any number
        ([((0,), (1, 2)), HALVES], 2),
        ([((0,), (1, 2)), HALVES, ((0,), (3, 4, 5)), ((3,), (4,), (5,))], 6),
        ([((0, 5), (1, 2, 3, 4)), ((0,), (5,)), ((1,), (2,), (3,), (4,))], 2),
    ],
)
def test_width_is_cut_in_multiples_of_its_linked_equal_parts(links, unit):
    coupling = linked([12] * 6, *links)
    assert unit_of(coupling, coupling.groups[0]) == unit


@pytest.mark.parametrize(
    ("width", "ratio", "alone", "with_halves"),
    [(9, 0.5, 4, 4), (8, 0.25, 2, 2), (8, 0.01, 1, 2), (8, 0.99, 7, 6), (12, 0.25, 3, 4), (2, 0.5, 1, 0)],
)
def test_single_group_loses_its_share_in_whole_units_but_never_all_channels(width, ratio, alone, with_halves):
    for links, count in ([], alone), ([((0,), (1, 2)), HALVES], with_halves):
        coupling, demand_set = linked([width, 12, 12], *links), DemandSet()
        demand_share(coupling, coupling.groups[0], ratio, demand_set)
        found = {number: demands[0].count for number, demands in demand_set.demands.items()}
        half = {1: count // 2, 2: count // 2} if links else {}
        assert found == ({0: count, **half} if count else {})
