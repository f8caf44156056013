"""Cached results of jobs, keyed by everything that they depend on, and the journal of a compression."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tui_pruner import __version__
from tui_pruner.domain.errors import OutputError
from tui_pruner.domain.results import FIGURES
from tui_pruner.engine.job_messages import CalibrationParameters, JobParameters, ValidationParameters, ValidationResult
from tui_pruner.engine.messages import Message
from tui_pruner.storage import paths
from tui_pruner.storage.atomic import replace_file
from tui_pruner.storage.trust import fingerprint, is_trusted

if TYPE_CHECKING:
    from tui_pruner.engine.recovery_messages import CompressParameters

SUBJECT = {"sha256", "classes", "images", "imgsz", "seed"}


def digest_of(parameters: JobParameters, data_digest: str, **others: Any) -> str:
    """SHA-256 of the checkpoint, the data, how it is measured, and what else a result depends on. Metrics do not depend on the device."""
    versions = {"layout": FIGURES, "ultralytics": importlib.metadata.version("ultralytics"), **_own_code(parameters)}
    parts = {**versions, "data": data_digest, **parameters.model_dump(include=SUBJECT), **others}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def key_of(parameters: ValidationParameters, data_digest: str) -> str:
    """The key of a validation's result: the same for plans that remove the same channels."""
    removed = _what_it_removes(parameters.plan)
    masked = {"masked": True} if parameters.masked and removed is not None else {}
    return digest_of(parameters, data_digest, plan=removed, **masked)


def calibration_file(parameters: CalibrationParameters, data_digest: str) -> Path:
    """The file of calibrated scores, named by all that they depend on. One file has those of all criteria, which share the gradients."""
    criteria: dict[str, Any] = {
        "program": __version__,
        "torch-pruning": importlib.metadata.version("torch-pruning"),
        "criteria": parameters.criteria,
    }
    if parameters.kept_classes:
        criteria["kept_classes"] = parameters.kept_classes
    return paths.cache_folder() / "calibration" / f"{digest_of(parameters, data_digest, **criteria)}.npz"


def detections_file(parameters: ValidationParameters, data_digest: str, confidence: float) -> Path:
    """The file of a stage's detections on some images."""
    key = digest_of(parameters, data_digest, plan=_what_it_removes(parameters.plan), confidence=confidence)
    return paths.cache_folder() / "detections" / f"{key}.json"


def load(key: str) -> ValidationResult | None:
    """The result under this key; None where there is none or its file is damaged."""
    try:
        result = ValidationResult.from_json(_file(key).read_bytes())
    except (OSError, ValueError):
        return None
    return result.model_copy(update={"cached": True})


def store(key: str, result: ValidationResult) -> None:
    """Store a result, completely or not at all; if the cache cannot be written, the result is still returned."""
    with contextlib.suppress(OSError):
        replace_file(_file(key), result.to_json(exclude={"cached"}))


def _own_code(parameters: JobParameters) -> dict[str, str]:
    """The digest of a trusted model's own classes, whose code can change while the file stays."""
    if not is_trusted(parameters.sha256):
        return {}
    from tui_pruner.frameworks.ultralytics.security.allowed_names import code_of_file

    return {"own_code": code_of_file(Path(parameters.checkpoint).expanduser())}


def _what_it_removes(plan: Mapping[str, Any] | None) -> Any:
    """A plan without what changes no weight (names of steps, how cuts are spread over them, how they were requested); None for no cut."""
    if not plan or not plan.get("steps"):
        return None
    try:
        cuts = [cut["removes"] for step in plan["steps"] for cut in step["cuts"]]
        channels = {
            (axis, str(dim), index) for cut in cuts for axis, dims in cut.items() for dim, indices in dims.items() for index in indices
        }
        dropped = sorted({path for step in plan["steps"] for cut in step["cuts"] for path in cut.get("drops", [])})
    except (KeyError, TypeError, AttributeError):
        return plan
    rest = {key: value for key, value in plan.items() if key not in ("steps", "checkpoint")}
    return [rest, sorted(channels), *([dropped] if dropped else [])]


def _file(key: str) -> Path:
    return paths.cache_folder() / "validation" / f"{key}.json"


FORMAT = 1
NAME = "compress.json"
RECIPE_NAME = "recipe.yaml"
NEVER_DECIDES = {"force", "device", "batch", "resume", "folder"}
"""Parameters that no result depends on."""


