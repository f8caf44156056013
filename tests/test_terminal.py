"""The terminal of the tests shows everything that a program writes, however much comes at once."""

import pytest

from tests import terminal
from tests.terminal import Terminal

COLUMNS, ROWS = 120, 30
FILL = f'BEGIN {{ for (r = 1; r <= {ROWS}; r++) for (c = 1; c <= {COLUMNS}; c++) printf "\\033[%d;%dH\\033[3%dmx", r, c, c % 8 }}'


@pytest.mark.parametrize("at_once", [1, 2, 64])
def test_no_output_of_a_program_is_lost(monkeypatch: pytest.MonkeyPatch, at_once: int):
    """Every cell is written once, at its own place, so a part that is lost leaves a hole."""
    monkeypatch.setattr(terminal, "MOST_AT_ONCE", at_once)
    with Terminal(["awk", FILL], COLUMNS, ROWS) as shown:
        assert shown.wait_for_end() == 0
        while shown._read(0.2):
            pass
        assert shown.text.splitlines() == ["x" * COLUMNS] * ROWS
