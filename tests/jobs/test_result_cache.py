from __future__ import annotations

import pytest

from tui_pruner import places
from tui_pruner.engine.protocol import ValidationParameters, ValidationResult
from tui_pruner.jobs import cache

RESULT = ValidationResult(metrics={"metrics/mAP50-95(B)": 0.512}, images=64, seconds=3.5, notes=["a note"])
PARAMETERS = ValidationParameters(checkpoint="a.pt", sha256="a" * 64, data="d.yaml", imgsz=160)


def files():
    return sorted(file.name for file in (places.cache_folder() / "validation").iterdir())


def test_a_stored_result_comes_back_marked_as_cached():
    assert cache.load("k") is None
    cache.store("k", RESULT)
    assert cache.load("k") == RESULT.model_copy(update={"cached": True})
    assert files() == ["k.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\x00", b'{"metrics": {"a": "much"}, "images": 1, "seconds": 1}', b"[]"])
def test_a_damaged_entry_is_as_good_as_none_and_can_be_stored_again(damage):
    cache.store("k", RESULT)
    (places.cache_folder() / "validation" / "k.json").write_bytes(damage)
    assert cache.load("k") is None
    cache.store("k", RESULT)
    assert cache.load("k") is not None


def test_a_cache_that_cannot_be_written_loses_nothing(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    cache.store("k", RESULT)
    assert cache.load("k") is None


def test_a_write_that_fails_leaves_the_old_entry_and_no_temporary_file(monkeypatch):
    cache.store("k", RESULT)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    cache.store("k", RESULT.model_copy(update={"images": 1}))
    assert files() == ["k.json"]
    assert cache.load("k").images == 64


CHANGES = [{"sha256": "b" * 64}, {"plan": {"cuts": [1]}}, {"classes": 3}, {"images": 65}, {"images": None}, {"imgsz": 192}, {"seed": 1}]


def test_everything_that_a_metric_depends_on_makes_another_key():
    keys = [cache.key_of(PARAMETERS, "data")] + [cache.key_of(PARAMETERS.model_copy(update=change), "data") for change in CHANGES]
    keys.append(cache.key_of(PARAMETERS, "other data"))
    assert len(set(keys)) == len(CHANGES) + 2


def test_device_place_of_the_checkpoint_and_order_of_plan_keys_make_the_same_key():
    base = PARAMETERS.model_copy(update={"plan": {"a": 1, "b": {"c": 2, "d": 3}}})
    same = base.model_copy(update={"plan": {"b": {"d": 3, "c": 2}, "a": 1}, "device": "cpu", "checkpoint": "moved.pt"})
    assert cache.key_of(base, "data") == cache.key_of(same, "data")


def test_another_ultralytics_makes_another_key(monkeypatch):
    before = cache.key_of(PARAMETERS, "data")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.0")
    assert cache.key_of(PARAMETERS, "data") != before
