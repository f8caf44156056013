"""What a Ray task runs on a node: the order's station is kept between tasks, and a checkpoint that is not there is fetched once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import os
import platform
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from tui_pruner import places
from tui_pruner.engine.scan_messages import ScanParameters
from tui_pruner.jobs.executors.residence import claim_cores, common_folder, own
from tui_pruner.jobs.executors.tasks import Order, Task
from tui_pruner.whole_file import replace_file

if TYPE_CHECKING:
    from tui_pruner.jobs.station import Station


def run(order: bytes, task: bytes, content: list[Any]) -> dict[str, Any]:
    """A task's {"result": ...}, or {"error": {"kind", "message"}} where this node cannot do it; both are plain data."""
    from tui_pruner.engine.processes import child_environment
    from tui_pruner.jobs.__main__ import explain
    from tui_pruner.jobs.executors.worker import done

    os.environ.update(child_environment())
    try:
        given = Order.from_json(order)
        local = given.model_copy(update={"parameters": at_hand(given.parameters, content)})
        result = done(kept(local.to_json()).station, Task.from_json(task), name_of_node())
        return {"result": result.model_dump()}
    except Exception as error:
        explained = explain(error)
        return {"error": {"kind": type(explained).__name__, "message": str(explained)}}


def name_of_node() -> str:
    """The host, and how Ray's own tools call this node."""
    import ray

    return f"{platform.node()} {ray.get_runtime_context().get_node_id()[:8]}"


class Kept(NamedTuple):
    """A station, what closes it, and the cores that it works on."""

    station: Station
    opened: contextlib.ExitStack
    cores: list[TextIO]


@functools.lru_cache(maxsize=1)
def kept(order: bytes) -> Kept:
    """The station of an order, for as long as this process works on it: its baseline is measured once."""
    from tui_pruner.jobs.executors.worker import working

    given, opened, common = Order.from_json(order), contextlib.ExitStack(), common_folder()
    tempfile.tempdir = str(own().folder)
    cores = claim_cores(math.ceil(given.parameters.executor.cpus_per_task), common) if given.parameters.device == "cpu" else []
    return Kept(opened.enter_context(working(given)), opened, cores)


def at_hand(parameters: ScanParameters, content: list[Any]) -> ScanParameters:
    """The parameters with a checkpoint that is on this node: where there is none with its SHA-256, it is fetched into the cache folder."""
    if not content or sha256_of(Path(parameters.checkpoint)) == parameters.sha256:
        return parameters
    file = places.cache_folder() / "checkpoints" / f"{parameters.sha256}.pt"
    if sha256_of(file) != parameters.sha256:
        import ray

        replace_file(file, ray.get(content[0]).tobytes())
    return parameters.model_copy(update={"checkpoint": str(file)})


def sha256_of(file: Path) -> str | None:
    """The digest of a file; None where it cannot be read."""
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        return None
