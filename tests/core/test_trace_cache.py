"""A checkpoint that is opened again takes its coupling map from the cache folder; where the stored map is unusable, it is traced again."""

from __future__ import annotations

import gc
import logging
import random
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from tui_pruner.core.model import analysis
from tui_pruner.core.model.analysis import Analysis, analyse, smallest_input, trace_checkpoint, traced
from tui_pruner.core.model.checkpoint import Checkpoint
from tui_pruner.core.model.copies import without_weights
from tui_pruner.core.model.flops import measure
from tui_pruner.core.model.layers import sequence
from tui_pruner.core.tracing import cache as trace_cache
from tui_pruner.core.tracing.cache import from_bytes, to_bytes
from tui_pruner.core.tracing.coupling_map import ChannelGroup, CouplingMap
from tui_pruner.domain.errors import TraceError
from tui_pruner.frameworks.ultralytics import build_from_yaml, read_checkpoint

WHOLE_GROUP = ("number", "channels", "lock", "links", "joined_by")
REST = ("links", "sizes", "roles", "unknown_operations", "operations", "seconds", "spared", "remarks", "classes", "dropped", "gone")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own; the folder of the maps in it, which is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return trace_cache.file_of({}).parent


@pytest.fixture(scope="module")
def digits(demo_checkpoint: Path) -> Checkpoint:
    return read_checkpoint(demo_checkpoint)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The shapes that were traced, as they come."""
    seen: list[object] = []

    def counted(skeleton, shape, *options):
        seen.append(shape)
        return traced(skeleton, shape, *options)

    monkeypatch.setattr(analysis, "traced", counted)
    return seen


@pytest.fixture(scope="module", params=["digits", "yolo12n", "yolov9t"])
def coupling(request: pytest.FixtureRequest, digits: Checkpoint) -> CouplingMap:
    """Maps with everything in them: links, locks, joining operations, several places per channel, adapted widths."""
    model = digits.model if request.param == "digits" else build_from_yaml(f"{request.param}.yaml").model
    return traced(without_weights(model), smallest_input(model))


@pytest.fixture
def kept(digits: Checkpoint) -> tuple[Path, CouplingMap]:
    """The file and the map of a first opening."""
    _, first = trace_checkpoint(digits)
    return trace_cache.file_of(trace_cache.key_of(digits.sha256, smallest_input(digits.model))), first


def equal(left: CouplingMap, right: CouplingMap) -> bool:
    """Whether two maps say the same, down to every index."""
    own = {"groups", "block_outputs", "products", "inner", "named", "scaled", "approximate"}
    assert {field.name for field in fields(CouplingMap)} == {*REST, *own}
    assert left.approximate == right.approximate == {}, "only modules that were handed in are cut approximately"
    assert left.scaled == right.scaled == ()
    assert left.named == right.named == (), "attributes are looked for in modules that were handed in, and those are traced every time"
    assert {field.name for field in fields(ChannelGroup)} == {*WHOLE_GROUP, "members"}
    same = all(getattr(left, name) == getattr(right, name) for name in REST) and list(left.roles) == list(right.roles)
    same = same and len(left.groups) == len(right.groups) and left.block_outputs.keys() == right.block_outputs.keys()
    same = same and all(np.array_equal(left.block_outputs[path], right.block_outputs[path]) for path in left.block_outputs)
    same = same and [(p.module, p.place) for p in left.products] == [(p.module, p.place) for p in right.products]
    same = same and all(
        len(a.factors) == len(b.factors) and all(map(np.array_equal, a.factors, b.factors)) for a, b in zip(left.products, right.products)
    )
    same = same and list(left.inner) == list(right.inner)
    for block, other in zip(left.inner.values(), right.inner.values()):
        same = same and (block.path, block.type, block.tied, block.silenced) == (other.path, other.type, other.tied, other.silenced)
        same = same and np.array_equal(block.inputs, other.inputs) and np.array_equal(block.outputs, other.outputs)
    for a, b in zip(left.groups, right.groups):
        same = same and all(getattr(a, name) == getattr(b, name) for name in WHOLE_GROUP)
        same = same and [(m.axis, m.role) for m in a.members] == [(m.axis, m.role) for m in b.members]
        same = same and all(np.array_equal(m.indices, n.indices) and n.indices.dtype == np.int64 for m, n in zip(a.members, b.members))
    return same


def test_map_is_read_back_unchanged_group_by_group(coupling: CouplingMap):
    again, about = from_bytes(to_bytes(coupling, {"of": "this"}))
    assert equal(coupling, again) and about == {"of": "this"}
    assert len(again.groups) > 50 and again.links and any(group.joined_by for group in again.groups)
    assert not equal(coupling, replace(again, groups=again.groups[1:]))


def test_spared_axes_and_remarks_of_a_map_are_stored(coupling: CouplingMap):
    axes = list(coupling.sizes)
    marked = replace(coupling, spared=frozenset({axes[3], axes[0]}), remarks=("one sentence", "another"))
    again, _ = from_bytes(to_bytes(marked, {}))
    assert equal(marked, again) and not equal(coupling, again)
    assert again.spared == {axes[0], axes[3]}


def test_second_opening_reads_the_stored_map_without_a_trace(digits: Checkpoint, traces: list[object]):
    first, second = analyse(digits, 160), analyse(digits, 320)
    assert traces == [smallest_input(digits.model)] == [(1, 3, 64, 64)]
    assert equal(first.coupling, second.coupling)
    fresh = measure(without_weights(digits.model), (1, 3, 320, 320), sequence(digits.model))
    assert first.measurement.flops * 3 < second.measurement.flops == fresh.flops


def test_architecture_is_traced_every_time(nano: Analysis, traces: list[object], cache: Path):
    trace_checkpoint(nano.checkpoint)
    trace_checkpoint(nano.checkpoint)
    assert len(traces) == 2 and not cache.exists()


def damages() -> Iterator[tuple[str, object]]:
    """What may have become of a file: by name, content from content."""
    yield "empty", lambda content: b""
    yield "text", lambda content: b"not a map"
    yield "half", lambda content: content[: len(content) // 2]
    yield "without its end", lambda content: content[:-1]
    yield "of another kind", lambda content: np.zeros(3).tobytes()


@pytest.mark.parametrize("damage", [pytest.param(damage, id=name) for name, damage in damages()])
def test_damaged_map_is_replaced_by_a_new_trace(kept, damage, digits: Checkpoint, traces: list[object]):
    file, first = kept
    whole = file.read_bytes()
    file.write_bytes(damage(whole))
    assert equal(replace(trace_checkpoint(digits)[1], seconds=first.seconds), first) and len(traces) == 1
    assert equal(replace(from_bytes(file.read_bytes())[0], seconds=first.seconds), first)
    assert trace_checkpoint(digits) and len(traces) == 1


def test_flipped_bit_never_changes_a_map(kept, digits: Checkpoint):
    file, first = kept
    whole, key, skeleton = file.read_bytes(), trace_cache.key_of(digits.sha256, smallest_input(digits.model)), without_weights(digits.model)
    ignored = 0
    for place in random.Random(0).sample(range(8 * len(whole)), 120):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        file.write_bytes(flipped)
        found = trace_cache.load(key, skeleton)
        ignored += found is None
        assert found is None or equal(found, first)
    assert ignored > 100


def test_map_of_another_checkpoint_or_model_is_ignored(kept, digits: Checkpoint, nano: Analysis, caplog):
    file, _ = kept
    shape, skeleton = smallest_input(digits.model), without_weights(digits.model)
    own, other = trace_cache.key_of(digits.sha256, shape), trace_cache.key_of("0" * 64, shape)
    shutil.copy(file, trace_cache.file_of(other))
    with caplog.at_level(logging.INFO, trace_cache.__name__):
        assert trace_cache.load(own, skeleton) is not None and not caplog.records
        assert trace_cache.load(other, skeleton) is None
        assert trace_cache.load(own, nano.skeleton) is None
    assert len(caplog.records) == 2 and all("belongs to another model" in record.getMessage() for record in caplog.records)


def test_every_version_has_its_own_maps(monkeypatch: pytest.MonkeyPatch):
    def place(sha256: str = "a" * 64, side: int = 64) -> Path:
        return trace_cache.file_of(trace_cache.key_of(sha256, (1, 3, side, side)))

    places = {place(), place("b" * 64), place(side=128)}
    monkeypatch.setattr(trace_cache, "__version__", "0.0.1")
    places.add(place())
    monkeypatch.setattr(trace_cache, "core_digest", lambda: "of other rules")
    places.add(place())
    for library in ("torch", "ultralytics", "torch-pruning"):
        with monkeypatch.context() as other:
            other.setattr(trace_cache, "version", lambda name, changed=library: "0" if name == changed else "1")
            places.add(place())
    assert len(places) == 8


def test_unwritable_cache_folder_is_not_an_error(digits: Checkpoint, traces: list[object], cache: Path, caplog):
    cache.parent.mkdir(parents=True, exist_ok=True)
    cache.write_text("a file where the folder should be")  # stops root as well, whom permissions do not
    with caplog.at_level(logging.INFO, trace_cache.__name__):
        assert trace_checkpoint(digits)[1].groups and trace_checkpoint(digits)[1].groups
    assert len(traces) == 2 and any("is not kept" in record.getMessage() for record in caplog.records)


def test_full_disk_leaves_no_partial_map(digits: Checkpoint, cache: Path, monkeypatch: pytest.MonkeyPatch):
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    assert trace_checkpoint(digits)[1].groups and list(cache.iterdir()) == []


def test_cache_folder_can_be_deleted_at_any_time(kept, digits: Checkpoint, traces: list[object], cache: Path):
    shutil.rmtree(cache)
    assert trace_checkpoint(digits)[1].groups and len(traces) == 1 and kept[0].exists()


@pytest.mark.parametrize("collecting", [True, False])
def test_trace_restores_the_state_of_the_garbage_collector(nano: Analysis, monkeypatch: pytest.MonkeyPatch, collecting: bool):
    def failing(*_: object) -> None:
        assert not gc.isenabled()
        raise TraceError("stop")

    monkeypatch.setattr("tui_pruner.core.tracing.size_check.couple_with_size_check", failing)
    was = gc.isenabled()
    (gc.enable if collecting else gc.disable)()
    try:
        with pytest.raises(TraceError, match="stop"):
            traced(without_weights(nano.checkpoint.model), (1, 3, 64, 64))
        assert gc.isenabled() == collecting
    finally:
        (gc.enable if was else gc.disable)()
