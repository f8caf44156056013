"""Recipes as files and as lines: what is written is what is read, and errors name the line and the nearest word."""

from __future__ import annotations

from pathlib import Path

import pytest

from tui_pruner.domain.errors import OutputError, RequestError
from tui_pruner.engine.recovery_messages import CompressParameters
from tui_pruner.storage.recipe import STAGES, read_recipe, recipe_from_lines, recipe_of, write_recipe

LINES = {
    "scan": "32 ratios=0.2,0.4", "target": "flops=60% params=0.7 protect=neck,head fast=yes", "refit": "on", "fine-tune": "30 lr0=0.001",
    "validate": "max-drop=0.01", "bench": "off", "export": "onnx", "report": "'my report.html' redact=yes",
}  # fmt: skip


def test_lines_file_and_job_parameters_give_the_same_recipe(tmp_path: Path):
    recipe = recipe_from_lines(LINES)
    assert {stage: recipe.line_of(stage) for stage in STAGES} == LINES
    write_recipe(tmp_path / "recipe.yaml", recipe)
    assert read_recipe(tmp_path / "recipe.yaml") == recipe == recipe_of(recipe.fields)
    fields = recipe.fields
    assert (fields["scanned"], fields["ratios"], fields["targets"], fields["protect"]) == (
        32,
        [0.2, 0.4],
        ["flops=60%", "params=0.7"],
        ["neck", "head"],
    )
    assert (fields["epochs"], fields["lr0"], fields["max_drop"], fields["bench"], fields["report"]) == (
        30,
        0.001,
        0.01,
        0,
        "my report.html",
    )
    assert set(fields) <= set(CompressParameters.model_fields)


def test_all_images_are_not_the_default_number_of_them(tmp_path: Path):
    recipe = recipe_of({"targets": ["flops=60%"], "images": None})
    assert recipe.line_of("target") == "flops=60% images=all"
    write_recipe(tmp_path / "recipe.yaml", recipe)
    assert read_recipe(tmp_path / "recipe.yaml") == recipe == recipe_of(recipe.fields)
    assert recipe_from_lines({"target": "flops=60%"}).fields["images"] == 64
    assert recipe_from_lines({"target": "flops=60% images=all"}).fields["images"] is None


def test_missing_stage_is_off_and_one_without_settings_has_the_defaults(tmp_path: Path):
    (tmp_path / "r.yaml").write_text("target: 60%\nrefit:\nexport: on\nreport: off\n")
    fields = read_recipe(tmp_path / "r.yaml").fields
    assert fields["targets"] == ["flops=60%"] and fields["refit"] and fields["format"] == "onnx"
    assert (fields["epochs"], fields["scanned"], fields["report"], fields["measured"], fields["bench"]) == (0, 0, "", False, 0)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("targett: flops=60%", "line 1: a recipe has no stage 'targett'; did you mean target?"),
        ("target: flops=60%\nfine-tune:\n  epocs: 3", "line 3: fine-tune has no 'epocs'; did you mean epochs?"),
        ("target: flops=60%\nfine-tune: epoks=3", "line 2: fine-tune has no 'epoks'; did you mean epochs?"),
        ("target: flop=60%", "line 1: target remain: cannot read the target 'flop=60%'"),
        ("target:\n  remain: flops=60%\n  criterion: obss", "line 3: target criterion: there is no criterion 'obss'; did you mean obs?"),
        ("refit:\ntarget: flops=60%", "line 2: target runs before refit"),
        ("target: flops=60%\nfine-tune: many", "line 2: fine-tune epochs: input should be a valid integer"),
        ("target: flops=60%\nexport: onx", "line 2: export format: there is no format 'onx'; did you mean onnx?"),
        ("target: flops=60%\nbatch: x", "line 2: batch: input should be a valid integer"),
        ("target: {fast: yes}", "line 1: target remain is missing"),
        ("report: report.pdf", "line 1: report file: 'report.pdf' is not a name for a report"),
        ("recipe: 2", "line 1: recipe: "),
        ("target: [a", "is not YAML in line "),
        ("scan:\n  ratios: [0.1, 2]", "line 2: scan ratios: input should be less than 1"),
        ("- 3", "is not a recipe"),
        ("", "is not a recipe"),
        ("target: '\"flops'", "line 1: target: No closing quotation"),
        ("target: 3\n", "line 1: target remain: "),
    ],
)
def test_error_in_a_recipe_is_reported_with_its_line(tmp_path: Path, text: str, said: str):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(RequestError) as caught:
        read_recipe(tmp_path / "r.yaml")
    assert str(tmp_path / "r.yaml") in str(caught.value) and said in str(caught.value)


def test_unreadable_or_unwritable_recipe_is_reported(tmp_path: Path):
    with pytest.raises(RequestError, match="cannot read the recipe"):
        read_recipe(tmp_path / "none.yaml")
    with pytest.raises(OutputError, match="cannot be written"):
        (tmp_path / "file").write_text("")
        write_recipe(tmp_path / "file" / "r.yaml", recipe_from_lines(LINES))


def test_unknown_export_format_of_a_later_ultralytics_is_accepted():
    assert recipe_from_lines({"export": "quantum9"}).fields["format"] == "quantum9"
