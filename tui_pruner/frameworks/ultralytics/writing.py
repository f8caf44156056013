"""A pruned model to its file: the model is proved, the file is verified by stock Ultralytics in a process of its own, and then moved to its
path.
"""

from __future__ import annotations

import copy
import errno
import hashlib
import io
import json
import os
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tui_pruner.core.model.checkpoint import Checkpoint, stages_of
from tui_pruner.core.model.layers import image_channels, stride_of
from tui_pruner.core.pruning.masks import demand_maskable, masked_model
from tui_pruner.core.pruning.proof import Proof
from tui_pruner.core.pruning.proved_cut import cut_and_prove, demand_proved
from tui_pruner.core.pruning.session import AppliedStep, PruningSession
from tui_pruner.core.pruning.twin import masked_slices
from tui_pruner.domain.errors import OutputError, VerificationError
from tui_pruner.frameworks.ultralytics import reload_check
from tui_pruner.frameworks.ultralytics.building import ENVIRONMENT, stock_tasks
from tui_pruner.frameworks.ultralytics.contents import (
    check_output,
    checkpoint_dictionary,
    for_saving,
    mask_provenance,
    provenance_of,
    require_writable,
    with_numberings,
    with_trust,
)
from tui_pruner.storage.atomic import output_error, remove_leftovers, temporary_beside, write_durably

LONGEST_SECONDS = 600
SEED = 0
QUERIES_NEED_SIDE = 320
"""A head that picks its best 300 positions needs an input with more positions than that."""


@dataclass(frozen=True)
class CheckResult:
    """One check of a written file: whether it passed, and its figure."""

    name: str
    ok: bool
    detail: str


def verify(file: Path, saved: nn.Module, own_names: Sequence[str] = ()) -> tuple[CheckResult, ...]:
    """Check the file against the model that was saved in it; it may import `own_names` beyond Ultralytics' own list.

    Raises:
        VerificationError: it failed a check, which is named.
    """
    with tempfile.TemporaryDirectory(prefix="verify-") as folder:
        request = _write_request(Path(folder), file, saved, own_names)
        checks = _run(request, Path(folder))
    for check in checks:
        if not check.ok:
            raise VerificationError(
                f"nothing was written: the new file failed its check {check.name!r} ({check.detail}): leave the last cut out, or report it"
            )
    return checks


def expected_outputs(saved: nn.Module) -> dict[str, Any]:
    """A fixed random image and the model's outputs for it with weights rounded to half precision.

    In float64: two processes may add in another order, and in float32 that alone moved a deep network's outputs by 3e-5.
    """
    model = copy.deepcopy(saved).double().eval()
    stride = stride_of(model)
    height, width = (QUERIES_NEED_SIDE,) * 2 if hasattr(model.model[-1], "num_queries") else (2 * stride, 3 * stride)  # type: ignore[index]
    image = torch.rand((1, image_channels(model), height, width), generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)
    return {"image": image, "outputs": reload_check.named_outputs(model, image)}


def _write_request(folder: Path, file: Path, saved: nn.Module, own_names: Sequence[str]) -> Path:
    """Everything that the clean process needs, with the file under a neutral name: Ultralytics changes some paths before it opens them."""
    checkpoint, expected, request = folder / "model.pt", folder / "expected.bin", folder / "request.json"
    checkpoint.symlink_to(file.absolute())
    torch.save(expected_outputs(saved), expected)
    paths = [str(Path(path).absolute()) for path in sys.path if Path(path).exists()]
    asked = {"checkpoint": str(checkpoint), "expected": str(expected), "paths": paths, "own_names": list(own_names)}
    request.write_text(json.dumps(asked))
    return request


