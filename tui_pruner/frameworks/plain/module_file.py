"""A cut module as a folder without pickle: plan.yaml has the cuts, model.safetensors the weights, about.json the origin."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tui_pruner import __version__
from tui_pruner.core.model.copies import named_tensors, owners_of_tensors, put_tensor, tensor_at
from tui_pruner.core.model.layers import compute_weights
from tui_pruner.core.pruning.plan import Plan, as_ranges, dump_yaml, positions_at, read_plan
from tui_pruner.core.pruning.removal import Removal
from tui_pruner.core.pruning.session import AppliedStep, PruningSession
from tui_pruner.core.pruning.surgery import cut, factors_of_rows, narrowed_to, scale_rows
from tui_pruner.core.recovery.reconstruction import Recovered
from tui_pruner.core.tracing.adapters import rewrite_attributes
from tui_pruner.core.tracing.coupling_map import CouplingMap, Indices
from tui_pruner.core.tracing.inner_blocks import outermost
from tui_pruner.core.tracing.width_search import put_widths, widths_left
from tui_pruner.domain.errors import CheckpointError, OutputError, PlanError, ProofError
from tui_pruner.frameworks.plain.adapters import free_widths, restore_classes
from tui_pruner.frameworks.plain.module import OpenedModule, digest_of, independent, name_of, structure_of
from tui_pruner.storage.atomic import removed_at_next_start, sync_folder, write_durably
from tui_pruner.storage.model_file import CUTS, NUMBERS

PLAN, WEIGHTS, ABOUT = CUTS, NUMBERS, "about.json"
ORIGIN = "from"
UNCHANGED = "cut"
"""What a refit keeps that found nothing better than the cut."""
FILES = frozenset({PLAN, WEIGHTS, ABOUT})


def with_kept(plan: Plan, coupling: CouplingMap, removal: Removal) -> Plan:
    """A plan with the positions that every parameter and buffer keeps, the values of attributes, and factors of rows, so that applying it
    needs no trace."""
    ranges = {name: {int(dim): as_ranges(indices) for dim, indices in dims.items()} for name, dims in removal.kept(coupling).items()}
    scaled: dict[str, dict[str, float]] = {}
    for name, rows, factor in factors_of_rows(coupling, removal):
        scaled.setdefault(name, {})[as_ranges(rows.tolist())] = factor
    return plan.model_copy(update={"kept": ranges, "widths": widths_left(coupling, removal), "scaled": scaled})


def save_proved(
    session: PruningSession,
    folder: Path,
    *,
    steps: Sequence[AppliedStep] | None = None,
    refit: Recovered | None = None,
    force: bool = False,
    origin: str = "",
) -> nn.Module:
    """Write the module after some steps of a session (default: all applied ones), or its refit, as a folder; return that module.

    `origin`: the name of the folder that the module of the session came from.

    Raises:
        ProofError: the last step is not proved.
        OutputError: no step, or the path cannot be used.
    """
    applied = session.steps if steps is None else steps
    if not applied:
        raise OutputError("nothing was cut, so there is nothing to save: apply a step first")
    opened, coupling, removal = session.analysis.checkpoint, session.analysis.coupling, applied[-1].removal
    assert isinstance(opened, OpenedModule)
    proof = session.prove(applied[-1])
    if not proof.holds:
        raise ProofError(f"the cut is not proved: {proof.reason}; {proof.advice}", proof.plain())
    model = opened.as_given(independent(refit.model if refit is not None else cut(opened.model, coupling, removal)))
    about = {
        "version": __version__,
        "module": opened.path,
        "structure": opened.sha256,
        "before": asdict(session.arithmetic.whole.size),
        "after": asdict(session.arithmetic.widths(removal).size),
        "refit": refit.kept if refit is not None else None,
        "proof": {**proof.plain(), "seconds": round(proof.seconds, 3)},
        **({ORIGIN: origin} if origin else {}),
    }
    plan = session.plan.model_copy(update={"steps": [one.step for one in applied]})
    save_module(folder, with_kept(plan, coupling, removal), model, about, force)
    return model


def save_module(folder: Path, plan: Plan, model: nn.Module, about: Mapping[str, Any], force: bool = False) -> Path:
    """Write a cut module, completely or not at all.

    Raises:
        OutputError: the folder exists or cannot be written, or the module's state has something other than tensors.
    """
    from safetensors.torch import save

    check_folder(folder, force)
    tensors, tied = separate(model)
    contents = {
        PLAN: dump_yaml(plan).encode(),
        WEIGHTS: save(tensors, {"format": "pt"}),
        ABOUT: (json.dumps({**about, "tied": tied}, indent=2) + "\n").encode(),
    }
    fresh = folder.with_name(f".writing-{secrets.token_hex(8)}")
    try:
        with removed_at_next_start(fresh):
            fresh.mkdir()
            for name, content in contents.items():
                write_durably(fresh / name, content)
            sync_folder(fresh)
            if folder.exists():
                old = folder.with_name(f".replaced-{secrets.token_hex(8)}")
                with removed_at_next_start(old):
                    folder.replace(old)
                    fresh.replace(folder)
                    shutil.rmtree(old, ignore_errors=True)
            else:
                fresh.replace(folder)
        sync_folder(folder.parent)
    except OSError as error:
        shutil.rmtree(fresh, ignore_errors=True)
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}") from None
    return folder


def check_folder(folder: Path, force: bool) -> None:
    """Refuse a path where no folder can be made, or where a folder has other content.

    Raises:
        OutputError: it is such a path.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder} is a file: a module is saved as a folder, choose another name")
    if folder.exists() and not {entry.name for entry in folder.iterdir()} <= FILES:
        raise OutputError(f"{folder} holds other files: choose another name")
    if folder.exists() and not force:
        raise OutputError(f"{folder} exists already: choose another name or give --force")
    if not folder.parent.is_dir():
        raise OutputError(f"{folder} cannot be written: no folder {folder.parent}, create it first")
    if not os.access(folder.parent, os.W_OK):
        raise OutputError(f"{folder} cannot be written: no permission, choose another folder")


