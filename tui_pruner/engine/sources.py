"""What a session is opened on, a file of Ultralytics or any module by its names: how each is traced, planned for and written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from tui_pruner.core.model.analysis import Analysis, analyse
from tui_pruner.core.pruning.plan import Plan
from tui_pruner.core.pruning.session import AppliedStep, PruningSession
from tui_pruner.core.search.ladders import TOLERANCE
from tui_pruner.domain.errors import OutputError
from tui_pruner.engine.messages import Check, OpenResult, WriteResult
from tui_pruner.engine.requests import Open, Write
from tui_pruner.frameworks.ultralytics import open_model
from tui_pruner.frameworks.ultralytics.writing import cut_prove_write

Say = Callable[[str], None]


class SessionSource(Protocol):
    """What a session is on."""

    folder: Path
    """Relative paths start here."""
    tolerances: Sequence[float]
    """How far below its goal a plan may end, the first of these that reaches it."""

    def analysis(self) -> Analysis:
        """Read and trace it."""

    def described(self, opened: OpenResult, analysis: Analysis) -> OpenResult:
        """The answer to its opening, with what only this source knows."""

    def plan(self, session: PruningSession) -> Plan:
        """The plan of a session, as it is saved."""

    def write(self, session: PruningSession, steps: Sequence[AppliedStep], asked: Write, on_progress: Say) -> WriteResult:
        """Write the model after some steps, proved and checked."""


class FileSource:
    """A checkpoint or an architecture of Ultralytics."""

    folder: Path = Path()
    tolerances: Sequence[float] = (TOLERANCE,)

    def __init__(self, asked: Open) -> None:
        self._asked = asked

    def analysis(self) -> Analysis:
        """Read and trace the checkpoint.

        Raises:
            CheckpointError: it cannot be used.
        """
        return analyse(open_model(self._asked.path, self._asked.classes), self._asked.imgsz)

    def described(self, opened: OpenResult, analysis: Analysis) -> OpenResult:
        """The answer as it is."""
        return opened

    def plan(self, session: PruningSession) -> Plan:
        """The plan: the file's SHA-256 and the trace tell what every parameter keeps."""
        return session.plan

    def write(self, session: PruningSession, steps: Sequence[AppliedStep], asked: Write, on_progress: Say) -> WriteResult:
        """Write a `.pt` that stock Ultralytics loads, checked in a clean process.

        Raises:
            ProofError: a step is not proved.
            OutputError: the path cannot be used.
            VerificationError: the file failed its checks.
        """
        made = cut_prove_write(session, asked.path, steps=steps, mask=asked.mask, force=asked.force, on_progress=on_progress)
        written = made.file
        return WriteResult(
            output=written.output,
            sha256=written.sha256,
            bytes=written.bytes,
            checks=[Check(name=check.name, ok=check.ok, detail=check.detail) for check in written.checks],
            own_names=list(written.own_names),
            masked=made.proof.relative_difference if asked.mask else None,
        )


class ModuleSource:
    """Any module, by the names of its code."""

    def __init__(self, asked: Open) -> None:
        from tui_pruner.frameworks.plain.module import TOLERANCES
        from tui_pruner.frameworks.plain.named_module import NamedModule  # late: no file waits for it

        assert asked.module is not None
        self._module = NamedModule(asked.module)
        self.folder: Path = self._module.folder
        self.tolerances: Sequence[float] = TOLERANCES

    def analysis(self) -> Analysis:
        """Build and trace the module.

        Raises:
            PrunerError: it cannot be built, or not be cut.
        """
        return self._module.analysis()

    def described(self, opened: OpenResult, analysis: Analysis) -> OpenResult:
        """The answer with the digest of its numbers; its blocks have no sections."""
        model = opened.model.model_copy(update=self._module.identity(analysis))
        blocks = [block.model_copy(update={"section": "all blocks"}) for block in opened.blocks]
        return opened.model_copy(update={"model": model, "blocks": blocks})

    def plan(self, session: PruningSession) -> Plan:
        """The plan with the positions that every parameter keeps."""
        return self._module.plan(session)

    def write(self, session: PruningSession, steps: Sequence[AppliedStep], asked: Write, on_progress: Say) -> WriteResult:
        """Write a folder, loaded again into a freshly built module.

        Raises:
            ProofError: the last step is not proved.
            OutputError: the path cannot be used.
            VerificationError: what was loaded is another module.
        """
        if asked.mask:
            raise OutputError("a module is written with its channels cut, not as a mask")
        on_progress("proving and writing")
        size, digest = self._module.save(session, steps, asked.path, asked.force or asked.scratch)
        return WriteResult(output=asked.path, sha256=digest, bytes=size, checks=[Check(name="loads", ok=True, detail="")])


def source_of(asked: Open) -> SessionSource:
    """What a request opens."""
    return FileSource(asked) if asked.module is None else ModuleSource(asked)
