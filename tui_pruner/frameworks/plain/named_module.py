"""A module given by the names of what builds it, `package.module:build` and `package.module:inputs`, imported from the current folder;
or by a file that holds it, which is loaded by running its code, if the user trusts it like a program."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.core.model.analysis import Analysis
from tui_pruner.core.model.inputs import Inputs, each_batch, inputs_of
from tui_pruner.core.pruning.plan import Plan
from tui_pruner.core.pruning.session import AppliedStep, PruningSession
from tui_pruner.core.recovery.reconstruction import Recovered
from tui_pruner.domain.errors import (
    CheckpointError,
    ProgramEnd,
    PrunerError,
    RequestError,
    UntrustedError,
    VerificationError,
    out_of_memory,
    user_code,
)
from tui_pruner.frameworks.plain.module import digest_of, digest_of_weights, name_of, open_module, structure_of
from tui_pruner.frameworks.plain.module_file import WEIGHTS, fill, load_module, same_state, save_proved, with_kept
from tui_pruner.storage.model_file import ModuleNames
from tui_pruner.storage.trust import fingerprint, is_trusted, short

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pkl")
HOLDING = ("ema", "model")
"""Where a dictionary has its module, the averaged one first."""
LONGEST = 160


@dataclass(frozen=True)
class NamedBatches:
    """Batches of the user's; what going through them raises is said in one line."""

    name: str
    given: Any

    def __len__(self) -> int:
        """How many there are, where that is known."""
        return len(self.given)

    def __iter__(self) -> Iterator[Any]:
        """Go through them.

        Raises:
            RequestError: they cannot be gone through.
            ProgramEnd: they would have ended this program.
        """
        batches = each_batch(self.given)
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except PrunerError:
                raise
            except Exception as error:
                if out_of_memory(error):
                    raise
                raise RequestError(f"{self.name} raises {said(error)}") from error
            yield batch


@dataclass(frozen=True)
class NamedModule:
    """A module by the names of what builds it, of its inputs, and of the functions for jobs on it: see `ModuleNames`.

    `folder`: the current one from before any code of the module ran, which may change it.
    """

    names: ModuleNames
    folder: Path = field(default_factory=Path.cwd)

    @property
    def build(self) -> str:
        """The name of what builds it."""
        return self.names.build

    def built(self) -> nn.Module:
        """A freshly built module, with the weights of the file, or as the folder has it.

        Raises:
            CheckpointError: it cannot be built, or the weights do not fit.
            PlanError: the folder was written from a module of another structure.
        """
        made = self._made()
        if not isinstance(made, nn.Module):
            raise CheckpointError(f"{self.build} gives a {type(made).__name__}: it must return a torch.nn.Module")
        if self.names.weights is not None:
            fill(made, weights_in(self.folder / self.names.weights), self.names.weights)
        return made if self.names.folder is None else load_module(self.folder / self.names.folder, made)

    def stored_in(self, folder: str) -> nn.Module:
        """The module that a folder has, which was written from this one.

        Raises:
            CheckpointError: the folder is missing or damaged.
            PlanError: it was written from a module of another structure.
        """
        return load_module(self.folder / folder, self.built())

    def analysis(self) -> Analysis:
        """The analysis of a freshly built module in evaluation mode, on its example inputs.

        Raises:
            PrunerError: it cannot be built, or not be cut.
        """
        return open_module(self.built().eval(), self.given(), approximate=self.names.approximate)

    def identity(self, analysis: Analysis) -> dict[str, str]:
        """Its name and the digest of its numbers, or of a folder's, which tell the sessions on it from others."""
        folder = self.names.folder
        weights = digest_of_weights(analysis.checkpoint.model) if folder is None else fingerprint(self.folder / folder / WEIGHTS)
        return {"path": self.build, "weights": weights}

    def plan(self, session: PruningSession) -> Plan:
        """The plan of a session, with the positions that every parameter keeps."""
        return with_kept(session.plan, session.analysis.coupling, session.removal)

    def save(
        self, session: PruningSession, steps: Sequence[AppliedStep], output: str, force: bool, refit: Recovered | None = None
    ) -> tuple[int, str]:
        """Write the module after some steps, or its refit, as a folder, and return what `demand_loads` does.

        Raises:
            ProofError: the last step is not proved.
            OutputError: the path cannot be used.
            VerificationError: what was loaded is another module.
        """
        folder = self.folder / output
        origin = Path(self.names.folder).name if self.names.folder else ""
        return self.demand_loads(folder, save_proved(session, folder, steps=steps, refit=refit, force=force, origin=origin))

    def demand_loads(self, folder: Path, module: nn.Module) -> tuple[int, str]:
        """Load a written folder into a freshly built module; return its bytes and its numbers' SHA-256.

        Raises:
            VerificationError: what was loaded is another module.
        """
        try:
            loads, why = same_state(load_module(folder, self.built()), module), "it has other numbers"
        except PrunerError as error:
            loads, why = False, str(error)
        if not loads:
            raise VerificationError(f"{folder} was written, but does not load into what {self.build} builds now: {why}")
        return sum(file.stat().st_size for file in folder.iterdir()), fingerprint(folder / WEIGHTS)

    def _made(self) -> Any:
        if ":" not in self.build and Path(self.build).suffix.lower() in PICKLED:
            return pickled_module(Path(self.build))
        return called(self.build, found(self.build, "--model"))

    def given(self) -> Inputs:
        """The example inputs: what a function of this name returns, or the object of this name.

        Raises:
            RequestError: they cannot be made.
        """
        name = self.names.inputs
        value = found(name, "--inputs")
        value = called(name, value) if callable(value) else value
        if not isinstance(value, (Inputs, Tensor, tuple, list, Mapping)):
            raise RequestError(f"{name} gives a {type(value).__name__}: give a tensor, a tuple of arguments or a dict of them by name")
        run = self._function("forward", "forward(module, *inputs)")
        return replace(inputs_of(value), forward=run)

    def batches(self) -> NamedBatches:
        """Batches of its inputs, from the first one again each time.

        Raises:
            RequestError: none were named, or they cannot be made.
        """
        name = self.names.batches
        if not name:
            raise RequestError("no batches of inputs are known: name what gives them (--batches package.module:batches)")
        value = found(name, "--batches")
        if isinstance(value, Iterator):
            raise RequestError(
                f"{name} is a {type(value).__name__}, which gives its batches once: name a function that makes it, or a list"
            )
        is_function = callable(value) and (isinstance(value, type) or not hasattr(value, "__iter__"))
        return NamedBatches(name, called(name, value) if is_function else value)

    def measure(self) -> Callable[[nn.Module], Any] | None:
        """The function that computes figures of a module; None where none was named."""
        return self._calling("evaluate", "evaluate(module)")

    def loss(self) -> Callable[[nn.Module, Any], Tensor] | None:
        """The function that computes a loss; None where none was named."""
        return self._calling("loss", "loss(module, batch)")

    def train(self) -> Callable[..., Any] | None:
        """The function that trains a module; None where none was named."""
        return self._function("train", "train(module)")

    def _calling(self, option: str, call: str) -> Callable[..., Any] | None:
        """A named function; what it raises is said in one line."""
        function, name = self._function(option, call), getattr(self.names, option)
        return (lambda *given: called(name, partial(function, *given))) if function is not None else None

    def _function(self, option: str, call: str) -> Callable[..., Any] | None:
        name = getattr(self.names, option)
        function = found(name, f"--{option}") if name else None
        if function is not None and not callable(function):
            raise RequestError(f"--{option} {name} is a {type(function).__name__}: name a function that is called as {call}")
        return function

    def check_deterministic(self, structure: str) -> None:
        """Refuse a function that builds another module than one of this structure: saved weights could not be loaded into it.

        Raises:
            CheckpointError: it does.
        """
        again = self.built()
        if digest_of(structure_of(again)) != structure:
            raise CheckpointError(
                f"{self.build} gives another module each time: make it build the same {name_of(again)} whenever it is called"
            )


