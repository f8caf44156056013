"""How a model is named, and checks of its file's beginning, without any library: missing, unreadable, no archive, or an architecture."""

from __future__ import annotations

import difflib
import importlib.util
import re
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

from tui_pruner.domain.errors import CheckpointError

ARCHITECTURES = (".yaml", ".yml")
"""Suffixes of files that describe a model but hold none."""
SCALE = re.compile(r"(\d+)([nslmx])(.+)?$")
"""How Ultralytics finds the file of all scales in a name: yolov8s.yaml is in yolov8.yaml."""
P6 = re.compile(r"yolov([58])([nsmlx])6")


RETRAIN = "give the best.pt or last.pt that Ultralytics saved"
BEGINNINGS: tuple[tuple[bytes, str], ...] = (
    (b"version https://git-lfs", "is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    (b"\x80\x02\x8a\x0al\xfc\x9cF", f"is a PyTorch file in the format before 1.6: save it again with a newer torch, or {RETRAIN}"),
    (b"\x80", f"is a bare pickle, not a PyTorch checkpoint: {RETRAIN}"),
    (b"\x89PNG", f"is a PNG image, not a checkpoint: {RETRAIN}"),
    (b"\xff\xd8\xff", f"is a JPEG image, not a checkpoint: {RETRAIN}"),
    (b"GIF8", f"is a GIF image, not a checkpoint: {RETRAIN}"),
    (b"\x1f\x8b", "is a gzip archive: unpack it first"),
    (b"\x89HDF", f"is an HDF5 file, not a checkpoint: {RETRAIN}"),
    (b"<", "is a web page or XML, not a checkpoint: the download has probably failed, fetch it again"),
)
ONNX = f"is an ONNX export, which cannot be pruned: {RETRAIN}"


CUTS, NUMBERS = "plan.yaml", "model.safetensors"
"""The files in the folder of a module that have its cuts, and its parameters and buffers."""
FUNCTION = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")
"""The name of a function that builds a module, such as package.module:build."""


OPTIONS = {"build": "--model", "folder": "--weights"}
"""The options of names that have other names there."""
FUNCTIONS = ("batches", "evaluate", "loss", "train")
"""The names that only some commands take."""


@dataclass(frozen=True)
class ModuleNames:
    """The names of a module's code, each as package.module:attribute: what builds it, its inputs, and the functions that jobs call.

    `weights`: a file of safetensors that is loaded into it; `folder`: one that was written from it, which is opened in place of it.
    `forward`: what runs in place of its own. `batches` gives batches of its inputs, `evaluate` figures of a module, `loss` the loss of a
    module on a batch, and `train` trains one; each is empty where there is none, and what needs it cannot be done.
    """

    build: str
    inputs: str
    weights: str | None = None
    forward: str = ""
    approximate: bool = False
    batches: str = ""
    evaluate: str = ""
    loss: str = ""
    train: str = ""
    folder: str | None = None

    @property
    def place(self) -> str:
        """What identifies it in a lineage: the absolute path of the folder, else the name of what builds it."""
        return str(Path(self.folder).absolute()) if self.folder is not None else self.build

    @property
    def unmeasured(self) -> ModuleNames:
        """The module without the function that measures it."""
        return replace(self, evaluate="")

    @property
    def neutral(self) -> ModuleNames:
        """The module with names that say nothing of it."""
        given = {name: f"package.module:{name}" for name, value in asdict(self).items() if isinstance(value, str) and ":" in value}
        files = {"weights": self.weights and "weights.safetensors", "folder": self.folder and "folder.tp"}
        file = {} if ":" in self.build else {"build": f"module{Path(self.build).suffix}"}
        return ModuleNames(**{**asdict(self), **given, **files, **file})

    def words(self, *functions: str) -> list[str]:
        """The names as options of a command, with those of these functions."""
        wanted = {name: value for name, value in asdict(self).items() if value and (name not in FUNCTIONS or name in functions)}
        return [
            word for name, value in wanted.items() for word in (OPTIONS.get(name, f"--{name}"), *([] if value is True else [str(value)]))
        ]

    def at(self, place: str) -> ModuleNames:
        """The module at another place of its lineage."""
        return replace(self, folder=None if place == self.build else place)


def is_architecture(path: str) -> bool:
    """Whether a file describes an architecture without weights, by its name."""
    return Path(path).suffix.lower() in ARCHITECTURES


def require_readable_file(path: Path) -> None:
    """Refuse what cannot be a model file at all: missing, a folder, unreadable, or empty."""
    try:
        if not path.exists() and FUNCTION.fullmatch(str(path)):
            raise CheckpointError(f"{path} is the name of a function, not of a file: give it as --model {path}, with --inputs")
        if not path.exists():
            raise CheckpointError(f"{path}: no such file; check the path")
        if path.is_dir() and (path / NUMBERS).is_file():
            raise CheckpointError(
                f"{path} is a saved module, not a checkpoint: in Python, load(folder, module) reads it; with --model, prove does"
            )
        if path.is_dir():
            raise CheckpointError(f"{path} is a folder: name a .pt file in it")
        if not path.is_file():
            raise CheckpointError(f"{path} is not a regular file: name a .pt file")
        if path.stat().st_size == 0:
            raise CheckpointError(f"{path} is empty: the copy or download has failed, fetch it again")
        with path.open("rb"):
            pass
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror or error}): check its permissions") from error