class CompressionJournal:
    """Finished stages by what they depend on; a stage counts while its file is the one that it wrote."""

    def __init__(self, folder: Path, asked: CompressParameters, content: str) -> None:
        """Resume the folder's compression, if there is one; `content`: a digest of what the parameters name, such as the images.

        Raises:
            OutputError: it has another compression, or cannot be written to.
        """
        self.file = folder / NAME
        self.asked, self.content = digest("compress", asked), content
        self.stages: dict[str, dict[str, Any]] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"the folder {folder} cannot be used: {error.strerror or error}") from None
        known = read(self.file)
        if known is None and any(folder.iterdir()) and not asked.force:
            raise OutputError(f"{folder} has files already: choose another folder or give --force")
        if known is not None and known.get("asked") != self.asked and not asked.force:
            raise OutputError(f"{folder} has another compression: choose another folder or give --force")
        self.resumed = known is not None and known.get("asked") == self.asked
        if known is not None and self.resumed:
            self.stages = known["stages"]
        self._write()

    def find(self, kind: str, parameters: Message) -> dict[str, Any] | None:
        """Return a stage's result; None where it was not done, or its file has changed."""
        found = self.stages.get(digest(kind, parameters, self.content))
        if found is None or any(sha256_of(Path(file)) != sha256 for file, sha256 in found["files"].items()):
            return None
        result: dict[str, Any] = found["result"]
        return result

    def keep(self, kind: str, parameters: Message, result: dict[str, Any]) -> None:
        """Store a stage's result."""
        output = result.get("output")
        files = {output: sha256_of(Path(output))} if isinstance(output, str) else {}
        self.stages[digest(kind, parameters, self.content)] = {"kind": kind, "files": files, "result": result}
        self._write()

    def _write(self) -> None:
        try:
            replace_file(self.file, json.dumps({"format": FORMAT, "asked": self.asked, "stages": self.stages}, indent=1).encode())
        except OSError as error:
            raise OutputError(f"{self.file} cannot be written: {error.strerror or error}") from None


class LiveRecipe:
    """The recipe in a compression's folder, where a stage may be edited until it starts."""

    def __init__(self, folder: Path, asked: CompressParameters, resumed: bool) -> None:
        """Write the recipe that was asked for; of a resumed compression keep the edited one.

        Raises:
            RequestError: a parameter does not belong to a recipe.
            OutputError: the folder cannot be written to.
        """
        from tui_pruner.storage.recipe import recipe_of, write_recipe

        self.file = folder / RECIPE_NAME
        self._started: set[str] = set()
        recipe = recipe_of(asked.model_dump())
        if not (resumed and self.file.exists()):
            write_recipe(self.file, recipe)

    def starting(self, stage: str, now: CompressParameters) -> CompressParameters:
        """Return the parameters with which a stage starts; the stage is then read from the file and never again.

        Raises:
            RequestError: the file cannot be read.
        """
        from tui_pruner.storage.recipe import read_recipe

        if stage in self._started:
            return now
        self._started.add(stage)
        return now.model_copy(update=read_recipe(self.file).fields_of(stage))


def read(file: Path) -> dict[str, Any] | None:
    """Return a journal's content; None where there is none or it is damaged."""
    try:
        content = json.loads(file.read_bytes())
        whole = content["format"] == FORMAT and isinstance(content["asked"], str) and isinstance(content["stages"], dict)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return dict(content) if whole else None


def digest(kind: str, parameters: Message, content: str = "") -> str:
    """Return a stage's key: a digest of all that its result depends on; `content`: the images and labels."""
    versions = {"program": __version__, "ultralytics": importlib.metadata.version("ultralytics")}
    asked = {name: value for name, value in parameters.model_dump(exclude=NEVER_DECIDES).items() if (name, value) != ("module", None)}
    parts = {"kind": kind, **versions, **asked, "content": content}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def sha256_of(file: Path) -> str:
    """Return a file's SHA-256; for a folder that of its files; empty where there is nothing."""
    if file.is_dir():
        return hashlib.sha256("".join(sha256_of(inside) for inside in sorted(file.rglob("*")) if inside.is_file()).encode()).hexdigest()
    try:
        return fingerprint(file)
    except OSError:
        return ""
