"""The notebook is valid and runs from its first cell to its last."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).parent.parent.parent / "docs" / "any-module.ipynb"


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]


def test_notebook_has_no_stored_results():
    whole = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (whole["nbformat"], whole["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in whole["cells"]}) == len(whole["cells"])
    for cell in whole["cells"]:
        assert cell["cell_type"] in ("code", "markdown") and cell["metadata"] == {}
        assert all(line.endswith("\n") for line in cell["source"][:-1])
        assert cell["cell_type"] == "markdown" or (cell["outputs"], cell["execution_count"]) == ([], None)


def test_notebook_cells_run_in_order(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    last: Any = None
    for cell in cells():
        if cell["cell_type"] == "code":
            last = run("".join(cell["source"]), cell["id"], names)
    assert capsys.readouterr().out.strip() == "True" and 0 < last < 1
    assert (tmp_path / "squeezenet.tp" / "plan.yaml").is_file()


def run(source: str, name: str, names: dict[str, Any]) -> Any:
    """Run a cell, and return the value that a notebook would show, having made its table where there is one."""
    tree = ast.parse(source)
    shown = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, name, "exec"), names)
    value = eval(compile(ast.Expression(shown.value), name, "eval"), names) if isinstance(shown, ast.Expr) else None
    if hasattr(value, "_repr_html_"):
        assert value._repr_html_()
    return value
