"""The README's animated picture: every line is drawn once for the time that it is there, and the committed one is whole and small."""

from __future__ import annotations

import importlib
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest
from rich.segment import Segment
from rich.style import Style

ASSETS = Path(__file__).parent.parent / "assets"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def cast(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ASSETS))
    return importlib.import_module("cast")


def texts_at(root: ElementTree.Element, share: float) -> list[str]:
    """The words that are visible at a moment of the round."""
    found = []
    for group in root.iter(f"{SVG}g"):
        animation = group.find(f"{SVG}animate")
        visible = group.get("visibility") != "hidden"
        if animation is not None:
            keys = [float(key) for key in animation.attrib["keyTimes"].split(";")]
            values = animation.attrib["values"].split(";")
            assert len(keys) == len(values) and keys == sorted(keys) and keys[0] == 0
            visible = values[max(number for number, key in enumerate(keys) if key <= share)] == "visible"
        found += [text.text or "" for text in group.iter(f"{SVG}text")] if visible else []
    return found


def test_each_frame_has_the_lines_visible_at_its_time(cast: ModuleType):
    same, first, second = Segment("the tree"), Segment("10 % <", Style(color="red")), Segment("20 %", Style(bold=True, bgcolor="blue"))
    frames = [
        cast.Frame(((same,), (first,)), 1.0, "press right"),
        cast.Frame(((same,), (second,)), 3.0, "press right"),
        cast.Frame(((same,), (first,)), 1.0, "back"),
    ]
    root = ElementTree.fromstring(cast.picture(frames))
    assert sorted(texts_at(root, 0.0)) == ["10 % <", "press right", "the tree"]
    assert sorted(texts_at(root, 0.5)) == ["20 %", "press right", "the tree"]
    assert sorted(texts_at(root, 0.9)) == ["10 % <", "back", "the tree"]
    assert len(list(root.iter(f"{SVG}path"))) == 1, "what is behind the bold word"


def test_picture_in_the_readme_shows_a_whole_cut_and_is_small():
    file = ASSETS / "cut.svg"
    assert file.stat().st_size < 400_000 and "assets/cut.svg" in (ASSETS.parent / "README.md").read_text(encoding="utf-8")
    root = ElementTree.parse(file).getroot()
    shown = [" ".join(texts_at(root, share / 200)) for share in range(200)]
    for words in ("checkpoint mAP", "the shapes fit", "proved", "so far", "Recover accuracy", "digits-refitted", "Lineage"):
        assert any(words in screen for screen in shown), words
