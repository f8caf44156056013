"""One grammar of amounts: what a person types, what a plan says, and what the engine is asked for."""

from __future__ import annotations

import pytest

from tui_pruner.domain.cuts import Amount, Asked, parse_amount, typed_amount
from tui_pruner.domain.errors import RequestError

WRITTEN = {
    "30%": Amount.share(30),
    "12.5%": Amount(remove=0.125),
    "keep:205": Amount(keep=205),
    "heads:1": Amount(heads=1),
    "drop": Amount(),
}


@pytest.mark.parametrize("text", WRITTEN)
def test_amount_is_written_as_it_is_read(text: str):
    assert parse_amount(text) == WRITTEN[text]
    assert WRITTEN[text].request == text


@pytest.mark.parametrize(
    ("text", "amount"), [("30", Amount.share(30)), ("0.3", Amount.share(30)), ("heads:1", Amount(heads=1)), ("Drop", Amount()), ("0", None)]
)
def test_short_forms_of_amounts_are_accepted_when_typed(text: str, amount: Amount | None):
    assert typed_amount(text) == amount


def test_bare_number_is_a_width_in_the_prompt_for_widths():
    assert typed_amount("45", keeping=True) == Amount(keep=45)


def test_invalid_number_of_heads_is_refused_with_an_example():
    with pytest.raises(RequestError, match="heads:1 for whole attention heads"):
        typed_amount("heads:many")


def test_amount_of_a_block_applies_to_its_layers():
    asked = Asked({"model.2.m.0": Amount(), "model.9": Amount(heads=2)})
    assert asked.of("model.2.m.0.cv1") == Amount()
    assert (asked.amounts["model.9"].written("-"), asked.amounts["model.9"].percent_of(64)) == ("-2 heads", 0)
