"""YAML as people write it, for the two kinds that are read here: plans and descriptions of data sets.

Text, numbers, lists and mappings. Errors name the line. A data yaml is found, read and checked as Ultralytics does it.
"""

from __future__ import annotations

import importlib.util
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import Node

from tui_pruner.domain.errors import DataError, PlanError, PrunerError
from tui_pruner.domain.formatting import BYTES, printable

MOST_VALUES = 1_000_000
DEEPEST = 60
LONGEST_PROBLEM = 200
BYTE = re.compile(r"(?<!\\)(?P<before>(?:\\\\)*)(?P<escape>\\u[dD][cC][89a-fA-F][0-9a-fA-F])|[\udc80-\udcff]")
"""A byte that is not UTF-8: an escape of YAML, or a lone surrogate."""
FIRST_STAND_IN = 0x10F000
"""Replaces such a byte while libyaml parses, which refuses both: the end of a plane for private use."""


def parse_yaml(text: str) -> tuple[Node | None, Any]:
    """The nodes of a YAML text, which know their lines, and its content; None and None where it is empty.

    In the content, a byte that is not UTF-8 is a lone surrogate, as in any path.

    Raises:
        yaml.YAMLError: not YAML, or not plain; the message has the line where it is known.
    """
    text, stand_ins = _readable(text)
    _demand_shallow(text)
    loader = _Loader(text)
    loader.stand_ins = stand_ins
    try:
        root = loader.get_single_node()
        if root is None:
            return None, None
        _count(root, {}, set())
        return root, loader.construct_document(root)
    finally:
        loader.dispose()


def place_of(error: yaml.YAMLError) -> str:
    """The position of an error, as " line 3"; empty where it is not known."""
    mark = getattr(error, "problem_mark", None)
    return f" line {mark.line + 1}" if mark else ""


def problem_of(error: yaml.YAMLError) -> str:
    """The message of an error, in one line."""
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error) or "malformed"
    return printable(" ".join(str(problem).split())[:LONGEST_PROBLEM])


_Fastest: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Ten times as fast where PyYAML was built with libyaml: a plan of a megabyte takes the other ten seconds."""


class _Loader(_Fastest):  # type: ignore[misc]
    """Reports the position also of values that Python cannot convert: the 99th of January, an `!!int` of letters."""

    stand_ins: Mapping[str, str]

    def construct_scalar(self, node: Any) -> Any:
        text = super().construct_scalar(node)
        if self.stand_ins and isinstance(text, str):
            for sign, meant in self.stand_ins.items():
                text = text.replace(sign, _byte(meant) if node.style == '"' else meant)
        return text

    def construct_object(self, node: Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep=deep)
        except (ValueError, AttributeError, TypeError, KeyError, OverflowError) as error:
            kind = node.tag.rpartition(":")[2]
            reason = str(error) if isinstance(error, ValueError) else type(error).__name__
            raise ConstructorError(None, None, f"this is not a {kind} ({reason[:80]})", node.start_mark) from None


def _readable(text: str) -> tuple[str, dict[str, str]]:
    """A text that libyaml parses, and what each replaced character stands for."""
    if "\\u" not in text and (text.isascii() or not BYTES.search(text)):
        return text, {}
    written = dict.fromkeys(found["escape"] or found[0] for found in BYTE.finditer(text))
    free = (sign for sign in map(chr, itertools.count(FIRST_STAND_IN)) if sign not in text)
    stand_ins = dict(zip(written, free, strict=False))
    readable = BYTE.sub(lambda found: (found["before"] or "") + stand_ins[found["escape"] or found[0]], text)
    return readable, {sign: meant for meant, sign in stand_ins.items()}


def _byte(written: str) -> str:
    """The lone surrogate of an escape."""
    return written if len(written) == 1 else chr(int(written[2:], 16))


def _demand_shallow(text: str) -> None:
    """Refuse deep nesting before a parser descends into it: libyaml's would end the process."""
    depth = 0
    for event in yaml.parse(text, Loader=_Fastest):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > DEEPEST:
            mark: Any = event.start_mark
            raise ConstructorError(None, None, "nested too deeply", mark)


def _count(node: Node, known: dict[int, int], around: set[int]) -> int:
    """How many values a node has with every alias expanded: a few lines can stand for billions."""
    if id(node) in around:
        raise ConstructorError(None, None, "an alias (*) stands for what it is part of", node.start_mark)
    if id(node) not in known:
        around.add(id(node))
        parts = node.value if isinstance(node.value, list) else []
        known[id(node)] = 1 + sum(_count(one, known, around) for part in parts for one in (part if isinstance(part, tuple) else (part,)))
        around.discard(id(node))
    if known[id(node)] > MOST_VALUES:
        raise ConstructorError(None, None, "its aliases (*) stand for more values than anybody needs", node.start_mark)
    return known[id(node)]


