"""What hostile files want: a canary created, a guarded file changed, a socket called, each by another way."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests.faults.archives import call, mapping, name, number, text

GUARDED = "guarded"


@dataclass(frozen=True)
class Trap:
    """A canary that must not appear, a file that must stay as it is, a socket that no one may call, and scripts that do harm when run."""

    folder: Path
    listener: socket.socket

    @property
    def canary(self) -> Path:
        return self.folder / "canary"

    @property
    def guarded(self) -> Path:
        return self.folder / "guarded"

    @property
    def script(self) -> Path:
        return self.folder / "script.py"

    @property
    def nested(self) -> Path:
        return self.folder / "nested.pt"

    @property
    def command(self) -> str:
        return f"touch {self.canary}"

    @property
    def code(self) -> str:
        return f"open({str(self.canary)!r}, 'w')"

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}/model.yaml"

    @property
    def sprung(self) -> bool:
        """Whether the file got what it wants."""
        with contextlib.suppress(BlockingIOError):
            self.listener.accept()
            return True
        return self.canary.exists() or not self.guarded.exists() or self.guarded.read_text() != GUARDED


@contextlib.contextmanager
def trap(folder: Path) -> Iterator[Trap]:
    """A trap in a folder, set anew."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        made = Trap(folder, listener)
        made.canary.unlink(missing_ok=True)
        made.guarded.write_text(GUARDED)
        made.script.write_text(made.code)
        torch.save(Caller(made.command), made.nested)
        yield made


class Caller:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        import os

        return os.system, (self.command,)


def got(attribute: str, of: bytes) -> bytes:
    """An attribute, pickled."""
    return call("builtins", "getattr", of, text(attribute))


def called(function: bytes, *arguments: bytes) -> bytes:
    """A call of what was got before, pickled."""
    return function + b"(" + b"".join(arguments) + b"tR"


def module(path: str) -> bytes:
    """A module, pickled."""
    return call("importlib", "import_module", text(path))


def filled(kind: bytes, state: bytes) -> bytes:
    """An object made empty and filled, pickled."""
    return kind + b")\x81" + state + b"b"


def short_text(value: str) -> bytes:
    """A string as protocol 4 has it."""
    return b"\x8c" + bytes([len(value)]) + value.encode()


