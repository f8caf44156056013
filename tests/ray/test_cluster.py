"""A scan on a Ray cluster: nodes that know the data alone, one that is lost, drivers that end and others that go on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.ray.conftest import TwoNodes
from tui_pruner.cli.commands.scan import write
from tui_pruner.domain.errors import DataError
from tui_pruner.engine.job_messages import JobProgress
from tui_pruner.engine.search_messages import ScanExecutor, ScanParameters
from tui_pruner.jobs.scan import ray_cluster
from tui_pruner.jobs.scan.scan import run_scan

ray = pytest.importorskip("ray", reason="Ray is not installed: make ray-test installs it")


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tui_pruner.jobs.scan.executors.SIDE_BY_SIDE", 4)


def change_orders(monkeypatch: pytest.MonkeyPatch, **changes: str) -> None:
    """What nodes are told is not as it is here."""
    real = ray_cluster.order_of

    def changed(*arguments: Any) -> Any:
        order = real(*arguments)
        parameters = order.parameters.model_copy(update={name: changes[name] for name in changes if name != "data_digest"})
        return order.model_copy(
            update={"parameters": parameters, **({"data_digest": changes["data_digest"]} if "data_digest" in changes else {})}
        )

    monkeypatch.setattr(ray_cluster, "order_of", changed)


def who(progress: JobProgress) -> str:
    """The node that a result came from."""
    return progress.doing.rpartition(" ")[2] if progress.metrics else ""


def test_node_with_other_data_is_named(remote: ScanParameters, monkeypatch: pytest.MonkeyPatch):
    change_orders(monkeypatch, data_digest="0" * 64)
    with pytest.raises(DataError, match=r"digits.yaml on \S+ is not the data set that the scan was started with"):
        run_scan(remote, lambda progress: None)


def test_second_driver_measures_only_what_the_first_did_not(remote: ScanParameters):
    first: list[str] = []

    def stop(progress: JobProgress) -> None:
        first.extend([progress.doing.partition(",")[0]] if progress.metrics else [])
        if len(first) == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_scan(remote, stop)
    second: list[str] = []
    result = run_scan(remote, lambda progress: second.extend([progress.doing.partition(",")[0]] if progress.metrics else []))
    assert result.cached == 9 and len(first) + len(second) == 51 and not set(first) & set(second)
    nowhere = remote.model_copy(update={"executor": ScanExecutor(name="ray", address="127.0.0.1:1")})
    again = run_scan(nowhere, lambda progress: None)
    assert again.cached == 51 and again.groups == result.groups


def test_scan_that_loses_a_node_gives_the_same_file(
    local: ScanParameters, remote: ScanParameters, two_nodes: TwoNodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    change_orders(monkeypatch, checkpoint="/nowhere/digits.pt")
    nodes: list[str] = []
    other = two_nodes.other.node_id[:8]

    def lose(progress: JobProgress) -> None:
        node = who(progress)
        if node == other and other not in nodes:
            two_nodes.lose()
        nodes.extend([node] if node else [])

    scattered = run_scan(remote, lose)
    assert other in nodes and len(set(nodes)) == 2 and len(nodes) == 51
    assert nodes.count(other) <= 8 < nodes.count(next(iter(set(nodes) - {other})))
    write(tmp_path / "scattered.json", scattered)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    write(tmp_path / "local.json", run_scan(local, lambda progress: None))
    assert (tmp_path / "scattered.json").read_bytes() == (tmp_path / "local.json").read_bytes()
    assert scattered.cached == 0 and scattered.failed == [] and max(row.drop for row in scattered.groups) > 0.1
