"""`report`: one file about a plan whose every figure is that of the command that measures it."""

from __future__ import annotations

import base64
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from ultralytics.engine.results import Results

from tests.cli.conftest import CUTS, FIELD_MODEL, Answer, Call, Pruned, spawn
from tui_pruner.core.pruning import session
from tui_pruner.core.pruning.proof import Proof
from tui_pruner.frameworks.ultralytics.contents import PROVENANCE_KEY
from tui_pruner.jobs.data.pictures import at_shown_size
from tui_pruner.jobs.report_figures import NO_RECORD
from tui_pruner.report.document import Cell, Document, Section, Table, html, markdown

IMAGES = 4
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """What a browser would see: text, addresses, pictures; and whether every element is closed where it should be."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.elements: list[str] = []
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return "\n".join(self.words)

    def files(self, kind: str) -> list[bytes]:
        start = f"data:{kind};base64,"
        return [base64.b64decode(address[len(start) :]) for address in self.addresses if address.startswith(start)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reports")


@pytest.fixture(scope="module")
def answer(pruned: Pruned, folder: Path, demo_checkpoint: Path, demo_data: Path) -> Answer:
    """A report with everything in it, written once."""
    given = ["--data", demo_data, "--images", IMAGES, "--validation-images", IMAGES, "--json"]
    found = spawn("report", pruned.plan, "-o", folder / "report.html", "--model", demo_checkpoint, *given)
    assert found.status == 0, found.err
    return found


@pytest.fixture(scope="module")
def page(answer: Answer, folder: Path) -> Page:
    return Page((folder / "report.html").read_text())


def test_sizes_and_shapes_equal_those_of_preview(answer: Answer, call: Call, pruned: Pruned, demo_checkpoint: Path):
    facts, preview = answer.document, call("preview", demo_checkpoint, "--plan", pruned.plan, "--json").document
    assert (facts["before"], facts["after"]) == (preview["before"], preview["after"])
    assert [(b["name"], b["shape_before"], b["shape_after"]) for b in facts["blocks"]] == [
        (b["name"], b["before"], b["after"]) for b in preview["blocks"]
    ]
    assert {name: {**w, "asked": False} for name, w in facts["layers"].items()} == {
        name: {**w, "asked": False} for name, w in preview["layers"].items()
    }
    assert {name for name, w in facts["layers"].items() if w["asked"]} == {
        "model.6.m.0.cv1", "model.6.m.1.cv1", "model.6.cv1", "model.12.cv2",
    }  # fmt: skip


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize("figure", ["parameters", "flops"])
def test_blocks_add_up_to_the_totals(side: str, figure: str, answer: Answer):
    facts = answer.document
    assert sum(block[side][figure] for block in facts["blocks"]) == facts[side][figure]


def test_proof_equals_that_of_prune(answer: Answer, pruned: Pruned):
    (step,) = answer.document["steps"]
    proved = pruned.answer.document["proof"]
    assert step["proof"] == {**{name: proved[name] for name in step["proof"]}, "seconds": step["proof"]["seconds"]}
    assert answer.document["proved"] is True


def test_metrics_equal_those_of_validate(answer: Answer, call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path):
    validated = call("validate", demo_checkpoint, "--plan", pruned.plan, "--data", demo_data, "--images", IMAGES, "--json").document
    found = answer.document["metrics"]
    assert (found["before"]["metrics"], found["after"]["metrics"]) == (validated["baseline"], validated["metrics"])
    assert (found["after"]["images"], validated["cached"]) == (IMAGES, True)


def test_groups_list_coupled_layers_with_the_reason(answer: Answer):
    groups = {tuple(group["writers"]): group for group in answer.document["groups"]}
    assert len(groups) == 5
    chain = groups["model.6.cv1", "model.6.m.0.cv2", "model.6.m.1.cv2"]
    assert (chain["before"], chain["after"], chain["criteria"], chain["steps"]) == (64, 48, ["l2"], [1])
    assert chain["because"] == ["added in model.6.m.0", "added in model.6.m.1", "as wide as the other parts in model.6 (split)"]
    neck = groups[("model.12.cv2",)]
    assert [reader["layer"] for reader in neck["readers"]] == ["model.15.cv1", "model.18.cv1"]
    assert neck["because"] == []


def test_page_is_self_contained(page: Page, folder: Path):
    assert page.open == []
    assert page.addresses
    assert all(address.startswith("data:") for address in page.addresses)
    assert not {"script", "link", "iframe", "object", "form"} & set(page.elements)
    source = (folder / "report.html").read_text()
    assert not re.search(r"https?:|@import|url\(|\son\w+=", re.sub(r"base64,[^\"]*", "", source))
    assert "prefers-color-scheme: dark" in source


def test_page_contains_no_folder_of_this_machine(page: Page, folder: Path, demo_checkpoint: Path, demo_data: Path, pruned: Pruned):
    source = (folder / "report.html").read_text() + "".join(plan.decode() for plan in page.files("application/yaml"))
    for place in (folder, demo_checkpoint.parent, demo_data.parent, pruned.plan.parent, Path.home(), Path.cwd()):
        assert str(place) not in source
    assert demo_checkpoint.name in page.text and demo_data.name in page.text


def test_redact_hides_the_names_of_files_and_classes(call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path, tmp_path: Path):
    mine, data = tmp_path / "orchard.pt", tmp_path / "fruit.yaml"
    mine.write_bytes(demo_checkpoint.read_bytes())
    content = yaml.safe_load(demo_data.read_text())
    data.write_text(yaml.safe_dump({**content, "path": str(demo_data.parent / content.get("path", "."))}))
    options = ["--data", data, "--images", 2, "--validation-images", 2, "--redact"]
    found = call("report", pruned.plan, "-o", tmp_path / "report.html", "--model", mine, *options, "--json")
    assert found.status == 0, found.err
    page = Page((tmp_path / "report.html").read_text())
    source = (tmp_path / "report.html").read_text() + "".join(plan.decode() for plan in page.files("application/yaml"))
    for name in (str(tmp_path), "orchard", "fruit", "digits", "seven", "eight", "nine", "three"):
        assert not re.search(rf"(?<![a-zA-Z]){name}", source), name
        assert not re.search(rf"(?<![a-zA-Z]){name}", json.dumps({**found.document, "output": ""})), name
    assert "model.pt" in page.text and "data.yaml" in page.text and "class-" in page.text and "image 1" in page.text


def test_page_shows_the_measured_figures(page: Page, answer: Answer):
    facts = answer.document
    assert f"{facts['before']['parameters']:,} → {facts['after']['parameters']:,}" in page.text
    assert f"{facts['steps'][0]['proof']['relative_difference']:.1e}" in page.text
    for side in ("before", "after"):
        assert f"{facts['metrics'][side]['metrics']['metrics/mAP50-95(B)']:.4f}" in page.text
    for words in ("1 step proved equal to the masked twin", "model.6.m.*.cv1=30%  l2", "128×10×10", "102×10×10", "ultralytics"):
        assert words in page.text


def test_pictures_are_jpegs_of_the_validated_images_with_their_detections(page: Page, answer: Answer):
    jpegs = page.files("image/jpeg")
    assert len(jpegs) == 2 * IMAGES == page.elements.count("img")
    assert {cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR).shape for jpeg in jpegs} == {(512, 512, 3)}
    assert max(map(len, jpegs)) < 100_000
    for picture in answer.document["pictures"]:
        assert 1 <= sum(picture["before"].values()) <= 10
        assert picture["before"].keys() <= {"zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"}
    assert answer.remarks[-1] == f"pictures drawing {IMAGES}/{IMAGES}"


def test_plan_is_embedded_in_the_page(page: Page, pruned: Pruned):
    (plan,) = page.files("application/yaml")
    saved = yaml.safe_load(pruned.plan.read_text())
    assert yaml.safe_load(plan) == {name: value for name, value in saved.items() if name != "path"}


def test_commands_to_reproduce_are_exact(answer: Answer, pruned: Pruned, folder: Path, demo_checkpoint: Path, demo_data: Path):
    assert answer.document["commands"] == [
        f"tui-pruner prune {demo_checkpoint} --plan {pruned.plan} -o digits-pruned.pt",
        f"tui-pruner prove {demo_checkpoint} digits-pruned.pt",
        f"tui-pruner validate {demo_checkpoint} --plan {pruned.plan} --data {demo_data} --images 4",
        f"tui-pruner report {pruned.plan} --model {demo_checkpoint} --data {demo_data} --images 4 --validation-images 4 "
        f"-o {folder / 'report.html'}",
    ]


def test_latency_and_scan_have_their_sections(call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path, tmp_path: Path):
    given = ["--data", demo_data, "--images", 4, "--imgsz", 64]
    assert call("scan", demo_checkpoint, *given, "--ratios", "30%").status == 0
    options = ["--data", demo_data, "--images", 0, "--validation-images", 4, "--latency", "--imgsz", 64, "--json"]
    found = call("report", pruned.plan, "-o", tmp_path / "report.md", "--model", demo_checkpoint, *options)
    assert found.status == 0, found.err
    before, after = found.document["latency"]["models"]
    assert before["ratio"] == 1.0 and after["runs"] == 50 and len(before["blocks"]) == len(found.document["blocks"])
    assert {share for one in found.document["sensitivity"] for share in one["drops"]} <= {"0.25", "0.3", "0.35"}
    assert any(one["taken"] == 0.25 for one in found.document["sensitivity"])
    text = (tmp_path / "report.md").read_text()
    assert f"takes {after['ratio']:.3f} of the original's time" in text.replace("\\", "") and "## Sensitivity" in text
    assert found.document["commands"][-1].endswith(f"--validation-images 4 --latency --imgsz 64 -o {tmp_path / 'report.md'}")


def test_markdown_report_without_data_has_the_same_tables_and_no_empty_section(
    call: Call, pruned: Pruned, own_checkpoint: Path, answer: Answer
):
    folder = own_checkpoint.parent
    (folder / "digits.pt").write_bytes(own_checkpoint.read_bytes())
    (folder / "plan.yaml").write_bytes(pruned.plan.read_bytes())
    found = call("report", folder / "plan.yaml", "-o", folder / "report.md")
    assert found.status == 0, found.err
    text = (folder / "report.md").read_text()
    facts = answer.document
    assert f"{facts['before']['parameters']:,} → {facts['after']['parameters']:,}" in text
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "In short", "Steps and their proofs", "Block by block", "The 5 coupled groups that were cut", "Layers whose widths changed",
        "How to reproduce",
    ]  # fmt: skip
    tables = [block.splitlines() for block in text.split("\n\n") if block.startswith("|")]
    assert len(tables) == 6
    assert all(len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1 for table in tables)
    assert len(tables[2]) == 2 + len(facts["blocks"]) + 1
    assert not list(folder.glob(".writing-*"))


def test_failed_proof_is_reported(call: Call, pruned: Pruned, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    bad = Proof(False, 0.5, 0.25, 0.9, "float64", (), 0.1)
    monkeypatch.setattr(session, "prove", lambda *arguments, **options: bad)
    found = call("report", pruned.plan, "-o", tmp_path / "report.html", "--model", demo_checkpoint, "--json")
    assert (found.status, found.document["proved"]) == (1, False)
    assert "NOT EQUAL to the masked twin after step 1" in Page((tmp_path / "report.html").read_text()).text


def test_names_are_text_and_never_markup():
    hostile = "<img src=x onerror=1>|`*_&\"'"
    table = Table(("name",), ((Cell(hostile),),))
    document = Document(hostile, hostile, hostile, "good", (Section(hostile, (table,)),), hostile)
    page = Page(html(document))
    assert "img" not in page.elements
    assert page.words.count(hostile) == 7
    assert markdown(document).count(r"\<img src=x onerror=1\>\|\`\*\_") == 6


def result(size: tuple[int, int], **found: torch.Tensor) -> Results:
    return Results(np.zeros((*size, 3), np.uint8), "image.jpg", {0: "zero", 1: "one"}, **found)


@pytest.mark.parametrize(("size", "shown"), [((160, 80), (512, 256)), ((1024, 2048), (256, 512))])
def test_detections_keep_their_position_on_the_displayed_image(size: tuple[int, int], shown: tuple[int, int]):
    height, width = size
    box = torch.tensor([[0.25 * width, 0.25 * height, 0.5 * width, 0.75 * height, 0.9, 1.0]])
    points = torch.tensor([[[0.5 * width, 0.5 * height, 0.8]]])
    moved = at_shown_size(result(size, boxes=box, keypoints=points, masks=torch.ones(1, 32, 64)))
    assert moved.orig_shape == shown
    assert moved.boxes.xyxyn.tolist() == [[0.25, 0.25, 0.5, 0.75]]
    assert moved.keypoints.xyn.tolist() == [[[0.5, 0.5]]]
    assert moved.keypoints.conf.tolist() == [[pytest.approx(0.8)]]
    turned = at_shown_size(result(size, obb=torch.tensor([[0.5 * width, 0.5 * height, 20.0, 10.0, 0.3, 0.9, 1.0]])))
    scale = max(shown) / max(size)
    assert turned.obb.xywhr[0].tolist() == pytest.approx([shown[1] / 2, shown[0] / 2, 20 * scale, 10 * scale, 0.3])
    assert turned.obb.cls.tolist() == [1.0]


def refused(found: Answer) -> str:
    assert (found.status, found.out) == (2, "")
    return found.remarks[-1]


@pytest.mark.parametrize(
    ("output", "options", "expected"),
    [
        ("old.html", [], "exists already: choose another name or give --force"),
        ("report.pdf", [], "its name must end in .html or .htm or .md or .markdown"),
        (".", [], "is a folder: add a file name such as report.html"),
        ("missing/report.html", [], "create it first"),
        ("new.html", ["--model", "nowhere.pt"], "nowhere.pt"),
        ("new.html", ["--model", FIELD_MODEL[0], *FIELD_MODEL[1:]], "the plan was made for digits.pt (44ccea2f7277), not for this"),
    ],
)
def test_impossible_report_is_refused_in_one_line(
    output: str, options: list[str], expected: str, call: Call, pruned: Pruned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.html").write_text("old")
    assert expected in refused(call("report", pruned.plan, "-o", tmp_path / output, *options))
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("old.html", "old")]


def test_recovered_file_is_measured_beside_the_model_of_the_plan(
    call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path, tmp_path: Path
):
    options = ["--model", demo_checkpoint, "--data", demo_data, "--images", 1, "--validation-images", IMAGES]
    found = call("report", pruned.plan, "-o", tmp_path / "report.html", *options, "--recovered", pruned.file, "--json")
    assert found.status == 0, found.err
    original, cut, recovered = found.document["stages"]
    assert (original["name"], cut["name"], recovered["name"]) == ("original", "cut", "recovered")
    assert recovered["metrics"] == pytest.approx(cut["metrics"], abs=1e-4)
    page = Page((tmp_path / "report.html").read_text())
    assert "mAP50-95 (box) recovered" in page.text and "svg" in page.elements
    assert "before on the left, after (recovered) on the right" in page.text
    assert "is not this plan's model" in refused(
        call("report", pruned.plan, "-o", tmp_path / "b.html", *options, "--recovered", demo_checkpoint)
    )
    assert "give --data" in refused(call("report", pruned.plan, "-o", tmp_path / "c.html", "--recovered", pruned.file))


def test_file_of_another_cut_of_the_same_size_is_refused(
    call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path, tmp_path: Path
):
    other, options = tmp_path / "other.pt", ["--model", demo_checkpoint, "--data", demo_data]
    made = call(
        "prune", demo_checkpoint, *(part for cut in CUTS for part in ("--cut", cut)), "--criterion", "random", "-o", other, "--json"
    )
    assert made.status == 0 and made.document["after"] == pruned.answer.document["after"]
    said = refused(call("report", pruned.plan, "-o", tmp_path / "report.html", *options, "--recovered", other))
    assert f"{other} was not recovered from this plan's model: its cut left other channels of model." in said
    assert f"than {pruned.plan} does; give a file that was recovered from the cut of {pruned.plan}" in said


def test_file_that_was_cut_from_another_model_is_refused(
    call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path, tmp_path: Path
):
    again, other = tmp_path / "again.pt", tmp_path / "other.pt"
    torch.save({**torch.load(demo_checkpoint, weights_only=False), "date": "another day"}, again)
    made = call("prune", again, *(part for cut in CUTS for part in ("--cut", cut)), "-o", other, "--json")
    assert made.status == 0, made.err
    options = ["--model", demo_checkpoint, "--data", demo_data]
    said = refused(call("report", pruned.plan, "-o", tmp_path / "report.html", *options, "--recovered", other))
    assert f"{other} was not recovered from this plan's model: it was cut from again.pt" in said
    assert f"and {pruned.plan} is a plan of {demo_checkpoint}" in said


def test_file_without_a_record_is_measured_with_a_note(call: Call, pruned: Pruned, demo_checkpoint: Path, demo_data: Path, tmp_path: Path):
    bare = tmp_path / "bare.pt"
    content = torch.load(pruned.file, weights_only=False)
    del content[PROVENANCE_KEY]
    torch.save(content, bare)
    options = ["--model", demo_checkpoint, "--data", demo_data, "--images", 0, "--validation-images", 1, "--json"]
    found = call("report", pruned.plan, "-o", tmp_path / "report.html", *options, "--recovered", bare)
    assert found.status == 0, found.err
    assert NO_RECORD in found.document["notes"] and found.document["stages"][-1]["name"] == "recovered"
    known = call("report", pruned.plan, "-o", tmp_path / "known.html", *options, "--recovered", pruned.file)
    assert NO_RECORD not in known.document["notes"]


def test_checkpoint_is_found_by_the_path_hint_in_the_plan(call: Call, own_checkpoint: Path, monkeypatch: pytest.MonkeyPatch):
    work = own_checkpoint.parent / "work"
    models, plans = work / "models", work / "plans"
    models.mkdir(parents=True)
    plans.mkdir()
    own_checkpoint.rename(models / "best.pt")
    monkeypatch.chdir(work)
    made = call("steps", "models/best.pt", "--cut", "model.6.cv1=25%", "--save-plan", "plans/plan.yaml")
    assert made.status == 0, made.err
    assert yaml.safe_load((plans / "plan.yaml").read_text())["path"] == "../models/best.pt"
    monkeypatch.chdir(own_checkpoint.parent)
    found = call("report", "work/plans/plan.yaml", "-o", "report.md")
    assert found.status == 0, found.err
    (models / "best.pt").write_bytes(b"something else")
    (plans / "best.pt").write_bytes(b"something else too")
    said = refused(call("report", "work/plans/plan.yaml", "-o", "report2.md"))
    for place in (
        "work/plans/../models/best.pt (another file)", "../models/best.pt (no such file)", "work/plans/best.pt (another file)",
        "best.pt (no such file)", "--model PATH",
    ):  # fmt: skip
        assert place in said, place


def test_missing_checkpoint_of_a_plan_without_a_hint_is_reported_with_the_searched_folders(call: Call, pruned: Pruned, tmp_path: Path):
    plan = {name: value for name, value in yaml.safe_load(pruned.plan.read_text()).items() if name != "path"}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(plan))
    said = refused(call("report", tmp_path / "plan.yaml", "-o", tmp_path / "report.md"))
    assert f"the checkpoint digits.pt ({plan['sha256'][:12]}) was not found, looked at {tmp_path / 'digits.pt'} (no such file)" in said


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "cannot read the plan"), ("[]", "is not a plan"), ("checkpoint: a.pt\nsha256: b\n", "has no step, so there is nothing")],
)
def test_plan_without_steps_is_refused(content: str | None, expected: str, call: Call, tmp_path: Path):
    if content is not None:
        (tmp_path / "plan.yaml").write_text(content)
    assert expected in refused(call("report", tmp_path / "plan.yaml", "-o", tmp_path / "report.html"))