TASKS, DISTILL, BLOCK = "ultralytics.nn.tasks", "ultralytics.nn.distill_model", "ultralytics.nn.modules.block"
HOOK = b"}" + number(0) + name("posix", "system") + b"s"
PAYLOADS: dict[str, Callable[[Trap], bytes]] = {
    "os.system": lambda t: call("os", "system", text(t.command)),
    "posix.system": lambda t: call("posix", "system", text(t.command)),
    "os.popen": lambda t: call("os", "popen", text(t.command)),
    "subprocess.check_call": lambda t: call("subprocess", "check_call", b"](" + text("touch") + text(str(t.canary)) + b"e"),
    "subprocess.Popen, made and filled": lambda t: name("subprocess", "Popen") + b"](" + text("touch") + text(str(t.canary)) + b"e\x85R}b",
    "eval": lambda t: call("builtins", "eval", text(t.code)),
    "exec": lambda t: call("builtins", "exec", text(t.code)),
    "eval by Python 2's name": lambda t: call("__builtin__", "eval", text(t.code)),
    "open": lambda t: call("builtins", "open", text(str(t.guarded)), text("w")),
    "io.open": lambda t: call("io", "open", text(str(t.canary)), text("w")),
    "os.remove": lambda t: call("os", "remove", text(str(t.guarded))),
    "importlib and getattr": lambda t: called(got("system", module("os")), text(t.command)),
    "getattr chain from a layer": lambda t: called(
        called(got("__getitem__", called(
            got("__getitem__", got("__globals__", got("forward", name("torch.nn.modules.linear", "Linear")))), text("__builtins__")
        )), text("eval")), text(t.code)
    ),
    "operator.methodcaller": lambda t: called(call("operator", "methodcaller", text("system"), text(t.command)), module("os")),
    "functools.partial": lambda t: called(call("functools", "partial", name("os", "system"), text(t.command))),
    "functools.reduce": lambda t: call("functools", "reduce", name("builtins", "eval"), b"](" + text(t.code) + b"}e"),
    "map": lambda t: call("builtins", "list", call("builtins", "map", name("posix", "system"), text(t.command) + b"\x85")),
    "torch.load nested": lambda t: call("ultralytics.utils.patches", "torch_load", text(str(t.nested))),
    "pickle.load nested": lambda t: call(
        "pickle", "loads", call("_codecs", "encode", text(f"cposix\nsystem\n(V{t.command}\ntR."), text("latin1"))
    ),
    "torch.hub": lambda t: call("torch.hub", "download_url_to_file", text(t.address), text(str(t.canary))),
    "torch.hub.load_state_dict_from_url": lambda t: call("torch.hub", "load_state_dict_from_url", text(t.address)),
    "runpy": lambda t: call("runpy", "run_path", text(str(t.script))),
    "ctypes": lambda t: called(got("system", call("ctypes", "CDLL", b"N")), call("_codecs", "encode", text(t.command), text("latin1"))),
    "socket": lambda t: call("socket", "create_connection", text("127.0.0.1") + number(t.port) + b"\x86"),
    "urllib": lambda t: call("urllib.request", "urlopen", text(t.address)),
    "logging": lambda t: call("logging", "FileHandler", text(str(t.canary))),
    "zipfile": lambda t: call("zipfile", "ZipFile", text(str(t.canary)), text("w")),
    "pty": lambda t: call("pty", "spawn", b"](" + text("touch") + text(str(t.canary)) + b"e"),
    "timeit": lambda t: call("timeit", "timeit", text(t.code)),
    "a tensor subclass made by a command": lambda t: call(
        "torch._tensor", "_rebuild_from_type_v2", name("posix", "system"), name("torch", "Tensor"), text(t.command) + b"\x85", b"}"
    ),
    "a tensor made by a stock model's method": lambda t: call(
        "torch._tensor", "_rebuild_from_type_v2", got("apply", name(TASKS, "BaseModel")), name("torch", "Tensor"),
        name("torch.nn.modules.linear", "Identity") + b")R" + name("builtins", "breakpoint") + b"\x86", b"}"
    ),
    "old opcodes: INST": lambda t: b"(" + text(t.command) + b"iposix\nsystem\n",
    "old opcodes: OBJ": lambda t: b"(" + name("subprocess", "Popen") + b"](" + text("touch") + text(str(t.canary)) + b"eo",
    "protocol 4": lambda t: short_text("posix") + short_text("system") + b"\x93" + text(t.command) + b"\x85R",
    "a stock model built from an address": lambda t: call(TASKS, "DetectionModel", text(t.address)),
    "a stock model built from a yaml that says eval": lambda t: call(
        TASKS, "DetectionModel", mapping(activation=text(t.code), nc=number(2), scales=b"}", backbone=b"]", head=b"]")
    ),
    "a stock layer that loads weights": lambda t: call(BLOCK, "TorchVision", text("resnet18"), text("DEFAULT")),
    "a stock model that reads another file": lambda t: call(DISTILL, "DistillationModel", text(str(t.nested)), text(str(t.nested))),
    "a stock class filled with a hook": lambda t: filled(
        name("torch.nn.modules.linear", "Identity"), mapping(_forward_hooks=HOOK, training=b"\x88")
    ),
    "a path that is touched": lambda t: called(got("touch", call("pathlib", "PosixPath", text(str(t.canary))))),
    "a codec": lambda t: call("_codecs", "encode", text("x"), text("../script")),
    "types.FunctionType": lambda t: called(
        call("types", "FunctionType", call("builtins", "compile", text(t.code), text("x"), text("exec")), b"}")
    ),
    "a function, as dill makes one": lambda t: called(
        called(call("dill._dill", "_load_type", text("FunctionType")), call("dill._dill", "_create_code", text(t.code)), b"}")
    ),
    "dill's function maker": lambda t: call("dill._dill", "_create_function", call("dill._dill", "_create_code", text(t.code)), b"}"),
    "a plain type that dill names, with all memory": lambda t: called(call("dill._dill", "_load_type", text("bytes")), number(2**31 - 1)),
    "a type that dill names, got at": lambda t: called(got("__subclasses__", call("dill._dill", "_load_type", text("dict")))),
    "a model for several devices, filled with a hook": lambda t: filled(
        name("torch.nn.parallel.data_parallel", "DataParallel"), mapping(_forward_hooks=HOOK, _modules=b"}")
    ),
    "a model for several devices within itself": lambda t: (
        name("torch.nn.parallel.data_parallel", "DataParallel") + b")\x81q\xc8" + mapping(_modules=mapping(module=b"h\xc8")) + b"b"
    ),
    "a transform of old classifiers, called": lambda t: call("ultralytics.yolo.data.augment", "CenterCrop", text(t.address)),
    "a transform beside those of old classifiers": lambda t: filled(name("ultralytics.data.augment", "Albumentations"), b"}"),
    "a name in a module that is nowhere": lambda t: filled(name("../script", "x"), b"}"),
    "copyreg": lambda t: call("copyreg", "_reconstructor", name("subprocess", "Popen"), name("builtins", "object"), b"N"),
}  # fmt: skip


