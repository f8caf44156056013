"""`explain` on the command line: the keys of its JSON and its exit status."""

from __future__ import annotations

import json

from tests.cli.conftest import FIELD_MODEL, Call


def test_explain_exits_with_0_if_a_path_exists_and_1_if_not(call: Call):
    yes = call("explain", FIELD_MODEL[0], "4", "14", *FIELD_MODEL[1:], "--json")
    no = call("explain", FIELD_MODEL[0], "5", "2", *FIELD_MODEL[1:], "--json")
    assert (yes.status, no.status) == (0, 1)
    assert set(json.loads(yes.out)) >= {"coupled", "path", "touches"}
    assert json.loads(yes.out)["path"][-1] == {"at": "model.14", "operation": "Concat", "detail": "at channel 128..191"}
    assert json.loads(no.out)["coupled"] is False
    assert json.loads(no.out)["path"] == []
