from __future__ import annotations

import pytest

from tui_pruner.domain.results import FIGURES
from tui_pruner.engine.job_messages import ValidationParameters, ValidationResult
from tui_pruner.engine.recovery_messages import FinetuneParameters
from tui_pruner.jobs import cache
from tui_pruner.jobs.scan.executors import ScanStore
from tui_pruner.jobs.training import run
from tui_pruner.jobs.training.run import run_of
from tui_pruner.storage import paths

RESULT = ValidationResult(metrics={"metrics/mAP50-95(B)": 0.512}, images=64, seconds=3.5, notes=["a note"])
PARAMETERS = ValidationParameters(checkpoint="a.pt", sha256="a" * 64, data="d.yaml", imgsz=160)


def files():
    return sorted(file.name for file in (paths.cache_folder() / "validation").iterdir())


def test_stored_result_is_loaded_and_marked_as_cached():
    assert cache.load("k") is None
    cache.store("k", RESULT)
    assert cache.load("k") == RESULT.model_copy(update={"cached": True})
    assert files() == ["k.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\x00", b'{"metrics": {"a": "much"}, "images": 1, "seconds": 1}', b"[]"])
def test_damaged_entry_is_ignored_and_replaced(damage):
    cache.store("k", RESULT)
    (paths.cache_folder() / "validation" / "k.json").write_bytes(damage)
    assert cache.load("k") is None
    cache.store("k", RESULT)
    assert cache.load("k") is not None


def test_unwritable_cache_is_ignored(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    cache.store("k", RESULT)
    assert cache.load("k") is None


def test_failed_write_keeps_the_old_entry_and_leaves_no_temporary_file(monkeypatch):
    cache.store("k", RESULT)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    cache.store("k", RESULT.model_copy(update={"images": 1}))
    assert files() == ["k.json"]
    assert cache.load("k").images == 64


CHANGES = [{"sha256": "b" * 64}, {"plan": {"steps": [1]}}, {"classes": 3}, {"images": 65}, {"images": None}, {"imgsz": 192}, {"seed": 1}]


def test_key_depends_on_everything_that_affects_the_metric():
    keys = [cache.key_of(PARAMETERS, "data")] + [cache.key_of(PARAMETERS.model_copy(update=change), "data") for change in CHANGES]
    keys.append(cache.key_of(PARAMETERS, "other data"))
    assert len(set(keys)) == len(CHANGES) + 2


def test_masked_and_pruned_results_have_different_keys():
    cut = PARAMETERS.model_copy(update={"plan": {"steps": [1]}})
    assert cache.key_of(cut, "data") != cache.key_of(cut.model_copy(update={"masked": True}), "data")
    assert cache.key_of(PARAMETERS, "data") == cache.key_of(PARAMETERS.model_copy(update={"masked": True}), "data")


def test_key_does_not_depend_on_the_device_or_the_checkpoints_path():
    same = PARAMETERS.model_copy(update={"device": "cpu", "checkpoint": "moved.pt"})
    assert cache.key_of(PARAMETERS, "data") == cache.key_of(same, "data")


def planned(*steps, sha256="a" * 64, checkpoint="a.pt"):
    """The key under a plan whose steps are lists of cuts, each what it removes."""
    written = [{"name": f"step {number}", "cuts": [{"layer": "x", "removes": cut} for cut in step]} for number, step in enumerate(steps)]
    plan = {"format": 1, "checkpoint": checkpoint, "sha256": sha256, "steps": written}
    return cache.key_of(PARAMETERS.model_copy(update={"plan": plan}), "data")


def test_plans_that_remove_the_same_channels_have_the_same_key():
    first, second = {"model.0.conv.weight": {"0": [1, 2]}}, {"model.1.conv.weight": {"0": [3]}}
    assert planned([first], [second]) == planned([second, first]) == planned([second], [first], [first])
    assert planned([first], checkpoint="moved.pt") == planned([first])
    assert planned() == planned(sha256="b" * 64) == cache.key_of(PARAMETERS, "data")


def test_plans_with_other_channels_or_another_checkpoint_have_different_keys():
    cuts = [{}, {"a.weight": {"0": [1]}}, {"a.weight": {"0": [1, 2]}}, {"a.weight": {"1": [1]}}, {"b.weight": {"0": [1]}}]
    keys = {planned([cut]) for cut in cuts} | {planned([cuts[1]], sha256="b" * 64)}
    assert len(keys) == 6
    malformed = [{"steps": [1]}, {"steps": "x"}, {"steps": [{"cuts": [{"removes": {"a": 3}}]}]}]
    assert len(keys | {cache.key_of(PARAMETERS.model_copy(update={"plan": plan}), "data") for plan in malformed}) == 9


def test_plans_with_other_dropped_blocks_have_different_keys():
    def key(*drops: str) -> str:
        cuts = [{"layer": "x", "amount": "drop", "removes": {}, "drops": list(drops)}]
        plan = {"format": 1, "checkpoint": "a.pt", "sha256": "a" * 64, "steps": [{"name": "", "cuts": cuts}]}
        return cache.key_of(PARAMETERS.model_copy(update={"plan": plan}), "data")

    assert len({key(), key("model.2.m.0"), key("model.2.m.1"), key("model.2.m.0", "model.2.m.1")}) == 4
    assert key() == planned([{}]) and key("a", "b") == key("b", "a")


def test_key_depends_on_the_ultralytics_version(monkeypatch):
    before = cache.key_of(PARAMETERS, "data")
    monkeypatch.setattr("importlib.metadata.version", lambda name: "0.0.0")
    assert cache.key_of(PARAMETERS, "data") != before


def test_training_resumes_only_with_the_same_images_and_labels(scenes):
    asked = FinetuneParameters(checkpoint="a.pt", sha256="a" * 64, data=str(scenes), imgsz=160, epochs=1, output="b.pt")
    before = run_of(asked).folder
    assert run_of(asked).folder == before
    label = scenes.parent / "labels/val/000.txt"
    label.write_text("1 0.5 0.5 0.25 0.25\n")
    assert run_of(asked).folder != before


def test_changed_way_to_measure_changes_all_keys(monkeypatch):
    training = FinetuneParameters(checkpoint="a.pt", sha256="a" * 64, data="d.yaml", imgsz=160, epochs=1, output="b.pt")
    before = cache.key_of(PARAMETERS, "data"), ScanStore(PARAMETERS, "data").folder, run_of(training).folder
    for module in (cache, run):
        monkeypatch.setattr(module, "FIGURES", FIGURES - 1)
    after = cache.key_of(PARAMETERS, "data"), ScanStore(PARAMETERS, "data").folder, run_of(training).folder
    assert not set(before) & set(after)
