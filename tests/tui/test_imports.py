"""The interface loads no model library, so that it appears at once."""

import json
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import tui_pruner.tui
from tests.deadlines import HANGING
from tests.terminal import Terminal
from tests.warm_processes import ROOT

HEAVY = ("torch", "torchvision", "ultralytics", "torch_pruning", "numpy", "scipy", "cv2", "tui_pruner.core")
SCRIPT = """
import importlib, json, sys
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
print(json.dumps(sorted(sys.modules)))
"""
FIRST_FRAME = """
import json, sys
from textual.drivers.linux_driver import LinuxDriver
from tui_pruner.__main__ import main
write, note = LinuxDriver.write, sys.argv.pop()
def noted(driver, data):
    if "Model" in data:
        LinuxDriver.write = write
        with open(note, "w") as file:
            json.dump([data, sorted(sys.modules), [path for path, _ in driver._app.stylesheet.source]], file)
    write(driver, data)
LinuxDriver.write = noted
main()
"""
"""The app, which notes what it paints first, and which modules and styles it has loaded by then."""
AFTER_IT = (
    "pydantic", "yaml", "tui_pruner.engine.client", "tui_pruner.engine.messages", "tui_pruner.storage.sessions",
    "tui_pruner.tui.engine_session", "tui_pruner.tui.screens.prompts", "tui_pruner.tui.screens.start", "tui_pruner.tui.screens.workbench",
)  # fmt: skip


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


def test_first_frame_is_whole_and_comes_before_what_it_does_not_need(tmp_path: Path):
    note, checkpoint = tmp_path / "note.json", ROOT / "assets" / "demo" / "digits.pt"
    with Terminal([sys.executable, "-c", FIRST_FRAME, str(checkpoint), str(note)], 120, 40, cwd=ROOT) as terminal:
        terminal.wait_for("Model")
        painted, loaded, styles = json.loads(note.read_text())
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", painted)
    assert all(word in text for word in (checkpoint.name, "loading", "Detail", "Steps", "Jobs", "q quit"))
    assert "tui_pruner.tui.screens.loading" in loaded
    assert [name for name in loaded if name.startswith(AFTER_IT)] == []
    assert [Path(style).name for style in styles if style.endswith(".tcss")] == ["app.tcss"]


def test_engine_starts_before_the_interface_is_imported():
    loaded = loaded_after(["tui_pruner.__main__", "tui_pruner.cli.launch", "tui_pruner.engine.processes"])
    assert "asyncio" in loaded
    assert not loaded & {"textual", "rich", "pydantic", "yaml"}
