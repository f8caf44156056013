"""The user's settings: a YAML file at `paths.config_file()`; each key is checked alone; invalid keys are reported and ignored."""

from __future__ import annotations

import dataclasses
import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

from tui_pruner.storage import paths

if TYPE_CHECKING:
    from yaml import Node

Theme = Literal["dark", "light", "high-contrast", "ansi"]
Pictures = Literal["auto", "blocks", "never"]
SWITCHES = {"theme": "TUI_PRUNER_THEME", "pictures": "TUI_PRUNER_PICTURES", "ascii": "TUI_PRUNER_ASCII", "calm": "TUI_PRUNER_CALM"}
LARGEST_FILE = 1 << 20
LONGEST_KEY = 60
OFF = frozenset({"", "0", "no", "off", "false"})


@dataclass(frozen=True)
class Settings:
    """The user's settings; `pictures`: how images of detections are drawn; by default as the terminal can, over SSH only on request.

    `keymap` gives actions other keys, by the ids that `tui-pruner keys` lists: a text, or a list of texts.
    """

    theme: Theme | None = None
    ascii: bool = False
    calm: bool = False
    imgsz: int | None = None
    images: int | None = 64
    validate_every_step: bool = True
    keymap: Mapping[str, Any] = field(default_factory=dict)
    pictures: Pictures | None = None


@dataclass(frozen=True)
class Config:
    """The settings, and the problems of their file, a line each."""

    settings: Settings = Settings()
    problems: tuple[str, ...] = ()


def read_config(path: Path | None = None) -> Config:
    """Read the settings from a file, by default the user's; without a file, the defaults."""
    path = path or paths.config_file()
    try:
        if path.stat().st_size > LARGEST_FILE:
            return Config(problems=(f"{path} is too large for settings: the defaults are used",))
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as error:
        return Config(problems=(f"{path} cannot be read ({_reason(error)}): the defaults are used",))
    return parse_config(text, path.name)


def parse_config(text: str, name: str) -> Config:
    """Parse settings from YAML; `name` is for messages."""
    from yaml import YAMLError

    from tui_pruner.storage.yaml import parse_yaml, place_of, problem_of

    try:
        root, content = parse_yaml(text)
    except YAMLError as error:
        return Config(problems=(f"{name}{place_of(error)}: {problem_of(error)}: the defaults are used",))
    if content is None:
        return Config()
    if not isinstance(content, dict):
        return Config(problems=(f"{name} line 1: expected `key: value` lines: the defaults are used",))
    return _checked(content, _lines(root), name)


def use_as_environment(settings: Settings, **flags: str | bool | None) -> None:
    """Pass the look to the interface, which chooses its signs when it is imported: from a flag, else the variable, else the file."""
    for key, variable in SWITCHES.items():
        if flag := flags.get(key):
            os.environ[variable] = flag if isinstance(flag, str) else "1"
        elif value := getattr(settings, key):
            os.environ.setdefault(variable, value if isinstance(value, str) else "1")


def is_on(variable: str) -> bool:
    """Whether an environment variable enables something."""
    return os.environ.get(variable, "").strip().lower() not in OFF


def _checked(content: dict[Any, Any], lines: Mapping[Any, int], name: str) -> Config:
    from pydantic import TypeAdapter, ValidationError

    types = get_type_hints(Settings, {**globals(), "Mapping": dict})
    good: dict[str, Any] = {}
    problems = []
    for key, value in content.items():
        where = f"{name} line {lines.get(key, 1)}"
        if key not in types:
            shown = str(key)[:LONGEST_KEY]
            near = difflib.get_close_matches(shown, types, n=1)
            problems.append(f"{where}: no setting {shown!r}{f', did you mean {near[0]}?' if near else ''}")
            continue
        try:
            good[key] = TypeAdapter(types[key]).validate_python(value)
            _demand_positive(key, good[key])
        except (ValidationError, ValueError) as error:
            good.pop(key, None)
            problems.append(f"{where}: {key}: {_first_message(error)}: the default is used")
    return Config(dataclasses.replace(Settings(), **good), tuple(problems))


def _demand_positive(key: str, value: object) -> None:
    if isinstance(value, int) and not isinstance(value, bool) and value < 1:
        raise ValueError(f"{value} is less than 1")


def _first_message(error: Exception) -> str:
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part != "int")
    return f"{place}: {first['msg']}".removeprefix(": ").replace("Input", "it")


def _lines(root: Node | None) -> dict[Any, int]:
    pairs = root.value if root is not None else []
    return {key.value: key.start_mark.line + 1 for key, _ in pairs}


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)
