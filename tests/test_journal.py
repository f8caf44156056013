"""A journal has exactly what was recorded, also where its end is damaged, and stays short."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tui_pruner.storage import journal
from tui_pruner.storage.journal import HeldElsewhere, Journal, changed, changes_between, is_held, read

values = st.one_of(st.none(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.lists(st.integers(), max_size=5))
states = st.dictionaries(st.sampled_from("abcd"), values, max_size=4)


@settings(max_examples=200, deadline=None)
@given(states, states)
def test_changes_turn_one_state_into_the_other(before, after):
    changes = changes_between(before, after)
    assert changed(before, changes) == after and (not changes) == (before == after)


def test_only_new_entries_of_a_list_are_recorded():
    steps = [{"cut": number} for number in range(1000)]
    assert changes_between({"steps": steps}, {"steps": [*steps, {"cut": -1}]}) == {"ends": {"steps": [1000, [{"cut": -1}]]}}


@settings(max_examples=30, deadline=None)
@given(recorded=st.lists(states, min_size=1, max_size=6), cut=st.integers(min_value=1, max_value=400), flip=st.booleans())
def test_torn_or_damaged_end_loses_no_complete_line_before_it(tmp_path_factory, recorded, cut, flip):
    file = tmp_path_factory.mktemp("journal") / "session.jsonl"
    written = Journal(file)
    lengths = [(0, {})]
    for state in recorded:
        written.record(state)
        lengths.append((file.stat().st_size, state))
    written.close()
    content = bytearray(file.read_bytes())
    place = max(0, len(content) - cut)
    if flip and content:
        content[place] ^= 1
    else:
        del content[place:]
    file.write_bytes(content)
    whole = [(length, state) for length, state in lengths if length <= place]
    found = read(file)
    assert (found.length, found.state) == (whole[-1][0] if whole[-1][0] else 0, whole[-1][1])
    assert found.damaged > 0 or found.length == len(content)
    again = Journal(file)
    again.record({"after": 1})
    again.close()
    assert read(file).state == {"after": 1} and read(file).damaged == 0


def test_changed_digit_is_damage_even_if_the_number_is_equal(tmp_path: Path):
    file = tmp_path / "session.jsonl"
    written = Journal(file)
    written.record({"a": 5.4258292699296296e16})
    written.close()
    content = file.read_bytes()
    assert float("5.4258292699296297e+16") == 5.4258292699296296e16
    file.write_bytes(content.replace(b"296296e+16", b"296297e+16"))
    assert file.read_bytes() != content and read(file).damaged == 1


def test_journal_has_only_one_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "BETWEEN", 0.0)
    first, second = Journal(tmp_path / "s.jsonl"), Journal(tmp_path / "s.jsonl")
    first.record({"a": 1})
    assert is_held(first.file)
    with pytest.raises(HeldElsewhere, match=f"process {os.getpid()} on "):
        second.record({"a": 2})
    first.close()
    assert not is_held(first.file)
    second.record({"a": 2})
    assert read(first.file).state == {"a": 2}
    second.close()


def test_long_journal_is_compacted_without_change_and_stays_locked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(journal, "SMALLEST_TO_COMPACT", 2000)
    written = Journal(tmp_path / "s.jsonl")
    sizes = []
    for number in range(400):
        written.record({"steps": list(range(number % 20)), "number": number})
        sizes.append(written.file.stat().st_size)
    assert max(sizes) < 4000 and read(written.file).state == {"steps": list(range(399 % 20)), "number": 399}
    assert is_held(written.file) and [path.name for path in tmp_path.iterdir()] == ["s.jsonl"]
    written.close()


def test_failed_record_keeps_earlier_ones_and_the_next_one_is_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    written = Journal(tmp_path / "s.jsonl")
    written.record({"a": 1})

    def half(descriptor: int, content: bytes) -> None:
        os.write(descriptor, content[: len(content) // 2])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(journal, "write_all", half)
        with pytest.raises(OSError, match="No space"):
            written.record({"a": 2})
    assert (read(written.file).state, read(written.file).damaged) == ({"a": 1}, 1)
    written.record({"a": 3})
    assert (read(written.file).state, read(written.file).damaged) == ({"a": 3}, 0)
    written.close()


def test_record_written_while_another_process_waits_is_not_truncated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = Journal(tmp_path / "s.jsonl"), Journal(tmp_path / "s.jsonl")
    first.record({"a": 1})
    monkeypatch.setattr(journal.time, "sleep", lambda seconds: (first.record({"a": 2}), first.close()))
    second.open()
    assert second.state == read(second.file).state == {"a": 2}
    second.close()


def test_waiting_process_writes_to_the_compacted_file_not_to_its_predecessor(tmp_path: Path, monkeypatch):
    first, second = Journal(tmp_path / "s.jsonl"), Journal(tmp_path / "s.jsonl")
    first.record({"a": 1})
    monkeypatch.setattr(journal.time, "sleep", lambda seconds: (first._compact(journal.line_of({"set": {"a": 2}})), first.close()))
    with pytest.raises(HeldElsewhere):
        second.record({"a": 3})
    second.record({"a": 3})
    assert read(second.file).state == {"a": 3}
    second.close()


def test_compacted_journal_is_used_though_the_disk_does_not_confirm_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fails(folder: Path) -> None:
        raise OSError(5, "Input/output error")

    written = Journal(tmp_path / "s.jsonl")
    written.record({"a": 1})
    monkeypatch.setattr(journal, "SMALLEST_TO_COMPACT", 0)
    monkeypatch.setattr(journal, "GROWTH", 1)
    monkeypatch.setattr("tui_pruner.storage.atomic.sync_folder", fails)
    for value in (2, 3):
        written.record({"a": value})
        assert read(written.file).state == {"a": value} and is_held(written.file)
    written.close()
