"""Whether a pruned model can be written where the user wants it: asked before the work starts, so that the answer costs nothing."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from tui_pruner.core.checkpoint.record import Checkpoint
from tui_pruner.core.checkpoint.stock import stock_tasks
from tui_pruner.errors import OutputError

SUFFIX = ".pt"
RENAMED_FAMILIES = ("yolov3", "yolov5")
SPARE_BYTES = 1 << 20
ELSEWHERE = "choose another folder"
ADVICE = {
    errno.ENOSPC: ("no space left", "free some, or choose a folder on another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some, or choose a folder on another disk"),
    errno.EACCES: ("no permission", ELSEWHERE),
    errno.EPERM: ("not permitted", ELSEWHERE),
    errno.EROFS: ("the file system is read-only", ELSEWHERE),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter one"),
    errno.EEXIST: ("another program has just written it", "choose another name or give --force"),
}


def check_output(output: str | Path, source_path: str | Path, force: bool) -> Path:
    """The path to write to, with `~` and symbolic links resolved; never the source.

    Raises OutputError, one line, for whatever can be known in advance to go wrong.
    """
    try:
        return _check(output, Path(source_path).expanduser(), force)
    except OSError as error:
        raise output_error(output, error) from error


def require_writable(source: Checkpoint) -> None:
    """Refuse to begin work on a model that no file can be made from.

    Raises:
        OutputError: it is one.
    """
    if source.unwritable:
        raise OutputError(f"nothing that is made from {source.path} can be written ({source.unwritable}): save it again without that")


def output_error(output: str | Path, error: OSError) -> OutputError:
    """An operating system's refusal as one line with what to do about it."""
    reason, advice = ADVICE.get(error.errno or 0, (error.strerror or str(error), ELSEWHERE))
    return OutputError(f"{output} cannot be written ({reason}): {advice}")


def _check(output: str | Path, source: Path, force: bool) -> Path:
    target = Path(output).expanduser().resolve()
    if target.is_dir():
        raise OutputError(f"{output} is a folder: add a file name that ends in {SUFFIX}")
    if target.suffix != SUFFIX:
        raise OutputError(f"{output} does not end in {SUFFIX}: Ultralytics would not load it, so choose a name that does")
    _check_name(output, target.name)
    if target.exists():
        _check_existing(output, target, source, force)
    _check_folder(output, target.parent, needed=source.stat().st_size if source.is_file() else 0)
    return target


def _check_name(output: str | Path, name: str) -> None:
    """Ultralytics looks some names of old models up under another name, so a file of such a name would never be found."""
    if not any(family in name for family in RENAMED_FAMILIES):
        return
    stock_tasks()
    from ultralytics.utils.checks import check_yolov5u_filename

    looked_up = check_yolov5u_filename(name, verbose=False)
    if looked_up != name:
        raise OutputError(f"{output} would be looked up as {looked_up} by Ultralytics: choose another name, such as pruned-{looked_up}")


def _check_existing(output: str | Path, target: Path, source: Path, force: bool) -> None:
    if source.exists() and target.samefile(source):
        raise OutputError(f"{output} is the model that is being pruned: choose another name, the original stays as it is")
    if not target.is_file():
        raise OutputError(f"{output} is not a regular file: choose another name")
    if not force:
        raise OutputError(f"{output} exists already: choose another name or give --force")


def _check_folder(output: str | Path, folder: Path, needed: int) -> None:
    if not folder.is_dir():
        raise OutputError(f"{output} cannot be written: there is no folder {folder}, create it first")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"{output} cannot be written: the folder {folder} is read-only for you, {ELSEWHERE}")
    free = shutil.disk_usage(folder).free
    if free < needed + SPARE_BYTES:
        raise output_error(output, OSError(errno.ENOSPC, "no space left"))