def _run(request: Path, folder: Path) -> tuple[CheckResult, ...]:
    environment = {**os.environ, **ENVIRONMENT, "YOLO_CONFIG_DIR": str(folder), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-I", "-X", "utf8", reload_check.__file__, str(request)]
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,  # ours may carry the interface's messages
            capture_output=True,
            timeout=LONGEST_SECONDS,
            check=False,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired as error:
        raise VerificationError(f"nothing was written: checking the new file took more than {LONGEST_SECONDS} s; try again") from error
    except ValueError as error:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise VerificationError(f"nothing was written: the process that checks the new file died ({last[:160]}); try again") from error
    return tuple(CheckResult(**check) for check in answer["checks"])


@dataclass(frozen=True)
class WrittenFile:
    """A checkpoint at its path: its size in bytes, its SHA-256, and the checks that it passed before.

    `own_names`: the names from the user's modules that it imports, as did the trusted file that it was made from; without trust it is not
    opened.
    """

    output: str
    sha256: str
    bytes: int
    checks: tuple[CheckResult, ...]
    own_names: tuple[str, ...] = ()


def write_checkpoint(
    pruned: nn.Module,
    source: Checkpoint,
    output: str | Path,
    *,
    plan: dict[str, Any],
    kept: dict[str, dict[str, list[int]]],
    proof: dict[str, Any],
    dropped: Sequence[str] = (),
    force: bool = False,
    on_progress: Callable[[str], None] = lambda message: None,
) -> WrittenFile:
    """Save the pruned model as a file that stock Ultralytics loads without this program; the source is never opened for writing.

    Raises OutputError when the path is not usable, or nothing that is made from the source can be written, and VerificationError when
    the file fails a check; then nothing is left behind, and a file that was there before is unchanged.
    """
    return write_model(pruned, source, output, provenance_of(source, plan, kept, proof, dropped), force, on_progress)


def write_model(
    pruned: nn.Module,
    source: Checkpoint,
    output: str | Path,
    provenance: Mapping[str, Any],
    force: bool = False,
    on_progress: Callable[[str], None] = lambda message: None,
) -> WrittenFile:
    """Save a model that was made from the source, with its provenance; otherwise like `write_checkpoint`."""
    target = check_output(output, source.path, force)
    require_writable(source, target)
    remove_leftovers()
    _require_unfused(pruned)
    on_progress("serialising")
    saved = for_saving(pruned, source, cut=was_cut(provenance))
    data = _serialised(checkpoint_dictionary(saved, source, with_trust(with_numberings(provenance, saved), source)))
    try:
        with temporary_beside(target) as temporary:
            on_progress(f"writing {len(data) / 1e6:.1f} MB")
            write_durably(temporary, data)
            on_progress("verifying in a clean process")
            checks = verify(temporary, saved, source.own_names)
            _move_into_place(temporary, target, force)
    except OSError as error:
        raise output_error(output, error) from error
    on_progress("done")
    return WrittenFile(str(output), hashlib.sha256(data).hexdigest(), len(data), checks, source.own_names if source.trusted else ())


def was_cut(provenance: Mapping[str, Any]) -> bool:
    """Return whether a model has other shapes than its architecture: some stage pruned it, instead of masking it."""
    return any(stage["kind"] == "prune" for stage in stages_of(provenance))


def _require_unfused(pruned: nn.Module) -> None:
    if not isinstance(pruned, stock_tasks().BaseModel):
        raise OutputError(f"a {type(pruned).__name__} is no Ultralytics model and cannot be saved as one")
    if pruned.is_fused():
        raise OutputError("the model is fused, so it could not be trained again: save the unfused one")


def _serialised(dictionary: dict[str, Any]) -> memoryview:
    """The file's bytes; made in memory so that a full disk is an error of the operating system with a name."""
    buffer = io.BytesIO()
    try:
        torch.save(dictionary, buffer)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise VerificationError(f"nothing was written: the model holds what no file can hold ({error}): open the original again") from error
    return buffer.getbuffer()


def _move_into_place(temporary: Path, target: Path, force: bool) -> None:
    """Rename in one step; without `force`, a file that has appeared in the meantime is not overwritten."""
    if not force:
        _claim(temporary, target)
    else:
        temporary.replace(target)


def _claim(temporary: Path, target: Path) -> None:
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK):
            raise
        os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # this file system has no hard links
        try:
            temporary.replace(target)
        except OSError:
            target.unlink(missing_ok=True)
            raise


@dataclass(frozen=True)
class ProvedFile:
    """A file at its path, and the proof of the model in it; `masked`: the slices at zero, where it was masked and not cut."""

    file: WrittenFile
    proof: Proof
    masked: Mapping[str, Mapping[str, list[int]]] | None = None


def cut_prove_write(
    session: PruningSession,
    output: str | Path,
    *,
    steps: Sequence[AppliedStep] | None = None,
    mask: bool = False,
    force: bool = False,
    on_progress: Callable[[str], None] = lambda message: None,
) -> ProvedFile:
    """Write the pruned model after some steps of a session (default: all applied ones), each of which must be proved.

    The last step is cut and proved again, so that the proof is that of the model in the file and not of an earlier, equal cut.
    With `mask` the masked twin is written in place of the cut model: proved to compute the same, with the original's shapes.

    Raises:
        RequestError: a step cannot be expressed by zeros.
        ProofError: a step is not proved; nothing is written.
        OutputError: no step, or an unusable output path.
        VerificationError: the file failed its checks and was removed.
    """
    applied = session.steps if steps is None else list(steps)
    if not applied:
        raise OutputError("nothing to write: no step was applied, the model is as it was")
    checkpoint, coupling, removal = session.analysis.checkpoint, session.analysis.coupling, applied[-1].removal
    if mask:
        demand_maskable(coupling, removal)
    original = session.original()
    for number, step in enumerate(applied, start=1):
        if step is not applied[-1] or step.proof is not None:
            _demand_step(session.prove(step, original), number)
    pruned, applied[-1].proof = cut_and_prove(checkpoint.model, coupling, removal, original)
    _demand_step(applied[-1].proof, len(applied))
    plan = session.plan.model_copy(update={"steps": [step.step for step in applied]})
    if mask:
        masked = masked_slices(checkpoint.model, coupling, removal)
        provenance = mask_provenance(checkpoint, plan.plain(), masked, applied[-1].proof.plain())
        twin = masked_model(checkpoint.model, coupling, removal, original)
        return ProvedFile(write_model(twin, checkpoint, output, provenance, force, on_progress), applied[-1].proof, masked)
    written = write_checkpoint(
        pruned,
        checkpoint,
        output,
        plan=plan.plain(),
        kept=removal.kept(coupling),
        dropped=sorted(removal.dropped),
        proof=applied[-1].proof.plain(),
        force=force,
        on_progress=on_progress,
    )
    return ProvedFile(written, applied[-1].proof)


def _demand_step(proof: Proof, number: int) -> None:
    demand_proved(proof, f"not written: step {number}", "leave out what it cuts")