LARGEST_FILE = 16 << 20


def read_plan_file(path: str | Path) -> Any:
    """The content of a plan's YAML file.

    Raises:
        PlanError: missing, too large, or not YAML.
    """
    return read_document(Path(path), "plan", PlanError)[1]


def read_document(file: Path, what: str, fault: type[PrunerError]) -> tuple[Node | None, Any]:
    """The nodes of a YAML file of ours, which know their lines, and its content; `what` it is, for messages.

    Raises:
        PrunerError: of the class `fault`: missing, too large, or not YAML.
    """
    try:
        if file.stat().st_size > LARGEST_FILE:
            raise fault(f"{file} is too large for a {what} ({file.stat().st_size >> 20} MB)")
        text = file.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise fault(f"cannot read the {what} {file}: {getattr(error, 'strerror', None) or 'not a text file'}") from None
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        where = place_of(error)
        raise fault(f"{file} is not YAML{' in' if where else ''}{where}: {problem_of(error)}") from None


SUFFIXES = (".yaml", ".yml")
PATHS = {"path", "train", "val", "validation", "test"}
MOST_CLASSES = 1 << 16
UNWANTED = re.compile("[^\x09\x0a\x0d\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+")
"""What Ultralytics removes from a yaml that does not parse, before it tries again: control characters."""
UTF_16 = (b"\xff\xfe", b"\xfe\xff")
ELSEWHERE = re.compile(r"^(\w[\w+.-]+:/|.*\.(ndjson|zip|tar|gz|tgz|xz|bz2|txz|tbz2)$)", re.IGNORECASE)
"""URLs, archives and lists of URLs, which Ultralytics downloads or unpacks."""
PASSED_ON = {"kpt_shape": list, "flip_idx": list, "kpt_oks_sigmas": list, "kpt_names": (list, dict), "channels": int}
"""The other keys that Ultralytics' validators and trainers read, with their types."""


@dataclass(frozen=True)
class DataYaml:
    """The content of a data yaml; `doubt` is a remark on unreadable bytes in it, which is appended to errors about its content."""

    path: Path
    content: Mapping[str, Any]
    doubt: str = ""

    def error(self, problem: str) -> DataError:
        """An error about the content."""
        return DataError(f"{self.path}{problem}{self.doubt}")


def located(given: str | Path) -> Path:
    """Return the file or folder that Ultralytics takes for a data set's name: an existing one, or else one of its own data sets.

    A name that is not found is returned as it was given.
    """
    path = Path(given).expanduser()
    if path.exists() or path.is_absolute():
        return path
    names = [path] if path.suffix in SUFFIXES else [Path(f"{path}{suffix}") for suffix in SUFFIXES]
    own = next((own for name in names for own in _own_data_sets() if own.parts[-len(name.parts) :] == name.parts), None)
    return own or path


def everywhere(given: str | Path) -> str:
    """Return a data set's name that means the same in any working directory."""
    path = located(given)
    return str(path.absolute() if path.exists() else given)


def yaml_in(folder: Path) -> Path:
    """Return the data yaml of a data set's folder: the only one in it, or of several the one with the folder's name.

    Raises:
        DataError: none, or several.
    """
    found = next((files for suffix in SUFFIXES for place in ("*", "**/*") if (files := _named(folder, f"{place}{suffix}"))), [])
    files = found if len(found) < 2 else [file for file in found if file.stem == folder.resolve().stem]
    if len(files) != 1:
        has = f"{len(found)} data yamls" if found else "no data yaml"
        raise DataError(f"{folder} is a folder with {has} in it: give the data yaml itself")
    return files[0]


def read_data_yaml(path: Path) -> DataYaml:
    """Read a data yaml as Ultralytics does: bytes that are not UTF-8 are removed, and control characters where it needs that.

    Only paths keep such bytes, since a folder may have such a name.

    Raises:
        DataError: it is missing, too large, or not YAML with keys.
    """
    if ELSEWHERE.match(str(path)):
        raise DataError(
            f"{path} is not a data yaml: nothing is downloaded or unpacked here, give the data yaml of what Ultralytics makes of it"
        )
    try:
        with path.open("rb") as stream:
            raw = stream.read(LARGEST_FILE + 1)
    except FileNotFoundError:
        raise DataError(f"no data yaml {path}, and Ultralytics has no data set of that name: check the path") from None
    except OSError as error:
        raise DataError(f"the data yaml {path} cannot be read: {error.strerror}") from error
    if len(raw) > LARGEST_FILE:
        raise DataError(f"{path} is too large for a data yaml (more than {LARGEST_FILE >> 20} MB)")
    doubt = _doubt(raw)
    content = _parsed(path, raw.decode("utf-8", errors="ignore" if raw.startswith(UTF_16) else "surrogateescape"), doubt)
    if not isinstance(content, dict):
        raise DataError(f"{path} is not a data yaml: expected keys such as val and names{doubt}")
    read = {_without_bytes(key): value if key in PATHS else _without_bytes(value) for key, value in content.items()}
    return DataYaml(path, {key: None if value == "None" else value for key, value in read.items()}, doubt)