def found(name: str, option: str) -> Any:
    """Import the object of a name such as `package.module:attribute`, from this folder first; this runs the user's code.

    Raises:
        RequestError: the name does not exist, or its module cannot be imported.
    """
    package, colon, attribute = name.partition(":")
    if not package or not colon or not attribute:
        raise RequestError(f"{option} {name!r} is not a name: write package.module:function")
    import_from_here()
    try:
        with user_code("it"):
            value: Any = importlib.import_module(package)
    except Exception as error:
        raise RequestError(
            f"{option} {name}: {package} cannot be imported from {os.curdir} or the installed packages ({said(error)})"
        ) from error
    for part in attribute.split("."):
        if not hasattr(value, part):
            raise RequestError(f"{option} {name}: {package} has no {attribute}")
        value = getattr(value, part)
    return value


def import_from_here() -> None:
    """Let the user's code be imported from the current folder."""
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)


def called(name: str, function: Any) -> Any:
    """Call a function of the user.

    Raises:
        RequestError: it is not callable, or raises.
        ProgramEnd: it would have ended this program.
    """
    try:
        with user_code(f"{name}()"):
            return function()
    except ProgramEnd:
        raise
    except Exception as error:
        raise RequestError(f"{name}() raises {said(error)}") from error


def pickled_module(file: Path) -> nn.Module:
    """The module that a trusted file holds: itself, or as "ema" or "model" of a dictionary, as training scripts save checkpoints.

    Raises:
        CheckpointError: the file is missing, cannot be loaded, or has no module.
        UntrustedError: it is not trusted.
        ProgramEnd: it would have ended this program.
    """
    if not file.is_file():
        raise CheckpointError(f"no file {file}: give the file that holds the module, or package.module:function")
    digits = fingerprint(file)
    if not is_trusted(digits):
        raise UntrustedError(
            f"{file} is read by running what it says, as any program is: if you trust it like one, allow that (--trust {short(digits)})"
        )
    import_from_here()
    try:
        with user_code(str(file)):
            content = torch.load(file, map_location="cpu", weights_only=False)
    except (ProgramEnd, MemoryError):
        raise
    except ImportError as error:
        raise CheckpointError(f"{file} needs the code that saved it ({said(error)}): put its folder on PYTHONPATH") from error
    except Exception as error:
        raise CheckpointError(f"{file} cannot be loaded, though it is trusted ({said(error)}): load it where it was saved") from error
    held = [content.get(name) for name in HOLDING] if isinstance(content, dict) else [content]
    module = next((one for one in held if isinstance(one, nn.Module)), None)
    if module is None:
        raise CheckpointError(f"{file} holds no torch.nn.Module: give a function that builds one (--model package.module:build)")
    return module


def said(error: Exception) -> str:
    """An exception in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]


def weights_in(file: Path) -> Any:
    """The tensors in a safetensors file.

    Raises:
        CheckpointError: it is not such a file.
    """
    from safetensors.torch import load

    if file.suffix.lower() in PICKLED:
        raise CheckpointError(f"{file} is read by running what it says: save the state as safetensors, or load it in the factory yourself")
    try:
        return load(file.read_bytes())
    except Exception as error:
        raise CheckpointError(f"the weights {file} cannot be read ({said(error)}): give a safetensors file") from None
