"""The code behind a model's own classes, by its content: what was computed with it is known again only while it is the same."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from tui_pruner.core.checkpoint.members import PICKLE, names_in
from tui_pruner.core.checkpoint.refusals import LIBRARIES, module_spec

NOT_OWN = {*LIBRARIES, "builtins", "collections", "numpy", "pathlib", "_codecs"}
MOST_FILES = 5_000


def code_of_file(checkpoint: Path) -> str:
    """A digest of the code behind the classes that a file names; empty where all are Ultralytics' and its libraries'."""
    try:
        with zipfile.ZipFile(checkpoint) as archive:
            pickled = archive.read(next(name for name in archive.namelist() if name.partition("/")[2] == PICKLE))
    except (OSError, zipfile.BadZipFile, StopIteration):  # whoever opens it will say so
        return ""
    return code_of(names_in(pickled))


def code_of(names: Iterable[str]) -> str:
    """A digest of all Python files beside the modules, or in the packages, that these names are from; empty where there is none."""
    modules = sorted({name.partition(".")[0] for name in names} - NOT_OWN)
    digest = hashlib.sha256()
    found = False
    for file in dict.fromkeys(file for module in modules for file in _sources(module)):
        digest.update(f"{file.name}\0".encode(errors="surrogateescape") + file.read_bytes())
        found = True
    return digest.hexdigest() if found else ""


def _sources(module: str) -> Iterator[Path]:
    spec = module_spec(module)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield from sorted(Path(folder).rglob("*.py"))[:MOST_FILES]
    origin = Path(spec.origin) if spec and spec.origin else None
    if spec and not spec.submodule_search_locations and origin and origin.is_file():
        yield from sorted({origin, *origin.parent.glob("*.py")})[:MOST_FILES]
