"""`contents`: what a checkpoint file names and holds, found out without loading it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tui_pruner.cli.options import Device, ImageSize, Json, Model
from tui_pruner.cli.output import count, reserved_stdout

if TYPE_CHECKING:
    from tui_pruner.core.checkpoint.members import Contents
    from tui_pruner.errors import CheckpointError


def contents(model: Model, imgsz: ImageSize = None, device: Device = "", as_json: Json = False) -> int:
    """The classes and functions that a .pt names, without loading it. Status 1: it is loaded only where it is trusted, or nowhere."""
    with reserved_stdout(as_json) as output:
        from pathlib import Path

        from tui_pruner.core.checkpoint.reading import look_into
        from tui_pruner.core.checkpoint.refusals import refusal_of
        from tui_pruner.errors import UntrustedError
        from tui_pruner.model_file import require_readable_file
        from tui_pruner.trust import fingerprint, short

        file = Path(model).expanduser()
        require_readable_file(file)
        found, sha256 = look_into(file), fingerprint(file)
        refusal = refusal_of(file, file, found)
        output.document({"path": model, "sha256": sha256, **plain(found, refusal)})
        output.line(f"{model}  {count(found.bytes)} bytes in {found.members} members  sha256 {sha256}")
        for name in found.survey.names:
            output.line(f"  {name}")
        trust = f"; with --trust {short(sha256)} it is" if isinstance(refusal, UntrustedError) else ""
        output.line(f"{refusal}{trust}" if refusal else "it names and calls only what models of Ultralytics do")
        return 1 if refusal else 0


def plain(found: Contents, refusal: CheckpointError | None) -> dict[str, Any]:
    """What was found as scripts read it."""
    numbers: Counter[str] = Counter()
    for storage in found.survey.storages:
        numbers[storage.type] += storage.numbers
    return {
        "members": found.members,
        "bytes": found.bytes,
        "names": list(found.survey.names),
        "numbers": dict(numbers),
        "refusal": str(refusal) if refusal else None,
    }