def separate(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a module's state in memory of their own, and further names of shared tensors, each with the first name.

    Raises:
        OutputError: something other than tensors is in its state.
    """
    first = {name: names[0] for names in owners_of_tensors(model).values() for name in names}
    tensors: dict[str, Tensor] = {}
    tied: dict[str, str] = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise OutputError(f"{name} in the module's state is a {type(value).__name__}: only tensors can be saved without pickle")
        if first.get(name, name) != name:
            tied[name] = first[name]
        else:
            tensors[name] = value.detach().to("cpu", copy=True).contiguous()
    return tensors, tied


def load_module(folder: str | Path, module: nn.Module) -> nn.Module:
    """A freshly built module, cut by the plan in a folder and with the weights in it; the given module stays as it is.

    What was cut further from an earlier folder is cut by the plan of that one first, if it is beside this one.

    Raises:
        CheckpointError: the folder is missing, or its files are damaged or do not belong together.
        PlanError: the module is not built like the one that was cut.
    """
    from safetensors.torch import load

    path = Path(folder)
    pruned = cut_as_in(path, module)
    try:
        tensors = load((path / WEIGHTS).read_bytes())
    except Exception as error:
        raise CheckpointError(f"{path / WEIGHTS} cannot be read ({' '.join(str(error).split())[:120]}): save it again") from None
    fill(pruned, tensors, str(path / WEIGHTS))
    for name, tensor in named_tensors(pruned):
        if tensor.is_meta:
            raise CheckpointError(
                f"{name} is in no state, so {path} has no values for it: build the module elsewhere than on the meta device"
            )
    return pruned


LONGEST_CHAIN = 32
"""Folders that were cut from each other."""


def cut_as_in(folder: Path, module: nn.Module, most: int = LONGEST_CHAIN) -> nn.Module:
    """A freshly built module, cut by the plan in a folder, after those of the folders that it came from.

    Raises:
        CheckpointError: the folder is missing.
        PlanError: the module is not built like the one that was cut, and the folder that it was cut from is not there.
    """
    demand_saved(folder)
    plan, origin = read_plan(folder / PLAN), about_of(folder).get(ORIGIN)
    if not isinstance(origin, str) or digest_of(structure_of(module)) == plan.sha256:
        return cut_by_plan(module, plan)
    before = folder.with_name(origin)
    if most <= 0 or not before.is_dir():
        raise PlanError(f"{folder} was cut from what {origin} has, which is not beside it: load that folder first, and this one into it")
    return cut_by_plan(cut_as_in(before, module, most - 1), plan)


def about_of(folder: Path) -> dict[str, Any]:
    """What a folder's file about its origin says; empty where it is missing or damaged, as only the plan and the weights are needed."""
    try:
        about = json.loads((folder / ABOUT).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return about if isinstance(about, dict) else {}


def demand_saved(folder: Path) -> None:
    """Refuse a folder that holds no saved module.

    Raises:
        CheckpointError: the folder, its plan or its weights are missing.
    """
    missing = [name for name in (WEIGHTS, PLAN) if not (folder / name).is_file()]
    if missing:
        what = f"{folder} has no {missing[0]}" if folder.is_dir() else f"{folder} is not a folder"
        raise CheckpointError(f"{what}: give the folder that a session saved")


def fill(model: nn.Module, tensors: Mapping[str, Tensor], where: str) -> None:
    """Load all tensors into a model.

    Raises:
        CheckpointError: a tensor is missing, is not in the model, or has another shape or type there.
    """
    owners = {name: names for names in owners_of_tensors(model).values() for name in names}
    wanted: dict[str, Any] = dict(model.state_dict())
    given = {other: tensors[name] for name in tensors for other in owners.get(name, (name,)) if other in wanted or other == name}
    for name in sorted(given.keys() ^ wanted.keys()):
        raise CheckpointError(
            f"{where} {'has' if name in given else 'lacks'} {name}, which the module {'lacks' if name in given else 'has'}"
        )
    for name, tensor in given.items():
        there = wanted[name]
        if tensor.shape != there.shape or tensor.dtype != there.dtype:
            said, other = (f"{list(one.shape)} of {str(one.dtype).removeprefix('torch.')}" for one in (tensor, there))
            raise CheckpointError(f"{where} has {name} as {said}, the module as {other}: they do not belong together")
    empty = any(tensor.is_meta for tensor in wanted.values())
    model.load_state_dict(given, strict=True, assign=empty)
    for names in {names for names in owners.values() if empty and len(names) > 1}:
        for name in names[1:]:
            put_tensor(model, name, tensor_at(model, names[0]))
    for part in model.modules():
        compute_weights(part)


def cut_by_plan(module: nn.Module, plan: Plan) -> nn.Module:
    """A copy of a module in evaluation mode, cut by a plan with the positions that every parameter and buffer keeps.

    Raises:
        PlanError: the plan is for a module of another structure, or lacks the positions.
    """
    check_structure(module, plan)
    cuts = [cut for step in plan.steps for cut in step.cuts]
    if cuts and not plan.kept and not any(cut.drops for cut in cuts):
        raise PlanError("the plan does not say what each parameter keeps: save it from a session, or give example_inputs to find that out")
    dropped = outermost([path for cut in cuts for path in cut.drops])
    kept = {name: dict(checked_positions(module, name, dims)) for name, dims in plan.kept.items()}
    pruned = free_widths(narrowed_to(module, kept, dropped))
    rewrite_attributes(pruned, lambda layer: outputs_kept(pruned, layer, kept))
    put_widths(pruned, plan.widths)
    own = independent(pruned)
    scale_rows(own, checked_factors(own, plan))
    return restore_classes(own)


def check_structure(module: nn.Module, plan: Plan) -> None:
    """Refuse a module that is not built like the one that a plan was made for.

    Raises:
        PlanError: it is not.
    """
    if not isinstance(module, nn.Module):
        raise CheckpointError(f"a {type(module).__name__} is not a torch.nn.Module: give one that is built as the one that was cut")
    demand_structure(plan, name_of(module), digest_of(structure_of(module)))


def demand_structure(plan: Plan, name: str, digest: str) -> None:
    """Refuse a plan for a module of another structure than that with this digest.

    Raises:
        PlanError: it is.
    """
    if digest != plan.sha256:
        raise PlanError(
            f"the plan was made for {plan.checkpoint} (structure {plan.sha256[:12]}), not for this {name} ({digest[:12]}): "
            "names, shapes and types of parameters and buffers must be the same, so build the module with the same arguments"
        )


def checked_positions(module: nn.Module, name: str, dims: Mapping[int, str]) -> Iterator[tuple[int, Indices]]:
    """What a plan keeps of one parameter or buffer, by dimension.

    Raises:
        PlanError: the tensor, dimension or position does not exist.
    """
    known = dict(named_tensors(module))
    if name not in known:
        raise PlanError(f"the plan cuts {name}, which this module does not have")
    for dim, text in dims.items():
        positions = positions_at(f"kept.{name}.{dim}", text)
        if not 0 <= dim < known[name].ndim or positions[-1] >= known[name].shape[dim]:
            raise PlanError(
                f"the plan keeps position {positions[-1]} at dimension {dim} of {name}, whose shape is {list(known[name].shape)}"
            )
        yield dim, positions


def checked_factors(module: nn.Module, plan: Plan) -> Iterator[tuple[str, Indices, float]]:
    """What a plan multiplies rows of a cut module's parameters by.

    Raises:
        PlanError: a parameter or row does not exist.
    """
    known = dict(named_tensors(module))
    for name, factors in plan.scaled.items():
        if name not in known:
            raise PlanError(f"the plan scales {name}, which this module does not have")
        for text, factor in factors.items():
            rows = positions_at(f"scaled.{name}", text)
            if rows[-1] >= len(known[name]):
                raise PlanError(f"the plan scales row {rows[-1]} of {name}, which has {len(known[name])} after the cuts")
            yield name, rows, factor


def outputs_kept(model: nn.Module, layer: str, kept: Mapping[str, Mapping[int, Indices]]) -> list[int] | None:
    """The original output indices that a layer keeps; None where it keeps all."""
    transposed = getattr(model.get_submodule(layer), "transposed", False)
    found = kept.get(f"{layer}.weight", {}).get(1 if transposed else 0)
    return None if found is None else np.asarray(found).tolist()


def demand_unfitted(folder: Path) -> None:
    """Refuse to prove a folder that holds no saved module, or one whose weights were refitted after the cut.

    Raises:
        PlanError: it does.
        CheckpointError: its files are missing.
    """
    demand_saved(folder)
    refit = about_of(folder).get("refit")
    if refit not in (None, UNCHANGED):
        raise PlanError(f"{folder} was refitted after the cut ({refit}), so no twin has its weights: its {ABOUT} has the proof of the cut")


@contextmanager
def origin_named(folder: Path) -> Iterator[None]:
    """Around what needs the module that a folder was cut from: where another module is given, say where that is.

    Raises:
        PlanError: the plan in the folder is for another module.
    """
    try:
        yield
    except PlanError as error:
        origin = about_of(folder).get(ORIGIN)
        if not isinstance(origin, str):
            raise
        place = os.path.relpath(folder.with_name(origin))
        raise PlanError(f"{folder.name} was cut from what {origin} has: start from that (--weights {place})") from error


def same_state(left: nn.Module, right: nn.Module) -> bool:
    """Whether two modules have the same tensors under the same names, number by number."""
    mine, other = left.state_dict(), right.state_dict()
    return mine.keys() == other.keys() and all(torch.equal(mine[name].cpu(), other[name].cpu()) for name in mine)
