"""The interface loads no model library, so that it appears at once."""

import json
import pkgutil
import subprocess
import sys

import tui_pruner.tui
from tests.deadlines import HANGING

HEAVY = ("torch", "torchvision", "ultralytics", "torch_pruning", "numpy", "scipy", "cv2", "tui_pruner.core")
SCRIPT = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""


def loaded_after(modules: list[str]) -> set[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, json.dumps(modules)], check=True, capture_output=True, text=True, timeout=HANGING)
    return set(json.loads(done.stdout))


def test_interface_modules_load_no_model_library():
    modules = [module.name for module in pkgutil.walk_packages(tui_pruner.tui.__path__, "tui_pruner.tui.")]
    assert "tui_pruner.tui.screens.workbench" in modules
    loaded = loaded_after([*modules, "tui_pruner.engine.client", "tui_pruner.engine.client"])
    assert not [name for name in loaded if name.startswith(HEAVY)]


def test_first_screen_is_shown_without_loading_the_messages():
    loaded = loaded_after(["tui_pruner.tui.app"])
    assert "textual.app" in loaded
    assert not [name for name in loaded if name.startswith(("pydantic", "textual.widgets._markdown", "textual.widgets._data_table"))]


def test_engine_starts_before_the_interface_is_imported():
    loaded = loaded_after(["tui_pruner.__main__", "tui_pruner.cli.launch", "tui_pruner.engine.processes"])
    assert "asyncio" in loaded
    assert not loaded & {"textual", "rich", "pydantic", "yaml"}
