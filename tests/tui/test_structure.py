"""The screen is made of small parts: shallow classes, folders that can be read at once, and a registry that knows no controller."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import tui_pruner.tui
from tui_pruner.tui.actions import Registry
from tui_pruner.tui.controllers import ACTIONS

ROOT = Path(tui_pruner.tui.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}
CLASSES = {
    node.name: [ast.unparse(base).partition("[")[0].rpartition(".")[2] for base in node.bases]
    for tree in TREES.values()
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
}


def depth(name: str) -> int:
    """How many classes of ours are above a class, with itself."""
    return 1 + max(map(depth, CLASSES[name]), default=0) if name in CLASSES else 0


def test_inheritance_is_at_most_three_deep_and_no_action_calls_super():
    assert len(CLASSES) > 100 and {name for name in CLASSES if depth(name) > 3} == set()
    assert [path for path in FILES if "super().action_" in path.read_text(encoding="utf-8")] == []


def test_files_and_folders_are_small_enough():
    assert max(len(path.read_text(encoding="utf-8").splitlines()) for path in FILES) <= 400
    folders = Counter(path.parent for path in FILES if path.name != "__init__.py")
    assert max(folders.values()) <= 16


def test_actions_import_no_controller_and_controllers_no_screen():
    never = {"actions.py": ("controllers", "panes", "screens"), "controllers": ("screens",), "panes": ("controllers", "screens")}
    for part, forbidden in never.items():
        trees = [tree for path, tree in TREES.items() if ROOT / part in (path, path.parent)]
        found = {node.module or "" for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert found and not {module for module in found for other in forbidden if module.startswith(f"tui_pruner.tui.{other}")}


def test_every_action_is_registered_once():
    assert [action.id for action in Registry(ACTIONS)] == [action.id for action in ACTIONS]
