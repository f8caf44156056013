"""A recipe: the stages of a compression with their settings, as a file that people edit, and as a line for each stage.

A stage that a file does not name is skipped. `refit:` alone has the default settings, and `fine-tune: epochs=30 lr0=0.001` is the short
form of a mapping, which the app shows too.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from yaml.nodes import MappingNode, Node

from tui_pruner.domain.criteria import CRITERIA
from tui_pruner.domain.cuts import targets_in
from tui_pruner.domain.errors import OutputError, RequestError
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.yaml import read_document

FORMATS = (
    "torchscript", "onnx", "openvino", "engine", "coreml", "saved_model", "pb", "tflite", "litert", "edgetpu", "tfjs", "paddle", "mnn",
    "ncnn", "imx", "rknn", "executorch", "axelera",
)  # fmt: skip
"""Ultralytics' names of export formats, to detect typing errors: a name unlike all of them may be one of a later version."""
OFF, ON = ("off", "no", "none"), ("on", "yes")


def hyphenated(name: str) -> str:
    """A setting's name in a file: round_to is round-to."""
    return name.replace("_", "-")


def nearest(word: str, words: Iterable[str]) -> str:
    """A hint at the most similar word; empty where none is similar."""
    near = get_close_matches(word.lower(), list(words), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def known_criterion(name: str) -> str:
    """Check that a criterion exists."""
    names = [criterion.name for criterion in CRITERIA]
    if name not in names:
        raise ValueError(f"there is no criterion {name!r}{nearest(name, names) or '; there are ' + ', '.join(names)}")
    return name


def likely_format(name: str) -> str:
    """Check that a format's name is not a typing error of a known one."""
    near = get_close_matches(name.lower(), FORMATS, n=1, cutoff=0.7)
    if name not in FORMATS and near:
        raise ValueError(f"there is no format {name!r}; did you mean {near[0]}?")
    return name


def report_name(name: str) -> str:
    """Check that a report's name has a known suffix."""
    if Path(name).suffix.lower() not in (".html", ".htm", ".md", ".markdown"):
        raise ValueError(f"{name!r} is not a name for a report; it must end in .html or .md")
    return name


def readable_targets(words: list[str]) -> list[str]:
    """Check the syntax of targets."""
    try:
        found = [target for word in words for target in targets_in(word)]
    except RequestError as error:
        raise ValueError(str(error)) from None
    if not found:
        raise ValueError("write what shall be left, such as flops=60%")
    return found


class RecipeStage(BaseModel):
    """A stage's settings. `MAIN`: the one that is written without its name in a line; `FIELDS`: their names in `CompressParameters`.

    `LEFT_OUT`: those fields where the stage is skipped; `WANTED`: further fields where it is not.
    """

    model_config = ConfigDict(extra="forbid", alias_generator=hyphenated, populate_by_name=True, frozen=True)
    MAIN: ClassVar[str] = ""
    FIELDS: ClassVar[Mapping[str, str]] = {}
    LEFT_OUT: ClassVar[Mapping[str, Any]] = {}
    WANTED: ClassVar[Mapping[str, Any]] = {}

    @property
    def settings(self) -> dict[str, Any]:
        """The settings as a file has them, without those that are None by default."""
        given = self.model_dump(by_alias=True)
        defaults = {hyphenated(name): info.default for name, info in type(self).model_fields.items()}
        return {name: ALL if value is None else value for name, value in given.items() if value is not None or defaults[name] is not None}


Images = Annotated[int, Field(ge=2)]
"""At least two: some of them judge what is fitted on the others."""
ALL = "all"
"""How None is written where the default is a number of images."""


class ScanStage(RecipeStage):
    """A scan of every group at these shares of its channels, on this many labelled validation images; plans use its results."""

    images: int = Field(default=64, ge=1)
    ratios: list[Annotated[float, Field(gt=0, lt=1)]] = Field(default=[0.1, 0.3, 0.5], min_length=1)
    MAIN = "images"
    FIELDS = {"images": "scanned", "ratios": "ratios"}
    LEFT_OUT = {"scanned": 0}


class TargetStage(RecipeStage):
    """The size to reach, the criterion that ranks channels, and the number of unlabelled training images for competing plans, None: all."""

    remain: Annotated[list[str], AfterValidator(readable_targets)]
    images: Annotated[Images | None, BeforeValidator(lambda value: None if value == ALL else value)] = 64
    criterion: Annotated[str, AfterValidator(known_criterion)] = "obs"
    round_to: int = Field(default=1, ge=1)
    floor: float = Field(default=0.25, ge=0, le=1)
    protect: list[str] = []
    fast: bool = False
    MAIN = "remain"
    FIELDS = {
        "remain": "targets", "images": "images", "criterion": "criterion", "round_to": "round_to", "floor": "floor", "protect": "protect",
        "fast": "fast",
    }  # fmt: skip
    LEFT_OUT = {"targets": []}


class RefitStage(RecipeStage):
    """The refit after the cut; None: on the images of the target stage."""

    images: Images | None = None
    MAIN = "images"
    FIELDS = {"images": "refit_images"}
    LEFT_OUT = {"refit": False}
    WANTED = {"refit": True}


class FinetuneStage(RecipeStage):
    """The training after the refit; `teacher`: whether the original is the teacher of a distillation."""

    epochs: int = Field(default=10, ge=1)
    lr0: float | None = Field(default=None, gt=0)
    teacher: bool = True
    patience: int = Field(default=0, ge=0)
    MAIN = "epochs"
    FIELDS = {"epochs": "epochs", "lr0": "lr0", "teacher": "taught", "patience": "patience"}
    LEFT_OUT = {"epochs": 0}


class ValidateStage(RecipeStage):
    """The validation after each stage on this many images, None: all; the last point that loses at most `max_drop` is taken."""

    images: int | None = Field(default=None, ge=1)
    max_drop: float | None = Field(default=None, ge=0)
    step: int = Field(default=10, ge=1, le=100)
    MAIN = "images"
    FIELDS = {"images": "validated", "max_drop": "max_drop", "step": "step"}
    LEFT_OUT = {"measured": False, "max_drop": None}
    WANTED = {"measured": True}


class BenchStage(RecipeStage):
    """Both models timed in turns, this many times."""

    runs: int = Field(default=50, ge=1)
    MAIN = "runs"
    FIELDS = {"runs": "bench"}
    LEFT_OUT = {"bench": 0}


class ExportStage(RecipeStage):
    """Export to another format."""

    format: Annotated[str, Field(min_length=1), AfterValidator(likely_format)] = "onnx"
    MAIN = "format"
    FIELDS = {"format": "format"}
    LEFT_OUT = {"format": ""}


class ReportStage(RecipeStage):
    """A report on all of it; `redact`: with neutral names."""

    file: Annotated[str, AfterValidator(report_name)] = "report.html"
    redact: bool = False
    MAIN = "file"
    FIELDS = {"file": "report", "redact": "redact"}
    LEFT_OUT = {"report": ""}


STAGES: Mapping[str, type[RecipeStage]] = {
    "scan": ScanStage, "target": TargetStage, "refit": RefitStage, "fine-tune": FinetuneStage, "validate": ValidateStage,
    "bench": BenchStage, "export": ExportStage, "report": ReportStage,
}  # fmt: skip
"""In the order in which they run."""
WHOLE, FORMAT = ("data", "batch", "seed"), 1
"""Fields outside the stages, and the version of the file."""
QUOTED = re.compile(r"^([a-z-]+): '(on|off)'$", re.MULTILINE)
"""Words that YAML would read as true and false, which may be the value of a stage."""
HEAD = """\
# A recipe of tui-pruner, for `tui-pruner compress MODEL --recipe FILE -o FOLDER`. Options on the command line win.
# Stages run in this order; one that is not here, or is `off`, is left out. Each may be one line: `fine-tune: epochs=30 lr0=0.001`.
"""


class CompressionRecipe(BaseModel):
    """All stages in order; None: skipped. `data` is optional: a recipe may be for any data set."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    recipe: int = Field(default=FORMAT, ge=FORMAT, le=FORMAT)
    data: str | None = None
    batch: int = Field(default=16, ge=1)
    seed: int = Field(default=0, ge=0)
    stages: dict[str, RecipeStage] = {}

    @property
    def fields(self) -> dict[str, Any]:
        """The fields of `CompressParameters` that it sets."""
        stages = {field: value for name in STAGES for field, value in self.fields_of(name).items()}
        return {"batch": self.batch, "seed": self.seed, **stages}

    def fields_of(self, name: str) -> dict[str, Any]:
        """The fields of one stage."""
        kind, stage = STAGES[name], self.stages.get(name)
        if stage is None:
            return dict(kind.LEFT_OUT)
        return {**{field: getattr(stage, setting) for setting, field in kind.FIELDS.items()}, **kind.WANTED}

    def line_of(self, name: str) -> str:
        """A stage in one line: the main setting, and the others where they are not the defaults; "off" where it is skipped."""
        stage = self.stages.get(name)
        if stage is None:
            return OFF[0]
        words = []
        for setting, info in type(stage).model_fields.items():
            value = getattr(stage, setting)
            if setting == stage.MAIN and value is not None:
                words += [shlex.quote(word) for word in (value if setting == "remain" else [setting_words(value)])]
            elif value != info.default:
                words.append(f"{hyphenated(setting)}={ALL if value is None else shlex.quote(setting_words(value))}")
        return " ".join(words) or ON[0]

    @property
    def text(self) -> str:
        """The text of the file."""
        data = {"data": self.data} if self.data else {}
        content: dict[str, Any] = {"recipe": FORMAT, **data, "batch": self.batch, "seed": self.seed}
        for name in STAGES:
            stage = self.stages.get(name)
            content[name] = "off" if stage is None else stage.settings or "on"
        written = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=120)
        return HEAD + QUOTED.sub(r"\1: \2", written)


def recipe_of(fields: Mapping[str, Any]) -> CompressionRecipe:
    """The recipe of some fields of `CompressParameters`.

    Raises:
        RequestError: one of them does not belong to a recipe.
    """
    stages: dict[str, Any] = {}
    for name, kind in STAGES.items():
        field, left_out = next(iter(kind.LEFT_OUT.items()))
        if fields.get(field, kind.WANTED.get(field)) != left_out:
            stages[name] = {hyphenated(setting): fields[field] for setting, field in kind.FIELDS.items() if field in fields}
    rest = {name: fields[name] for name in WHOLE if fields.get(name) not in (None, "")}
    return _checked({**rest, **stages}, None, "")


def read_recipe(path: str | Path) -> CompressionRecipe:
    """Read a recipe's file.

    Raises:
        RequestError: it cannot be read, or has an unknown key or value; the message names the line and the most similar word.
    """
    file = Path(path).expanduser()
    root, content = read_document(file, "recipe", RequestError)
    if not isinstance(content, dict) or not isinstance(root, MappingNode):
        raise RequestError(f"{file} is not a recipe: expected stages such as target, refit and report")
    return _checked(content, root, f"{file} ")


def recipe_from_lines(lines: Mapping[str, str], **whole: Any) -> CompressionRecipe:
    """Parse a line for each stage; the inverse of `line_of`.

    Raises:
        RequestError: a line that cannot be parsed.
    """
    return _checked({**whole, **lines}, None, "")


def write_recipe(path: str | Path, recipe: CompressionRecipe) -> None:
    """Write a recipe's file, completely or not at all.

    Raises:
        OutputError: the operating system refuses.
    """
    file = Path(path).expanduser()
    try:
        replace_file(file, recipe.text.encode())
    except OSError as error:
        raise OutputError(f"the recipe {file} cannot be written: {error.strerror or error}") from None


def _checked(content: Mapping[str, Any], root: Node | None, of: str) -> CompressionRecipe:
    known, order = ("recipe", *WHOLE, *STAGES), list(STAGES)
    unknown = next((key for key in content if key not in known), None)
    if unknown is not None:
        hint = nearest(str(unknown), known) or f"; there are {', '.join(known)}"
        raise RequestError(f"{of}{_line(root, unknown)}a recipe has no stage {str(unknown)!r}{hint}")
    named = [key for key in content if key in STAGES]
    for before, after in itertools.pairwise(named):
        if order.index(after) < order.index(before):
            raise RequestError(f"{of}{_line(root, after)}{after} runs before {before}: write the stages in the order {', '.join(STAGES)}")
    stages = {name: _stage(name, content[name], root, of) for name in named}
    whole = {key: value for key, value in content.items() if key not in STAGES}
    try:
        return CompressionRecipe(**whole, stages={name: stage for name, stage in stages.items() if stage is not None})
    except ValidationError as error:
        raise RequestError(f"{of}{_told(error, root, ())}") from None


def _stage(name: str, value: Any, root: Node | None, of: str) -> RecipeStage | None:
    kind = STAGES[name]
    if value is False or (isinstance(value, str) and value.strip().lower() in (*OFF, "")):
        return None
    settings = {} if value is None or value is True else value
    if isinstance(settings, (int, float, list)):
        settings = {kind.MAIN: settings}
    try:
        if isinstance(settings, str):
            settings = _settings(kind, settings)
        if kind is TargetStage and isinstance(settings.get("remain"), str):
            settings = {**settings, "remain": settings["remain"].split()}
        return kind.model_validate(settings)
    except ValidationError as error:
        raise RequestError(f"{of}{_told(error, root, (name,), kind)}") from None
    except ValueError as error:
        raise RequestError(f"{of}{_line(root, name)}{name}: {error}") from None


def _settings(kind: type[RecipeStage], line: str) -> dict[str, Any]:
    """Parse the settings in a line such as "flops=60% fast=yes"."""
    names = {hyphenated(name): name for name in kind.model_fields}
    found: dict[str, Any] = {}
    for word in shlex.split(line):
        name, equals, text = word.partition("=")
        if equals and (name in names or kind is not TargetStage):
            info = kind.model_fields.get(names.get(name, ""))
            several = info is not None and "list" in str(info.annotation)
            found[name] = [part for part in text.split(",") if part] if several else text
        elif kind is TargetStage:
            found.setdefault(kind.MAIN, []).append(word)
        elif word.lower() not in ON:
            found[hyphenated(kind.MAIN)] = word
    return found


def _told(error: ValidationError, root: Node | None, place: tuple[str, ...], kind: type[BaseModel] = CompressionRecipe) -> str:
    """The first error, with its line."""
    first = error.errors()[0]
    path = [*place, *(str(part) for part in first["loc"])]
    name = path[len(place)] if len(path) > len(place) else ""
    key = " ".join(path[: len(place) + 1])
    if first["type"] == "extra_forbidden":
        names = [hyphenated(field) for field in kind.model_fields]
        return f"{_line(root, *path)}{' '.join(place)} has no {name!r}{nearest(name, names) or '; it has ' + ', '.join(names)}"
    if first["type"] == "missing":
        return f"{_line(root, *place)}{key} is missing: write what shall be left, such as flops=60%"
    said = str(first["ctx"]["error"]) if first["type"] == "value_error" else f"{first['msg'][:1].lower()}{first['msg'][1:]}"
    given = "" if first["type"] == "value_error" else f", not {str(first['input'])[:40]!r}"
    return f"{_line(root, *path)}{key}: {said}{given}"


def _line(root: Node | None, *path: Any) -> str:
    """The position of a key, as "line 3: "; empty where it is not known."""
    found: Node | None = None
    for name in path:
        pairs = root.value if isinstance(root, MappingNode) else ()
        key, root = next(((key, value) for key, value in pairs if str(key.value) == str(name)), (None, None))
        if key is None:
            break
        found = key
    return f"line {found.start_mark.line + 1}: " if found is not None else ""


def setting_words(value: Any) -> str:
    """A setting as a user types it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ",".join(map(setting_words, value))
    return "" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
