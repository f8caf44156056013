"""What is wrong with a command's words, said before the libraries are imported, which takes seconds: paths, plans, data and cuts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from tui_pruner.domain.errors import RequestError
from tui_pruner.storage.model_file import require_model
from tui_pruner.storage.yaml import located, read_data_yaml, read_plan_file

MODELS = ("model", "models", "pruned", "original", "against", "teacher")
"""What options and arguments are called that name models."""
QUICKLY_READ = 1 << 18
"""Bytes of YAML that are parsed twice without anybody noticing; a longer file is parsed only where it is used."""


def look_first(options: Mapping[str, Any]) -> None:
    """Refuse what needs no library to be refused.

    Raises:
        PrunerError: a model that is not there, a plan or data yaml that cannot be read, or a cut that is none.
    """
    for name in MODELS:
        for model in listed(options.get(name)):
            require_model(str(model))
    for plan in listed(options.get("plan")):
        if not is_long(Path(plan)):
            read_plan_file(plan)
    if options.get("cut"):
        from tui_pruner.domain.cuts import parse_request

        for cut in options["cut"]:
            parse_request(cut)
    for data in listed(options.get("data")):
        file = located(data)
        may_be_its_own = not file.suffix and not file.is_absolute() and not file.exists()  # where, only Ultralytics knows
        if not file.is_dir() and not may_be_its_own and not is_long(file):
            read_data_yaml(file)


def listed(value: Any) -> Iterable[Any]:
    """Return one value or several as several."""
    return () if value is None else value if isinstance(value, (list, tuple)) else (value,)


def is_long(file: Path) -> bool:
    """Whether a file is there and takes long to parse."""
    try:
        return file.stat().st_size > QUICKLY_READ
    except (OSError, ValueError):
        return False


def demand_no_misspelt_command(word: str, commands: Iterable[str]) -> None:
    """Refuse a word that is not a file and looks like a command; without a command, a word is a model to open.

    Raises:
        RequestError: it does, and the message has the nearest ones.
    """
    if Path(word).suffix or "/" in word or word.startswith("-") or Path(word).exists():
        return
    near = get_close_matches(word, list(commands), n=1, cutoff=0.6)
    if near:
        raise RequestError(f"no command {word!r}, and no such file: did you mean {near[0]}?")
