"""Imports between layers, checked in new processes, and what no file of the project may contain."""

from __future__ import annotations

import ast
import importlib.util
import json
import pkgutil
import re
import shutil
import statistics
import subprocess
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import tui_pruner
from tests.deadlines import HANGING

PROJECT = Path(__file__).parent.parent
MODELS = {"torch", "torchvision", "ultralytics", "torch_pruning"}
NUMBERS = {"numpy", "scipy", "cv2"}
INTERFACES = {"textual", "typer", "click"}
SCRIPT = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted({module.partition(".")[0] for module in sys.modules})))
"""
ENGINE = [
    "tui_pruner.engine",
    *(
        f"tui_pruner.engine.{n}"
        for n in ("client", "messages", "processes", "server", "job_messages", "recovery_messages", "search_messages")
    ),
]


def modules_of(package: str) -> list[str]:
    """A package and every module under it but its entry points, found without importing any."""
    root = Path(importlib.util.find_spec(package).origin).parent
    found = {
        ".".join([package, *path.relative_to(root).with_suffix("").parts]).removesuffix(".__init__")
        for path in root.rglob("*.py")
        if path.stem != "__main__"
    }
    return sorted(found)


ON_MODULES = modules_of("tui_pruner.jobs.any_module")
"""Jobs that run the user's code at once, so that nothing can be refused before PyTorch is there."""


def loaded_by(modules: list[str]) -> set[str]:
    """The top-level packages that a fresh process has loaded after importing these."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(modules)], capture_output=True, text=True, check=False, timeout=HANGING)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("modules", "needed", "forbidden"),
    [
        (modules_of("tui_pruner.tui"), {"textual"}, MODELS | NUMBERS),
        (["tui_pruner.tui.app"], {"textual"}, MODELS | NUMBERS),
        (ENGINE, {"asyncio"}, MODELS | NUMBERS | INTERFACES),
        (modules_of("tui_pruner.domain"), {"re"}, MODELS | NUMBERS | INTERFACES | {"pydantic", "yaml", "rich"}),
        (modules_of("tui_pruner.storage"), {"yaml"}, MODELS | NUMBERS | INTERFACES),
        (modules_of("tui_pruner.core"), {"torch"}, INTERFACES | {"ultralytics"}),
        ([*modules_of("tui_pruner.frameworks"), *modules_of("tui_pruner.report")], {"torch"}, INTERFACES),
        ([name for name in modules_of("tui_pruner.jobs") if name not in ON_MODULES], {"tui_pruner"}, INTERFACES | MODELS),
        (["tui_pruner.__main__", "tui_pruner.cli.main", "tui_pruner.storage.yaml"], {"typer"}, MODELS | NUMBERS | {"textual"}),
    ],
    ids=["tui", "the app", "engine", "domain", "storage", "core", "frameworks and report", "jobs", "command line"],
)
def test_layer_does_not_load_forbidden_packages(modules: list[str], needed: set[str], forbidden: set[str]):
    loaded = loaded_by(modules)
    assert needed <= loaded
    assert loaded & forbidden == set()


def test_opening_the_app_with_a_plan_loads_no_model_library(tmp_path: Path):
    script = """
import sys
from tui_pruner.cli.commands import app as opening
from tui_pruner.tui import app
opened = []
async def noted(model, engine, **options):
    opened.append(options["plan"])
    engine.kill()
    await engine.wait()
    return 0
