"""Where a model comes from and what was made from it: a tree of stages, from the original over steps to recovered files."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

ORIGINAL, STEP, PRUNED, ASKED = "original", "step", "prune", "asked"
FILE = "file:"
"""Prefix of the id of a file until it is opened: its content is not known before."""


@dataclass(frozen=True)
class Stage:
    """One state of the model. `kind`: the original, a step, or what made a file (`finetune`, `reconstruct`, ...).

    `step` is its step as a plan stores it, `plan` the rest of the plan of a file that was opened. Figures that were not measured are None,
    sizes that are not known 0; `data` is the data set of the metric. `low` and `high`: the metric's 95 % interval. `overwritten`: its file
    was replaced by another, so it has no path.
    """

    id: str
    parent: str
    kind: str
    title: str
    parameters: int = 0
    flops: int = 0
    path: str = ""
    overwritten: bool = False
    step: dict[str, Any] | None = None
    plan: dict[str, Any] | None = None
    data: str = ""
    metric: float | None = None
    low: float | None = None
    high: float | None = None
    latency: float | None = None
    proof: str = ""
    proved: bool | None = None

    @property
    def plain(self) -> dict[str, Any]:
        """As a journal stores it: only fields with a value."""
        usual = {one.name: one.default for one in fields(self)}
        return {name: value for name, value in asdict(self).items() if value is not usual[name] and value != usual[name]}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Stage:
        """From a journal's content; unknown keys are of a later version and ignored.

        Raises:
            TypeError: a field that every stage has is missing.
        """
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in content.items() if name in known})


@dataclass(frozen=True)
class GraphLine:
    """One stage of a tree with the lines before it: for each column whether a line continues ("|") or branches off ("+")."""

    columns: str
    stage: Stage


def file_id(sha256: str) -> str:
    """The id of a file's stage, by its content."""
    return f"{sha256[:16]}:"


def state_id(sha256: str, key: str) -> str:
    """The id of an opened file's state after some steps; without a step it is that of the file."""
    return f"{sha256[:16]}:{key[:16]}"


@dataclass
class Lineage:
    """All known stages, by id; a stage comes after its parent. `here`: the session's stage. `derived`: those recorded in the open file,
    which are not stored again.
    """

    stages: dict[str, Stage] = field(default_factory=dict)
    here: str = ""
    derived: set[str] = field(default_factory=set)

    def __iter__(self) -> Iterator[Stage]:
        return iter(self.stages.values())

    def put(self, *stages: Stage) -> None:
        """Add stages, or update them."""
        self.stages.update((stage.id, stage) for stage in stages)

    def replace_file(self, file: Stage) -> None:
        """Add a file that was just written, as the newest stage; an earlier one of the same path no longer exists."""
        self._overwrite(file.path, ())
        self.stages.pop(file.id, None)
        self.put(file)

    @property
    def doubtful_paths(self) -> list[str]:
        """The paths of files of unknown content that are those of opened files too: one file, unless it was written again since."""
        known = {stage.path for stage in self if stage.path and not stage.id.startswith(FILE)}
        return [stage.path for stage in self if stage.id.startswith(FILE) and stage.path in known]

    def merge_files(self, present: Mapping[str, str]) -> None:
        """Merge each file of unknown content with the opened file that it is; opened files with another content were overwritten.

        `present`: by path the id of the file's content now; empty where the file is gone, which is then taken for the opened one.
        """
        for path in [path for path in self.doubtful_paths if path in present]:
            id, unknown = present[path], f"{FILE}{path}"
            opened = [stage.id for stage in self if stage.path == path and stage.id != unknown]
            if id in opened or not id:
                del self.stages[unknown]
                self._adopt(unknown, id or opened[-1])
            if id:
                self._overwrite(path, {id, unknown})

    def opened(self, root: Stage) -> None:
        """Record that a file of the tree was opened, so its content is known; it stays at its place, and what was made from it below it."""
        unknown = f"{FILE}{root.path}"
        made, known = self.stages.pop(unknown, None), self.stages.get(root.id)
        if made is None or known in self.chain(made.parent):  # a file that was overwritten and is as it was before again
            made = known
        if made is not None:
            root = replace(root, parent=made.parent or root.parent, kind=made.kind, title=made.title)
        if known is not None:  # of the same content
            root = replace(root, latency=known.latency)
        self.put(root)
        self._adopt(unknown, root.id)
        self._overwrite(root.path, {root.id})
        self.here = root.id

    def _adopt(self, former: str, id: str) -> None:
        self.put(*(replace(stage, parent=id) for stage in self if stage.parent == former))

    def _overwrite(self, path: str, present: Collection[str]) -> None:
        self.put(*(replace(stage, path="", overwritten=True) for stage in self if stage.path == path and stage.id not in present))

    def chain(self, id: str) -> list[Stage]:
        """The stages from the original to this one."""
        found: list[Stage] = []
        while (stage := self.stages.get(id)) is not None and stage not in found:
            found.insert(0, stage)
            id = stage.parent
        return found

    def root_of(self, id: str) -> Stage | None:
        """The file that a stage's steps start from; a file itself."""
        return next((stage for stage in reversed(self.chain(id)) if stage.kind != STEP), None)

    @property
    def original(self) -> Stage | None:
        """The root of the tree."""
        return next(iter(self.chain(self.here)), None)

    def ancestors(self) -> list[Stage]:
        """The stages before the open file, the original first."""
        root = self.root_of(self.here)
        return self.chain(root.parent) if root else []

    def steps_of(self, id: str) -> list[dict[str, Any]]:
        """The steps from a stage's file to the stage, as a plan stores them."""
        steps: list[dict[str, Any]] = []
        for stage in reversed(self.chain(id)):
            if stage.kind != STEP:
                break
            steps.insert(0, stage.step or {})
        return steps

    def graph(self, main: Sequence[str] = ()) -> list[GraphLine]:
        """The tree as lines, parents first. The child on the path of `main`, else the newest, continues its parent's column; others branch
        off before it.
        """
        children: dict[str, list[Stage]] = {}
        for stage in self:
            children.setdefault(stage.parent if stage.parent in self.stages else "", []).append(stage)
        lines: list[GraphLine] = []
        waiting = [(stage, "", "") for stage in reversed(children.get("", []))]
        while waiting:
            stage, before, columns = waiting.pop()
            lines.append(GraphLine(before, stage))
            born = children.get(stage.id, [])
            along = next((child for child in born if child.id in main), born[-1] if born else None)
            if along is not None:
                waiting.append((along, columns, columns))
            waiting += [(child, f"{columns}+", f"{columns}|") for child in reversed(born) if child is not along]
        return lines

    def besides(self, ids: Iterable[str]) -> list[dict[str, Any]]:
        """All other stages, as a journal stores them."""
        left = set(ids)
        return [stage.plain for stage in self if stage.id not in left]


def from_stages(stages: Sequence[Mapping[str, Any]]) -> list[Stage]:
    """The files that a file records as its sources, as stages, oldest first; the file itself is not included.

    `stages`: for each stage its `kind`, and `source`, `sha256` and `parameters` of its source file.
    """
    found: list[Stage] = []
    kind = ORIGINAL
    for stage in stages:
        parent = found[-1].id if found else ""
        found.append(Stage(file_id(stage["sha256"]), parent, kind, stage["source"], parameters=stage.get("parameters", 0)))
        kind = stage["kind"]
    return list({stage.id: stage for stage in found}.values())
