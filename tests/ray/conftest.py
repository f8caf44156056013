"""A Ray cluster of two nodes on loopback, and the bundled checkpoint as a scan that takes seconds."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from tui_pruner.engine.search_messages import ScanExecutor, ScanParameters

OURS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_memory_monitor_refresh_ms": "0", "RAY_DISABLE_IMPORT_WARNING": "1"}
NODE = {"num_cpus": 1, "object_store_memory": 100_000_000}
SOON_DEAD = {"health_check_initial_delay_ms": 1000, "health_check_period_ms": 500, "health_check_timeout_ms": 3000}


class TwoNodes:
    """The cluster; the driver is on the first node."""

    def __init__(self, cluster: Any, other: Any) -> None:
        self.address: str = cluster.address
        self.other = other

    def lose(self) -> None:
        """The second node's processes die, as if its power were cut."""
        for process in self.other.all_processes["raylet"]:
            family = [process.process.pid, *(child.pid for child in psutil.Process(process.process.pid).children(recursive=True))]
            for number in family:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[TwoNodes]:
    """Its folder has a short name: sockets are in it, and their paths may have 107 bytes."""
    from ray.cluster_utils import Cluster

    os.environ |= OURS
    folder = os.environ["RAY_TMPDIR"] = tempfile.mkdtemp(prefix="tp-", dir="/tmp")
    inner = Path(folder, "ray")
    inner.mkdir()  # Ray notes the cluster's address there, and does not make the folder
    head = {**NODE, "include_dashboard": False, "temp_dir": str(inner), "_system_config": SOON_DEAD}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    try:
        yield TwoNodes(cluster, cluster.add_node(**NODE))
    finally:
        cluster.shutdown()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def local(demo_checkpoint: Path, demo_data: Path) -> ScanParameters:
    """A scan on this machine."""
    sha256 = hashlib.sha256(demo_checkpoint.read_bytes()).hexdigest()
    return ScanParameters(
        checkpoint=str(demo_checkpoint), sha256=sha256, data=str(demo_data), images=8, imgsz=64, device="cpu", ratios=[0.5]
    )


@pytest.fixture
def remote(local: ScanParameters, two_nodes: TwoNodes) -> ScanParameters:
    """The same on the cluster."""
    return local.model_copy(update={"executor": ScanExecutor(name="ray", address=two_nodes.address)})
