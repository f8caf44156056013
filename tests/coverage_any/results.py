"""What is known of each network, a line of JSON each in build/, so that a run that was broken off can go on.

What the page rests on is kept beside this file too (`KEPT`), shortened, so that the page outlives the folder in which it was measured.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import resource
import sys
import tempfile
import traceback
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NoReturn

import tui_pruner
from tests.bench.sandbox import ROOT
from tests.coverage.limits import ENDINGS, NO_MEMORY, Ended, documents_in
from tests.coverage.measuring import GIB, told

FILE = ROOT / "build" / "coverage-any.jsonl"
KEPT = Path(__file__).with_name("kept.jsonl")
MODULES = {"ours": "tests.coverage_any.ours", "theirs": "tests.coverage_any.theirs"}
"""Modules whose `main` is asked about a network."""
LASTING = ("child", "network", "state", "side", "channels", "free_channels", "locked", "unknown", "groups", "outcomes", "how", "words")
MEMORY = {"ours": 10 * GIB, "theirs": 6 * GIB}
LIBRARIES = ("torch", "torchvision", "timm", "torch-pruning")
SOURCES = Path(tui_pruner.__file__).parent

Result = dict[str, Any]


def known() -> dict[tuple[str, str], Result]:
    """The results that are kept, by kind of child and network; the last line of each counts. A line that was broken off is left out."""
    found: dict[tuple[str, str], Result] = {}
    for line in [line for file in (KEPT, FILE) if file.exists() for line in file.read_text(encoding="utf-8").splitlines()]:
        try:
            one = json.loads(line)
        except ValueError:
            continue
        found[one["child"], one["network"]] = one
    return found


def keep(results: dict[tuple[str, str], Result]) -> None:
    """Write what the page rests on, without what only a closer look needs."""
    lines = []
    for (_, _), found in sorted(results.items()):
        short = {name: found[name] for name in LASTING if name in found}
        short |= {name: rounded(found[name]) for name in ("open_seconds", "proof_seconds", "seconds") if name in found}
        if "together" in found:
            short["together"] = verdict(found["together"])
        if "alone" in found:
            short["alone"] = [verdict(one) for one in found["alone"]]
        lines.append(json.dumps(short) + "\n")
    KEPT.write_text("".join(lines), encoding="utf-8")


def rounded(seconds: float) -> float:
    """Seconds as the page shows them."""
    return round(seconds, 1)


def verdict(one: Result) -> Result:
    """What both proofs say of a cut, and why where it is not equal."""
    equal = one["ours"] == one["twin"] == "equal"
    return {"ours": one["ours"], "twin": one["twin"], "says": "" if equal else one.get("says", "")}


def measured_now(child: str, network: str) -> Result:
    """Ask a child process about a network, and keep what it says."""
    print(f"{child}: {network}", file=sys.stderr, flush=True)
    found = {"child": child, "network": network, "state": state(child, network), **told(forked(MODULES[child], network, MEMORY[child]))}
    FILE.parent.mkdir(parents=True, exist_ok=True)
    with FILE.open("a", encoding="utf-8") as file:
        file.write(json.dumps(found) + "\n")
    return found


def forked(module: str, network: str, bytes_at_most: int) -> Ended:
    """Ask a module's `main` in a child of this process, which has the libraries already: to import them takes longer than most networks."""
    main = importlib.import_module(module).main
    with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            os.dup2(given.fileno(), 1)
            os.dup2(said.fileno(), 2)
            resource.setrlimit(resource.RLIMIT_AS, (bytes_at_most, bytes_at_most))
            answer(main, network)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        given.seek(0)
        said.seek(0)
        documents, words = documents_in(given.read()), said.read().decode(errors="replace").strip()
    how = "done" if status == 0 else ENDINGS.get(status, "error")
    if how in ("error", "crash") and any(sign in words for sign in NO_MEMORY):
        how = "out of memory"
    return Ended(documents, how, words.splitlines()[-1] if words and status else "")


def answer(main: Callable[[str], None], network: str) -> NoReturn:
    """Be the child: ask, and end this process."""
    status = 1
    try:
        main(network)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def state(child: str, network: str) -> str:
    """A name for what a result depends on: the libraries, and for ours the source."""
    libraries = [name for name in LIBRARIES if name != "timm" or network.startswith("timm/")]
    digest = hashlib.sha256("".join(f"{name} {installed(name)}" for name in libraries).encode())
    if child == "ours":
        for folder in ("core", "frameworks"):
            for file in sorted((SOURCES / folder).rglob("*.py")):
                digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def installed(name: str) -> str:
    """The version of a library, or "-"."""
    try:
        return version(name)
    except PackageNotFoundError:
        return "-"
