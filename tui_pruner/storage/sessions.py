"""Sessions stored while the app runs, so that a lost connection or a kill loses nothing: the open model, its steps, marks and results."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import secrets
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tui_pruner.domain.errors import DataError, PlanError
from tui_pruner.domain.formatting import own_name
from tui_pruner.domain.results import FIGURES
from tui_pruner.storage import paths
from tui_pruner.storage.journal import HeldElsewhere, Journal, State, is_held, read
from tui_pruner.storage.model_file import NUMBERS
from tui_pruner.storage.trust import fingerprint

FORMAT = 2
MOST = 40
LONGEST_NAME = 80
"""Bytes of the model's name in a session's name."""
SUFFIX = ".jsonl"
NOT_KEPT = {"damaged", "running"}
FOLDER = "folder"
"""The key of the folder that relative paths of a stored session start from."""
PLANNED = "planned"
"""The key of the plan's steps."""
LONGEST_YAML = 1 << 18
"""Bytes of a data yaml that parse fast enough for the interface."""
MOST_FILES = 5000
"""Images and labels whose status is read in a tenth of a second."""


class SavedSession(BaseModel):
    """Everything that the interface needs to resume: `plan` has every step, the first `steps` of which are applied; `asked` is by layer.

    `metrics` is by the keys of steps (`tui/timeline.py`), measured as `figures` says (`domain/results.py`). `left`: the user quit.
    `intervals`, `resamples`, `latencies`, `refits` (distances as cut, refitted), `forecasts` (base, drop, expected, spread) are by these
    keys too; `lineage`: the stages beside the plan's; `scan`: the last complete scan, on `data`; `data_status`: of its files then
    (`status_of_data`). Paths are as they were given, and absolute if they were relative to another folder than the current one.
    `module`: as in an `Opening`, and `weights`: the digest of the module's numbers; empty for a file.
    Set when it was read, not stored: `running`, whether a living process has it, and `damaged`, the number of bad lines at its end.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = FORMAT
    id: str
    saved_at: float = 0.0
    left: bool = False
    running: bool = False
    damaged: int = 0
    model: str
    imgsz: int | None = None
    classes: int | None = None
    data: str | None = None
    data_status: str = ""
    images: int | None = None
    device: str = ""
    plan: dict[str, Any]
    steps: int
    unsaved: bool = False
    asked: dict[str, str] = {}
    criterion: str = "l2"
    round_to: int = 1
    marks: list[str] = []
    cursor: str = ""
    figures: int = FIGURES
    metric: str = "mAP"
    metrics: dict[str, float] = Field(default={})
    intervals: dict[str, tuple[float, float]] = Field(default={})
    resamples: dict[str, list[float]] = Field(default={})
    latencies: dict[str, float] = Field(default={})
    refits: dict[str, tuple[float, float]] = Field(default={})
    forecasts: dict[str, tuple[float, float, float, float]] = Field(default={})
    lineage: list[dict[str, Any]] = Field(default=[])
    scan: dict[str, Any] = Field(default={})
    module: dict[str, Any] = Field(default={})
    weights: str = ""

    @property
    def worth_keeping(self) -> bool:
        """Whether anything would be lost without it."""
        return self.is_work or self.has_measurements or bool(self.lineage)

    @property
    def has_measurements(self) -> bool:
        """Whether something was measured in it."""
        return bool(self.scan or self.metrics or self.latencies)

    @property
    def is_work(self) -> bool:
        """Whether there is something to go on with, beside measurements and other stages."""
        return bool(self.plan["steps"] or self.asked or self.marks)

    def is_of(self, sha256: str) -> bool:
        """Whether the model had this content; an empty text stands for any."""
        return sha256 in ("", self.plan.get("sha256"))

    @property
    def state(self) -> State:
        """As a journal stores it: the plan's steps as a list of their own, so that only new ones are appended."""
        content = self.model_dump(mode="json", exclude=NOT_KEPT)
        plan = content.pop("plan")
        return {**content, PLANNED: plan.pop("steps"), "plan": plan, FOLDER: _current_folder()}

    @classmethod
    def of_state(cls, state: State, **read: Any) -> SavedSession:
        """From a journal's state, without metrics that would be measured differently today; keys of a later version are ignored.

        Raises:
            ValidationError: it is something else.
        """
        content = {name: value for name, value in _from_folder(state).items() if name in cls.model_fields or name == PLANNED}
        if content.pop("figures", None) != FIGURES:
            for measured in ("metrics", "intervals", "resamples", "refits", "forecasts", "scan"):
                content.pop(measured, None)
            if isinstance(stages := content.get("lineage"), list):
                content["lineage"] = [_without_metric(stage) if isinstance(stage, dict) else stage for stage in stages]
        steps, plan = content.pop(PLANNED, []), content.pop("plan", {})
        return cls.model_validate({**content, "plan": {**plan, "steps": steps} if isinstance(plan, dict) else plan, **read})