def poisoned_hook(content: dict[str, Any], path: Path, trap: Trap) -> None:
    content["model"].model[0].register_forward_hook(Calls(nn.Module.apply))
    torch.save(content, path)


def poisoned_forward(content: dict[str, Any], path: Path, trap: Trap) -> None:
    vars(content["model"].model[0])["forward"] = type(content["model"]).load
    torch.save(content, path)


def poisoned_activation(content: dict[str, Any], path: Path, trap: Trap) -> None:
    conv = content["model"].model[0]
    conv._modules.pop("act")
    vars(conv)["act"] = nn.Linear
    torch.save(content, path)


def poisoned_call(content: dict[str, Any], path: Path, trap: Trap) -> None:
    """PyTorch leaves this attribute out when it saves, so it is put in where another is that it does not leave out."""
    conv = content["model"].model[0]
    vars(conv)["_compiled_call_implX"] = type(content["model"]).forward
    torch.save(content, path)
    content = path.read_bytes()
    from tests.faults.archives import PICKLE, members_of, write_archive

    members = members_of(path)
    before, after = (b"X" + struct.pack("<I", len(key)) + key for key in (b"_compiled_call_implX", b"_compiled_call_impl"))
    write_archive(path, {**members, PICKLE: members[PICKLE].replace(before, after)})


def poisoned_yaml(content: dict[str, Any], path: Path, trap: Trap) -> None:
    model = content["model"]
    model.yaml = {**model.yaml, "activation": trap.code, "yaml_file": trap.address, "backbone": [[-1, trap.code, trap.code, [trap.code]]]}
    torch.save(content, path)


def poisoned_arguments(content: dict[str, Any], path: Path, trap: Trap) -> None:
    keys = ("data", "model", "cfg", "project", "tracker", "source", "pretrained", "save_dir", "resume", "distill_model")
    arguments = {**dict.fromkeys(keys, trap.address), "imgsz": 64, "task": "detect"}
    content["model"].args = arguments
    torch.save({**content, "train_args": arguments}, path)


def poisoned_names(content: dict[str, Any], path: Path, trap: Trap) -> None:
    escapes = "\x1b]52;c;cm0gLXJmCg==\x07\x1b[2J\x9b31m\u202e\r\n"
    model = content["model"]
    model.names = dict.fromkeys(range(2), escapes)
    model.yaml["yaml_file"] = escapes
    model.task = "detect"
    torch.save({**content, "version": escapes, "date": escapes}, path)


def poisoned_layer_name(content: dict[str, Any], path: Path, trap: Trap) -> None:
    layer = content["model"].model[0]
    layer._modules["\x1b[2J"] = layer._modules.pop("conv")
    torch.save(content, path)


def poisoned_provenance(content: dict[str, Any], path: Path, trap: Trap) -> None:
    original = {"activation": trap.code, "backbone": [], "head": [[-1, 1, trap.code, []]], "yaml_file": trap.address}
    content["tui_pruner"] = {"original_yaml": original, "plan": {"steps": trap.code}, "source": {"name": trap.address}}
    torch.save(content, path)


def torchscript(content: dict[str, Any], path: Path, trap: Trap) -> None:
    torch.jit.save(torch.jit.script(nn.Linear(2, 2)), path)


def numpy_scalar_of_objects(content: dict[str, Any], path: Path, trap: Trap) -> None:
    torch.save({**content, "best_fitness": np.array([Caller(trap.command)], dtype=object)}, path)


class Calls:
    """A hook that a file can name: nothing but a function of PyTorch's own."""

    def __new__(cls, function: Any) -> Any:
        return function


POISONED: dict[str, Callable[[dict[str, Any], Path, Trap], None]] = {
    "a forward hook": poisoned_hook,
    "a replaced forward": poisoned_forward,
    "a class as activation": poisoned_activation,
    "a replaced call": poisoned_call,
    "code and addresses in the yaml": poisoned_yaml,
    "addresses in the training arguments": poisoned_arguments,
    "escape sequences in names": poisoned_names,
    "escape sequences in a layer's name": poisoned_layer_name,
    "code and addresses in our own key": poisoned_provenance,
    "TorchScript": torchscript,
    "numpy objects": numpy_scalar_of_objects,
}
