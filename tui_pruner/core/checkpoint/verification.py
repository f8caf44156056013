"""Has a written checkpoint checked in a clean process that cannot import this program, with settings of its own."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tui_pruner.core.blocks import image_channels, stride_of
from tui_pruner.core.checkpoint import reload_check
from tui_pruner.core.checkpoint.stock import ENVIRONMENT
from tui_pruner.errors import VerificationError

LONGEST_SECONDS = 600
SEED = 0
QUERIES_NEED_SIDE = 320
"""A head that picks its best 300 places needs an input with more places than that."""


@dataclass(frozen=True)
class CheckResult:
    """One check of a written file: whether it held, and with what figure."""

    name: str
    ok: bool
    detail: str


def verify(file: Path, saved: nn.Module, own_names: Sequence[str] = ()) -> tuple[CheckResult, ...]:
    """Check the file against the model that was serialised into it; it may take `own_names` from modules beyond Ultralytics' own list.

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
    """A fixed random image and what the model gives for it with its weights rounded to half precision.

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