def names_of(data: DataYaml) -> tuple[str, ...]:
    """Return the class names by number.

    Raises:
        DataError: there are none, they are not numbered from 0, or their number is not `nc`.
    """
    names, count = data.content.get("names"), data.content.get("nc")
    if names is None and count is None:
        raise data.error(" has neither names nor nc: say which classes the labels mean")
    if names is None:
        return tuple(f"class_{number}" for number in range(_whole(data, count)))
    if not isinstance(names, (list, dict)):
        raise data.error(f": names must be a list or a mapping from number to name, not {type(names).__name__}")
    if not names:
        raise data.error(": names is empty: say which classes the labels mean")
    if count is not None and _whole(data, count) != len(names):
        raise data.error(f" has {len(names)} names but nc: {count}: they must agree")
    numbered = _numbered(data, names)
    if set(numbered) != set(range(len(numbered))):
        raise data.error(f": names must be numbered 0 to {len(numbered) - 1}")
    return tuple(numbered[number] for number in range(len(numbered)))


def settings_of(data: DataYaml) -> dict[str, Any]:
    """Return the keys that Ultralytics reads beside paths and classes.

    Raises:
        DataError: one has the wrong type, or keypoints are not described by two numbers.
    """
    settings = {key: data.content[key] for key in PASSED_ON if data.content.get(key) is not None}
    for key, value in settings.items():
        if not isinstance(value, PASSED_ON[key]) or isinstance(value, bool):  # type: ignore[arg-type]
            raise data.error(f": {key} is of the wrong type ({type(value).__name__})")
    shape, sigmas = settings.get("kpt_shape"), settings.get("kpt_oks_sigmas")
    if shape is not None and not (len(shape) == 2 and all(type(number) is int for number in shape) and shape[0] > 0 and shape[1] in (2, 3)):
        raise data.error(f": kpt_shape must be [number of keypoints, 2 or 3], not {shape}")
    if shape and sigmas and not (len(sigmas) == shape[0] and all(isinstance(one, (int, float)) and one > 0 for one in sigmas)):
        raise data.error(f": kpt_oks_sigmas must be {shape[0]} positive numbers")
    return settings


def _parsed(path: Path, text: str, doubt: str) -> Any:
    said = "it does not parse as YAML"
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    for tried in (text, BYTES.sub("", text), UNWANTED.sub("", text)):
        try:
            return parse_yaml(tried)[1]
        except yaml.YAMLError as error:
            said = f"{place_of(error).strip()}: {problem_of(error)}".removeprefix(": ")
        except (ValueError, RecursionError):
            continue
    raise DataError(f"{path} is not a data yaml: {said}{doubt}")


def _without_bytes(value: Any) -> Any:
    """A value without the bytes that are not UTF-8."""
    if isinstance(value, str):
        return BYTES.sub("", value)
    if isinstance(value, dict):
        return {_without_bytes(key): _without_bytes(one) for key, one in value.items()}
    return [_without_bytes(one) for one in value] if isinstance(value, list) else value


def _doubt(raw: bytes) -> str:
    """A remark on the encoding for errors; empty where all is UTF-8."""
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as error:
        if raw.startswith(UTF_16):
            return " (it is UTF-16, of which only ASCII is read: save it as UTF-8)"
        return f" (line {raw[: error.start].count(10) + 1} has bytes that are not UTF-8, which are left out: save it as UTF-8)"
    return ""


def _numbered(data: DataYaml, names: list[Any] | dict[Any, Any]) -> dict[int, str]:
    try:
        return {int(key): str(name) for key, name in (names.items() if isinstance(names, dict) else enumerate(names))}
    except (TypeError, ValueError, OverflowError):
        raise data.error(": names must be a list or a mapping from number to name; a key is not a number") from None


def _whole(data: DataYaml, count: Any) -> int:
    try:
        number = float(count)
        if number == int(number) and 0 < number <= MOST_CLASSES:
            return int(number)
    except (TypeError, ValueError, OverflowError):
        pass
    raise data.error(f": nc must be a whole number, not {count!r}")


def _own_data_sets() -> list[Path]:
    """The data yamls that come with Ultralytics, which is not imported for it."""
    spec = importlib.util.find_spec("ultralytics")
    roots = spec.submodule_search_locations if spec else None
    return sorted(file for root in roots or () for file in Path(root, "cfg", "datasets").rglob("*") if file.suffix in SUFFIXES)


def _named(folder: Path, pattern: str) -> list[Path]:
    """The files below a folder that match a pattern and are not hidden."""
    return sorted(file for file in folder.glob(pattern) if not file.name.startswith(".") and file.is_file())