app.run_app = noted
sys.stdin.isatty = sys.stdout.isatty = lambda: True
from tui_pruner.__main__ import run
assert run(["best.pt", "--plan", sys.argv[1]]) == 0
assert opened == [{"checkpoint": "best.pt"}]
sys.exit(str({"torch", "ultralytics", "numpy"} & set(sys.modules)))
"""
    (tmp_path / "plan.yaml").write_text("checkpoint: best.pt\n")
    command = [sys.executable, "-c", script, str(tmp_path / "plan.yaml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGING)
    assert done.stderr.strip() == "set()"


SKIPPED_FOLDERS = {".git", ".venv", "build", "dist", "runs"}
BINARY = {".pt", ".jpg", ".png", ".pyc", ".cache", ".npy"}


def project_files() -> list[Path]:
    """Every text file of the project: what git tracks, or in an unpacked archive what is there."""
    tracked = tracked_files() or [path for path in PROJECT.rglob("*") if not SKIPPED_FOLDERS & set(path.relative_to(PROJECT).parts)]
    return [
        path for path in tracked if path.is_file() and path.suffix not in BINARY and "_cache" not in str(path.parent.relative_to(PROJECT))
    ]


def tracked_files() -> list[Path]:
    """What git tracks here; nothing where no git exists."""
    if shutil.which("git") is None:
        return []
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=False)
    return [PROJECT / name for name in listed.stdout.split("\0") if name]


MACHINE_PATH = re.compile(r"(?<![\w.~])/(?:root|work|home/\w+|Users/\w+)/")


def test_no_file_contains_a_path_of_a_users_machine():
    files = project_files()
    assert len(files) > 100
    assert [str(file) for file in files if MACHINE_PATH.search(file.read_text(encoding="utf-8", errors="replace"))] == []
    assert MACHINE_PATH.search('open("/' + 'root/best.pt")')


def test_every_module_and_public_object_has_a_docstring():
    missing = []
    for module in pkgutil.walk_packages(tui_pruner.__path__, "tui_pruner."):
        file = PROJECT / Path(*module.name.split("."))
        path = file / "__init__.py" if module.ispkg else file.with_suffix(".py")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        public = [n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and n.name[0] != "_"]
        missing += [f"{module.name}.{getattr(node, 'name', '')}" for node in (tree, *public) if not ast.get_docstring(node)]
    assert missing == []


PACKAGE = PROJECT / "tui_pruner"
ENTRIES = ("__init__.py", "__main__.py")
MOST_FILES = 256
"""To come down to 200."""
MOST_IN_A_FOLDER: dict[str, int] = {}
"""Folders that still hold more than 16 modules."""


def source_files() -> dict[Path, str]:
    """Every module's source by its path in the package."""
    return {path.relative_to(PACKAGE): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def test_files_and_folders_are_within_their_size_limits():
    lengths = {path: len(text.splitlines()) for path, text in source_files().items()}
    modules = {path: length for path, length in lengths.items() if path.name not in ENTRIES}
    folders = Counter(path.parent for path in modules)
    assert len(lengths) <= MOST_FILES
    assert statistics.median(modules.values()) >= 110
    assert [str(path) for path, length in lengths.items() if length > 400] == []
    assert sum(length < 40 for length in modules.values()) <= 20
    assert [str(path) for path in modules if path.parent == Path()] == []
    assert [str(folder) for folder, count in folders.items() if count > MOST_IN_A_FOLDER.get(folder.as_posix(), 16)] == []


def test_no_two_classes_have_the_same_name():
    found = defaultdict(list)
    for path, text in source_files().items():
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(str(path))
    assert {name: paths for name, paths in found.items() if len(paths) > 1} == {}


def test_inheritance_is_at_most_three_deep_and_no_action_calls_super():
    bases: dict[str, list[str]] = {}
    for text in source_files().values():
        assert "super().action_" not in text
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef):
                bases[node.name] = [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases]

    def depth(name: str) -> int:
        return 1 + max([depth(base) for base in bases[name] if base in bases and base != name], default=0)

    assert {name: depth(name) for name in bases if depth(name) > 3} == {}


def test_no_two_packages_import_each_other_even_for_types():
    imports = defaultdict(set)
    for path, text in source_files().items():
        for node in ast.walk(ast.parse(text)):
            named = (
                [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else [a.name for a in getattr(node, "names", [])]
                if isinstance(node, ast.Import)
                else []
            )
            imports[path.parts[0]] |= {name.split(".")[1] for name in named if name.startswith("tui_pruner.")}
    assert [(a, b) for a in imports for b in imports[a] if a < b and a in imports.get(b, ())] == []


def test_every_criterion_of_the_table_is_computed_by_the_core():
    from tui_pruner.core.pruning.importance import FROM_LABELS, FROM_WEIGHTS
    from tui_pruner.domain.criteria import CRITERIA, FROM_IMAGES, NAMES, NEED_DATA

    assert (*NAMES, *NEED_DATA) == tuple(criterion.name for criterion in CRITERIA)
    assert ({*FROM_WEIGHTS, "random"}, {*FROM_LABELS, *FROM_IMAGES}) == (set(NAMES), set(NEED_DATA))