def _from_folder(state: Mapping[str, Any]) -> dict[str, Any]:
    """A state with paths that lead to the same files from the current folder, if it was stored in another one."""
    folder, here = state.get(FOLDER), _current_folder()
    content = {name: value for name, value in state.items() if name != FOLDER}
    if not isinstance(folder, str) or folder in ("", here):
        return content

    def of(content: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        there = {name: path for name in names if isinstance(path := content.get(name), str) and _is_relative(path, folder)}
        return {**content, **{name: str(Path(folder) / path) for name, path in there.items()}}

    stages = content.get("lineage")
    if isinstance(stages, list):
        content["lineage"] = [of(stage, ("path", "data")) if isinstance(stage, dict) else stage for stage in stages]
    if isinstance(scan := content.get("scan"), dict):
        content["scan"] = of(scan, ("data",))
    if isinstance(module := content.get("module"), dict):
        content["module"] = of(module, ("weights",))
    return of(content, ("data",) if module and ":" in str(content.get("model")) else ("model", "data"))


def _without_metric(stage: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in stage.items() if name not in ("metric", "low", "high")}


def _is_relative(path: str, folder: str) -> bool:
    """Whether a path starts from the folder; an architecture or a data set of Ultralytics is known by its name in any folder."""
    file = Path(path)
    if not path or file.is_absolute() or path.startswith("~"):
        return False
    return len(file.parts) > 1 or file.suffix not in ("", ".yaml", ".yml") or (Path(folder) / file).exists()


def _current_folder() -> str:
    """The current folder; empty where it was removed."""
    with contextlib.suppress(OSError):
        return str(Path.cwd())
    return ""


class SessionFile:
    """The journal of one session, which no other process writes at the same time.

    `read_at`: the `saved_at` of the session that is continued in it. If another window has written to it since, this one goes on in
    a journal of its own, and both are kept.
    """

    def __init__(self, id: str, read_at: float = 0.0) -> None:
        self.id = id
        self._read_at = read_at
        self._in_turn = threading.Lock()
        self._closed = False
        self._journal = Journal(paths.sessions_folder() / f"{id}{SUFFIX}")

    def keep(self, session: SavedSession) -> None:
        """Store a session; one without content leaves no file.

        Raises:
            OSError: it cannot be written.
            PlanError: another process has it.
        """
        with self._in_turn:
            if not self._closed:
                self._keep(session)

    def close(self) -> None:
        """Close and unlock the session; later changes are not stored."""
        with self._in_turn:
            self._closed = True
            self._journal.close()

    def _keep(self, session: SavedSession) -> None:
        try:
            if self._read_at:
                self._take_over(session.model)
            if not session.worth_keeping:
                self._journal.close()
                self._journal.file.unlink(missing_ok=True)
                self._journal = Journal(self._journal.file)
                return
            first = not self._journal.file.exists()
            self._journal.record(session.model_copy(update={"id": self.id, "saved_at": time.time()}).state)
        except HeldElsewhere as error:
            raise PlanError(f"the session {self.id} is open elsewhere ({error})") from error
        if first:
            with contextlib.suppress(OSError):  # this one is kept even if old ones cannot be removed
                _drop_oldest(session)

    def _take_over(self, model: str) -> None:
        self._journal.open()
        if self._journal.state.get("saved_at", self._read_at) != self._read_at:
            self._journal.close()
            self.id = new_id(model)
            self._journal = Journal(paths.sessions_folder() / f"{self.id}{SUFFIX}")
        self._read_at = 0.0


def new_id(model: str) -> str:
    """A unique name for a session of a model."""
    return f"{time.strftime('%Y%m%d-%H%M%S')}-{own_name(Path(model).stem, LONGEST_NAME)}-{secrets.token_hex(2)}"


def status_of_data(data: str | None) -> str:
    """A digest of the sizes and times of a data yaml and of the images and labels that it validates on; empty where not cheaply known.

    That is where the yaml lists something else than one folder beside it, or there are more than `MOST_FILES`.
    """
    from tui_pruner.storage.yaml import located, read_data_yaml

    if data is None:
        return ""
    with contextlib.suppress(OSError, ValueError, DataError):
        file = located(data)
        if file.stat().st_size > LONGEST_YAML:
            return ""
        content = read_data_yaml(file).content
        given, root = content.get("val") or content.get("validation"), content.get("path") or ""
        if not isinstance(given, str) or not isinstance(root, str):
            return ""
        images = (file.absolute().parent / root / given).resolve()
        labels = Path(f"{os.sep}labels{os.sep}".join(f"{images}{os.sep}".rsplit(f"{os.sep}images{os.sep}", 1)))
        if images.is_dir() and (not root or Path(root).is_absolute()):
            return _status_of([file.resolve()], *dict.fromkeys((images, labels)))
    return ""


def _status_of(files: list[Path], *folders: Path) -> str:
    for folder in folders:
        for parent, below, names in os.walk(folder, followlinks=True):
            below.sort()
            files += [Path(parent, name) for name in sorted(names) if not name.endswith(".cache")]
            if len(files) > MOST_FILES:
                return ""
    content = hashlib.sha256()
    for file in files:
        status = file.stat()
        told = f"{file}\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}\0"
        content.update(told.encode(errors="surrogateescape"))
    return content.hexdigest()


def sessions(with_text: str = "") -> list[SavedSession]:
    """All readable sessions, newest first; those whose journal does not contain a text are left out unparsed."""
    return sorted(_readable(with_text), key=lambda session: session.saved_at, reverse=True)


def session_to_resume(wanted: str = "") -> SavedSession:
    """The newest session that no living process has, of those with work where there is one, or the one whose id begins with `wanted`.

    Raises:
        PlanError: there is none.
    """
    free = [session for session in sessions() if not session.running and session.id.startswith(wanted)]
    if not free:
        which = f"no session begins with {wanted!r}" if wanted else "no session to resume"
        raise PlanError(f"{which}: tui-pruner sessions lists what is kept in {paths.sessions_folder()}")
    return next((session for session in free if session.is_work), free[0])


def sessions_of(model: str, sha256: str = "") -> list[SavedSession]:
    """The sessions of a model that no other window has: those with work, then the others, the newest first; of this content, if given."""
    found = [session for session in sessions(sha256 or json.dumps(Path(model).name)[1:-1]) if same_path(session.model, model)]
    return sorted((one for one in found if not one.running and one.is_of(sha256)), key=lambda session: not session.is_work)


@dataclass(frozen=True)
class KeptSessions:
    """The sessions of a model's file, of any content, and the present status of the data sets that their metrics may be compared on."""

    sessions: tuple[SavedSession, ...] = ()
    data_status: Mapping[str, str] = field(default_factory=dict)


def kept_sessions(model: str, data: str | None) -> KeptSessions:
    """Read the sessions of a model's file, and the status of this data set; without one, that of each session's."""
    found = tuple(sessions_of(model))
    used = dict.fromkeys([data] if data else [session.data for session in found])
    return KeptSessions(found, {one: status_of_data(one) for one in used if one} if found else {})


def measured_sessions(file: str, known: Sequence[SavedSession]) -> list[SavedSession]:
    """Those of these sessions that have measured a file with its present content, without a step; running ones count too."""
    own = [session for session in known if {*session.metrics, *session.latencies} & {""} and same_path(session.model, file)]
    content = content_of(file) if own else ""
    return [session for session in own if content and session.is_of(content)]


def content_of(file: str) -> str:
    """The SHA-256 of a file's present content, or of the numbers of the module in a folder; empty where it cannot be read."""
    with contextlib.suppress(OSError, ValueError):
        place = Path(file) / NUMBERS if Path(file).is_dir() else Path(file)
        return fingerprint(place) if place.is_file() else ""
    return ""


def same_path(one: str | None, other: str | None) -> bool:
    """Whether two paths name one file, absolute, relative to the current folder or with `..`; no path is the same as no path only."""
    if one is None or other is None:
        return one is other
    here = Path(_current_folder())
    return os.path.normpath(here / one) == os.path.normpath(here / other)


def _readable(with_text: str) -> Iterator[SavedSession]:
    for file in paths.sessions_folder().glob(f"*{SUFFIX}"):
        with contextlib.suppress(OSError, ValidationError, TypeError, ValueError):
            if with_text and with_text.encode() not in file.read_bytes():
                continue
            found = read(file)
            session = SavedSession.of_state(found.state, damaged=found.damaged, running=is_held(file))
            if session.format == FORMAT:
                yield session


def _drop_oldest(newest: SavedSession) -> None:
    """Remove what is beyond the most, and the sessions that have only figures of the newest one's model: these are measured again."""
    figures_only = {
        paths.sessions_folder() / f"{one.id}{SUFFIX}"
        for one in sessions()
        if one.plan.get("sha256") == newest.plan.get("sha256") and same_path(one.model, newest.model)
        if one.id != newest.id and not (one.is_work or one.lineage or one.scan)
    }
    files = sorted(paths.sessions_folder().glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime, reverse=True)
    for file in {*files[MOST:], *figures_only}:
        with contextlib.suppress(OSError):
            if not is_held(file):
                file.unlink()