def require_zip(path: Path) -> None:
    """Refuse a file that is no zip archive, as PyTorch's files are, and say what it is instead.

    Raises:
        CheckpointError: it is none.
    """
    with path.open("rb") as file:
        beginning = file.read(512)
    if path.suffix.lower() == ".onnx" or looks_like_onnx(beginning):
        raise CheckpointError(f"{path} {ONNX}")
    if not beginning.startswith(b"PK"):
        raise CheckpointError(f"{path} {_what_it_is(beginning)}")
    import zipfile  # late: no first screen waits for it

    if not zipfile.is_zipfile(path):
        raise CheckpointError(f"{path} is truncated (its end is missing): fetch it again")


def looks_like_onnx(beginning: bytes) -> bool:
    """Whether the bytes begin like a serialised ONNX model: its IR version, then a producer, graph or operator set."""
    return len(beginning) > 3 and beginning[0] == 0x08 and beginning[1] < 32 and beginning[2] in (0x12, 0x1A, 0x3A, 0x42)


def _what_it_is(beginning: bytes) -> str:
    if beginning[257:262] == b"ustar":
        return f"is a tar archive, perhaps PyTorch's oldest format: {RETRAIN}"
    for start, verdict in BEGINNINGS:
        if beginning.startswith(start):
            return verdict
    return f"is not a PyTorch checkpoint: {RETRAIN}"


def require_model(name: str) -> None:
    """Refuse a name that is neither a file nor an architecture of Ultralytics, without importing Ultralytics.

    URLs, and names in folders that do not exist here, are left to Ultralytics.

    Raises:
        CheckpointError: the model does not exist."""
    if not is_architecture(name):
        require_readable_file(Path(name).expanduser())
        require_zip(Path(name).expanduser())
    elif "/" not in name and not Path(name).exists() and known_architectures() and not same_architecture(name):
        raise CheckpointError(f"{name}: no such architecture{nearest(name)}")


def same_architecture(name: str) -> bool:
    """Whether Ultralytics has an architecture of this name, at some scale."""
    stem, suffix = Path(name).stem, Path(name).suffix
    renamed = P6.sub(r"yolov\1\2-p6", stem) if P6.fullmatch(stem) else stem
    return not known_architectures().isdisjoint({name, f"{renamed}{suffix}", SCALE.sub(r"\1\3", f"{renamed}{suffix}")})


def nearest(name: str) -> str:
    """Return the end of a sentence with the most similar names."""
    close = difflib.get_close_matches(Path(name).name, sorted(known_architectures()), n=3, cutoff=0.5)
    return f"; nearest: {', '.join(close)}" if close else "; name one such as yolov8n.yaml"


@cache
def known_architectures() -> frozenset[str]:
    """The names of the architectures that come with Ultralytics; empty where it is not found."""
    spec = importlib.util.find_spec("ultralytics")
    roots = (spec.submodule_search_locations if spec else None) or ()
    return frozenset(file.name for root in roots for file in Path(root, "cfg", "models").rglob("*.yaml"))
