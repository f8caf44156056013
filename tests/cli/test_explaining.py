"""`explain` through the command line: its keys, and a status that says yes or no."""

from __future__ import annotations

import json

from tests.cli.conftest import FIELD_MODEL, Call


def test_a_way_is_a_yes_and_none_is_a_no(call: Call):
    yes = call("explain", FIELD_MODEL[0], "4", "14", *FIELD_MODEL[1:], "--json")
    no = call("explain", FIELD_MODEL[0], "5", "2", *FIELD_MODEL[1:], "--json")
    assert (yes.status, no.status) == (0, 1)
    assert set(json.loads(yes.out)) >= {"coupled", "path", "touches"}
    assert json.loads(yes.out)["path"][-1] == {"at": "model.14", "operation": "Concat", "detail": "at channel 128..191"}
    assert json.loads(no.out)["coupled"] is False
    assert json.loads(no.out)["path"] == []
