"""The scripts in README run as they stand, on a smaller network and smaller images."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parent.parent.parent / "README.md"
SMALLER = {'weights="DEFAULT"': "weights=None", "resnet50": "resnet18", "224": "64", "(8, 3,": "(4, 3,"}


def scripts() -> list[str]:
    section = README.read_text(encoding="utf-8").partition("## Any nn.Module")[2].partition("\n## ")[0]
    return re.findall(r"```python\n(.*?)```", section, re.DOTALL)


@pytest.mark.parametrize("number", range(2))
def test_readme_script_runs(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    script = scripts()[number]
    assert len(script.strip().splitlines()) <= 16
    for large, small in SMALLER.items():
        script = script.replace(large, small)
    names: dict[str, object] = {}
    exec(compile(script, f"README {number}", "exec"), names)
    session, small = names["session"], names["small"]
    whole = session._steps.arithmetic.whole.size
    assert sum(parameter.numel() for parameter in small.parameters()) < whole.parameters
    assert number or (session.size.flops <= 0.5 * whole.flops and "equal" in capsys.readouterr().out)


def test_readme_has_no_other_scripts():
    assert len(scripts()) == 2
