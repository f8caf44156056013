"""Check a command line before a library is imported, which takes seconds: models, plans, data, cuts, targets, and places to write to."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tui_pruner.domain.errors import DataError, OutputError, PlanError, RequestError
from tui_pruner.storage.model_file import require_model

MODELS = ("model", "models", "pruned", "original", "against", "teacher")
"""Options and arguments that name models."""
READ = (*MODELS, "data", "recovered", "weights")
WRITTEN = ("output", "save_plan", "junit", "markdown", "write_recipe")
"""What options are called that name files which stay as they are, and files which are written."""
WORDS = dict.fromkeys(("model", "pruned"), "the model that is being pruned")
QUICKLY_READ = 1 << 18
"""Bytes of YAML that parse fast enough to do it twice; a longer file is parsed only where it is used."""


LABELLED = ("validate", "gate", "scan", "finetune")
"""Commands that need a data set, and read its validation images."""
UNLABELLED = ("reconstruct", "recalibrate")
"""Commands that need a data set for its training images."""
CHECKPOINTS = ("prune", "recalibrate", "reconstruct", "finetune")
"""Commands whose output is a .pt."""
REPORTS = (".html", ".htm", ".md", ".markdown")
"""As in `report/sections.py`, which need not be imported for it; a test compares the two."""


def check_without_libraries(options: Mapping[str, Any], command: str = "") -> None:
    """Refuse what can be refused without importing a library.

    Raises:
        PrunerError: a model that does not exist, a plan or data yaml that cannot be read, no data where it is needed, a malformed cut or
            target, an unknown criterion, or an output that is an input or cannot be written.
    """
    from tui_pruner.storage.yaml import read_plan_file

    for name in MODELS:
        for model in listed(options.get(name)):
            require_model(str(model))
    for plan in listed(options.get("plan")):
        if not is_long(Path(plan)):
            content = read_plan_file(plan)
            if isinstance(content, dict) and (lacking := [key for key in ("checkpoint", "sha256") if key not in content]):
                raise PlanError(f"{plan}: {lacking[0]}: field required")
    if options.get("steps") is not None and not options.get("plan"):
        raise RequestError("--steps selects the first steps of a plan: give --plan FILE too")
    look_at_requests(options)
    for data in listed(options.get("data")):
        look_at_data(data, command)
    if command in (*LABELLED, *UNLABELLED) and options.get("data") is None:
        raise DataError("which data set? give --data DATA.yaml, the yaml that the model was trained with")
    demand_other_outputs(options)
    if command != "compress" and not options.get("front"):
        demand_places(options, command)


def check_module_options(options: Mapping[str, Any]) -> None:
    """Refuse what can be refused on any module without importing a library.

    Raises:
        PrunerError: a plan that cannot be read, a malformed cut or target, an unknown criterion, or an output that is an input.
    """
    from tui_pruner.storage.yaml import read_plan_file

    for plan in listed(options.get("plan")):
        if not Path(plan).is_dir() and not is_long(Path(plan)):  # a folder that was written has a plan
            read_plan_file(plan)
    look_at_requests(options)
    demand_other_outputs(options)


def look_at_requests(options: Mapping[str, Any]) -> None:
    """Refuse cuts and targets that cannot be read, and criteria that do not exist.

    Raises:
        RequestError: it is such an option.
    """
    from tui_pruner.domain.criteria import demand_criterion
    from tui_pruner.domain.cuts import parse_request, read_target

    for cut in listed(options.get("cut")):
        parse_request(cut)
    if options.get("criterion"):
        demand_criterion(options["criterion"])
    for target in listed(options.get("target")):
        read_target(target)


def look_at_data(data: Path, command: str) -> None:
    """Refuse a data set that cannot be read, or lacks the images that a command reads.

    Raises:
        DataError: it is such a data set.
    """
    from tui_pruner.jobs.data.dataset import TRAINING, VALIDATION, sources_of
    from tui_pruner.storage.yaml import located, read_data_yaml, yaml_in

    file = located(data)
    may_be_its_own = not file.suffix and not file.is_absolute() and not file.exists()  # only Ultralytics knows where
    if file.is_dir():
        if any((file / name).is_dir() for split in (TRAINING, VALIDATION) for name in split.folders):
            return
        file = yaml_in(file)
    if may_be_its_own or is_long(file):
        return
    found = read_data_yaml(file)
    if command in UNLABELLED:
        with contextlib.suppress(DataError):
            sources_of(found, TRAINING)
            return
    if command in (*LABELLED, *UNLABELLED):
        sources_of(found, VALIDATION)


def demand_places(options: Mapping[str, Any], command: str) -> None:
    """Refuse to write where no file can be, or without --force over a file.

    Raises:
        OutputError: a command line asks for that.
    """
    for name in WRITTEN:
        for given in listed(options.get(name)):
            place = Path(given).expanduser()
            try:
                there, is_file, has_folder = place.exists(), place.is_file(), place.parent.is_dir()
            except OSError:  # of too long a name, for instance, which is said where it is written
                continue
            if name == "output" and (is_file or not there):
                demand_suffix(place if command == "report" else place.resolve(), command)  # a model replaces what a link leads to
            if not there and not has_folder:
                raise OutputError(f"{given} cannot be written: no folder {place.parent}, create it first")
            if is_file and options.get("force") is False and name not in ("junit", "markdown"):
                raise OutputError(f"{given} exists already: choose another name or give --force")


def demand_suffix(place: Path, command: str) -> None:
    """Refuse a name that does not end as what the command writes.

    Raises:
        OutputError: it is such a name.
    """
    if command in CHECKPOINTS and place.suffix != ".pt":
        raise OutputError(f"{place} does not end in .pt: Ultralytics would not load it, so choose a name that does")
    if command == "report" and place.suffix.lower() not in REPORTS:
        raise OutputError(f"{place} is not a report: its name must end in {' or '.join(REPORTS)}")


def demand_other_outputs(options: Mapping[str, Any]) -> None:
    """Refuse to write where something is read, or two things to one file, also by another name: `--force` is for files of before.

    Raises:
        OutputError: a command line asks for that.
    """
    outputs = [(name, Path(given).expanduser()) for name in WRITTEN for given in listed(options.get(name))]
    inputs = [(name, Path(given).expanduser()) for name in READ for given in listed(options.get(name))]
    for number, (name, output) in enumerate(outputs):
        for other, there in inputs:
            if same_file(output, there):
                what = WORDS.get(other, f"the {other} of this command") if other in MODELS else "what this command reads"
                raise OutputError(f"{output} is {what}: choose another name, the original stays as it is")
        for other, there in outputs[:number]:
            if same_file(output, there):
                raise OutputError(f"{output} is to be both {option(other)} and {option(name)}: choose two names")


def same_file(one: Path, other: Path) -> bool:
    """Whether two names lead to one file, by links too; names of what is not there yet are compared."""
    try:
        return one.samefile(other)
    except (OSError, ValueError):
        return os.path.realpath(one) == os.path.realpath(other)


def option(name: str) -> str:
    """Return how an option is written."""
    return f"--{name.replace('_', '-')}"


def listed(value: Any) -> Iterable[Any]:
    """Return a list, of one value too."""
    return () if value is None else value if isinstance(value, (list, tuple)) else (value,)


def is_long(file: Path) -> bool:
    """Whether a file exists and takes long to parse."""
    try:
        return file.stat().st_size > QUICKLY_READ
    except (OSError, ValueError):
        return False


def demand_no_misspelt_command(word: str, commands: Iterable[str]) -> None:
    """Refuse a word that is not a file and looks like a command; without a command, a word is a model to open.

    Raises:
        RequestError: it does; the message has the nearest commands.
    """
    if Path(word).suffix or "/" in word or word.startswith("-") or Path(word).exists():
        return
    near = get_close_matches(word, list(commands), n=1, cutoff=0.6)
    if near:
        raise RequestError(f"no command {word!r}, and no such file: did you mean {near[0]}?")
