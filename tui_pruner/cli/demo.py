"""The demo without a terminal: inspect, preview, cut, prove, validate, save, reload; every figure measured now."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from pathlib import Path
from typing import Any

from tui_pruner.cli.commands.inspect import show_preview
from tui_pruner.cli.commands.prune import verdict
from tui_pruner.cli.output import Output, change, progress_of, reserved_stdout, say
from tui_pruner.cli.session import open_session, validated
from tui_pruner.core.pruning.coverage import coupling_report
from tui_pruner.core.pruning.preview import dry_run
from tui_pruner.core.pruning.proof import Proof, prove_file
from tui_pruner.core.pruning.proved_cut import demand_proved
from tui_pruner.core.pruning.removal import NOTHING
from tui_pruner.core.pruning.session import PruningSession
from tui_pruner.domain.cuts import parse_request
from tui_pruner.domain.formatting import large
from tui_pruner.engine.job_messages import ValidationResult
from tui_pruner.engine.views import model_info, preview_view
from tui_pruner.frameworks.ultralytics import WrittenFile, read_checkpoint
from tui_pruner.frameworks.ultralytics.writing import cut_prove_write

CUTS = ("model.6.m.*.cv1=30%", "model.8.cv2=25%", "model.12.cv2=20%")
IMAGES = 64
METRIC = "metrics/mAP50-95(B)"


def walk(checkpoint: Path, data: Path, imgsz: int | None, device: str, as_json: bool) -> int:
    """Run the demo on a checkpoint and print each step; 0 when the cut is proved and the written file reloads equal."""
    with reserved_stdout(as_json) as output, tempfile.TemporaryDirectory() as folder:
        session = open_session(str(checkpoint), imgsz)
        document: dict[str, Any] = {"inspect": look(output, session), "preview": preview_cuts(output, session)}
        proof = make(output, session)
        document["proof"] = proof.plain()
        document["validate"] = measure(output, session, data, imgsz, device)
        written, again = save(output, session, Path(folder))
        document["save"] = {"bytes": written.bytes, "checks": [dataclasses.asdict(check) for check in written.checks]}
        document["prove_file"] = again.plain()
        output.document(document)
        output.line("\nThe same in a terminal: tui-pruner demo")
        return 0 if again.equal else 1


def look(output: Output, session: PruningSession) -> dict[str, Any]:
    """Show the checkpoint, and how much of it can be cut."""
    info = model_info(session.analysis, session.arithmetic)
    report = coupling_report(session.analysis)
    convolutions = report["convolutions"]
    output.line(f"1 Look: {Path(info.path).name}, {info.family} {info.task}, {info.classes} classes, {info.imgsz} px, "
                f"{info.parameters:,} parameters, {large(info.flops)} FLOPs")  # fmt: skip
    output.line(f"  {len(report['groups'])} channel groups in {report['seconds'] * 1000:.0f} ms; of {convolutions['total']} convolutions "
                f"{convolutions['free']} are free, {convolutions['coupled']} coupled, {convolutions['linked']} linked, "
                f"{convolutions['locked']} locked")  # fmt: skip
    return {**info.model_dump(), "convolutions": convolutions}


def preview_cuts(output: Output, session: PruningSession) -> dict[str, Any]:
    """Preview the cuts."""
    requests = [parse_request(text) for text in CUTS]
    view = preview_view(session, requests)
    dry_run(session.analysis, NOTHING)  # PyTorch's first meta forward imports for a second; the second forward shows the usual time
    report = dry_run(session.analysis, session.preview(requests).removal)
    output.line(f"\n2 Preview: {', '.join(CUTS)} ({view.seconds * 1000:.1f} ms)")
    show_preview(output, view)
    output.line(f"  dry run {'ok' if report.ok else report.error}, {report.seconds * 1000:.0f} ms")
    return {"before": view.before.model_dump(), "after": view.after.model_dump(), "dry_run": dataclasses.asdict(report)}


def make(output: Output, session: PruningSession) -> Proof:
    """Cut and prove.

    Raises:
        ProofError: it differs from the masked twin.
    """
    proof = session.prove(session.apply([parse_request(text) for text in CUTS]))
    output.line(f"\n3 Cut: {verdict(proof)}, {proof.seconds * 1000:.0f} ms")
    demand_proved(proof, "the demo's cut", "report this together with what tui-pruner --version prints")
    return proof


def measure(output: Output, session: PruningSession, data: Path, imgsz: int | None, device: str) -> dict[str, Any]:
    """Validate before and after on the same images."""

    def validation(plan: dict[str, Any] | None) -> ValidationResult:
        return validated(session.analysis.checkpoint.path, str(data), IMAGES, imgsz, device, None, plan, progress_of("validate"))

    before, after = validation(None), validation(session.plan.plain())
    output.line(f"\n4 Validate on {after.images} images: {METRIC} {before.metrics[METRIC]:.4f} -> {after.metrics[METRIC]:.4f} "
                f"({before.seconds:.1f} s and {after.seconds:.1f} s{', cached' if after.cached else ''})")  # fmt: skip
    return {"images": after.images, "before": before.metrics, "after": after.metrics}


def save(output: Output, session: PruningSession, folder: Path) -> tuple[WrittenFile, Proof]:
    """Write a temporary file, which a clean process verifies, and prove the file."""
    started = time.perf_counter()
    written = cut_prove_write(session, folder / "digits-pruned.pt", on_progress=say).file
    before, after = session.arithmetic.widths(NOTHING).size, session.widths.size
    output.line(f"\n5 Save: {written.bytes / 1e6:.2f} MB, parameters {change(before.parameters, after.parameters)}, "
                f"FLOPs {change(before.flops, after.flops)} ({time.perf_counter() - started:.1f} s)")  # fmt: skip
    for check in written.checks:
        output.line(f"  {'ok' if check.ok else 'FAILED'}  {check.name}{': ' + check.detail if check.detail else ''}")
    again = prove_file(session.analysis.checkpoint, read_checkpoint(written.output))
    output.line(f"\n6 Reload: {verdict(again)}")
    return written, again
