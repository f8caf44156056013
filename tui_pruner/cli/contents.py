"""`contents`: what a checkpoint file names and holds, found out without loading it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tui_pruner.cli.options import Device, ImageSize, Json, Model
from tui_pruner.cli.output import count, reserved_stdout

if TYPE_CHECKING:
    from tui_pruner.core.checkpoint.members import Contents


def contents(model: Model, imgsz: ImageSize = None, device: Device = "", as_json: Json = False) -> int:
    """The classes and functions that a .pt names, without loading it. Status 1: only a user who trusts it may load it."""
    with reserved_stdout(as_json) as output:
        from pathlib import Path

        from tui_pruner.core.checkpoint.container import require_readable_file
        from tui_pruner.core.checkpoint.reading import look_into
        from tui_pruner.trust import fingerprint

        file = Path(model).expanduser()
        require_readable_file(file)
        found, sha256 = look_into(file), fingerprint(file)
        output.document({"path": model, "sha256": sha256, **plain(found)})
        output.line(f"{model}  {count(found.bytes)} bytes in {found.members} members  sha256 {sha256}")
        for name in found.survey.names:
            output.line(f"  {name}")
        output.line(f"it {found.refusal}: it is loaded only with --trust" if found.refusal else "it calls only what stock models call")
        return 1 if found.refusal else 0


def plain(found: Contents) -> dict[str, Any]:
    """What was found as scripts read it."""
    numbers: Counter[str] = Counter()
    for storage in found.survey.storages:
        numbers[storage.type] += storage.numbers
    return {
        "members": found.members,
        "bytes": found.bytes,
        "names": list(found.survey.names),
        "numbers": dict(numbers),
        "refusal": found.refusal or None,
    }
