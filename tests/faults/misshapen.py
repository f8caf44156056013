"""Damage from inside: archives as PyTorch writes them, whose content is made for harm or is not what a model needs."""

from __future__ import annotations

import copy
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tests.faults.archives import FOLDER, HEADER, PICKLE, call, loaded, mapping, name, number, tensor, text, write_archive, write_pickle

Make = Callable[[Path], None]
MEGA = 1 << 20
ODD_VALUES: tuple[Any, ...] = (
    None, -1, 0, 1, 3, 2**31, 2**70, 0.5, float("nan"), float("inf"), True, "", "x", "\x1b[2J\x07", "\ud800", [], [None], {}, (), (0, 0),
    (10**6, 10**6), [[]] * 3, torch.zeros(0), torch.zeros(1, 1), torch.tensor(7), {"a": {"b": []}}, b"bytes", -(2**63), 10**9,
)  # fmt: skip


def attributes(original: Path, chance: random.Random) -> Iterator[Make]:
    """One attribute of one layer, of the model or of the dictionary is something else."""
    content = loaded(original)
    while True:
        changed = _changed(content, chance)
        yield lambda path, changed=changed: torch.save(changed, path)


def _changed(content: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    changed = {**content, "model": copy.deepcopy(content["model"])}
    model = changed["model"]
    place = chance.choice(["layer", "layer", "layer", "model", "dictionary", "tensor"])
    value = chance.choice(ODD_VALUES)
    if place == "dictionary":
        changed[chance.choice(["model", "ema", "train_args", "epoch", "optimizer", "tui_pruner", "version"])] = value
    elif place == "model":
        vars(model)[chance.choice([name for name in vars(model) if not name.startswith("__")])] = value
    else:
        layer = chance.choice([module for module in model.modules() if module is not model])
        if place == "tensor" and layer._parameters:
            layer._parameters[chance.choice(list(layer._parameters))] = _odd_tensor(chance)
        else:
            vars(layer)[chance.choice(list(vars(layer)))] = value
    return changed


def _odd_tensor(chance: random.Random) -> Any:
    kinds = [torch.int8, torch.bool, torch.complex64, torch.float64, torch.bfloat16]
    shape = chance.choice([(), (0,), (1,), (3, 3), (16, 8, 3, 3), (1, 1, 1, 1, 1)])
    return chance.choice([nn.Parameter(torch.zeros(shape, dtype=chance.choice(kinds)), requires_grad=False), torch.zeros(shape)])


def bomb(path: Path) -> None:
    write_archive(path, {PICKLE: HEADER + b"}.", f"{FOLDER}/data/0": b"\0" * (128 * MEGA)}, zipfile.ZIP_DEFLATED)


def bomb_in_the_pickle(path: Path) -> None:
    write_archive(path, {PICKLE: HEADER + b"N" * (64 * MEGA) + b"."}, zipfile.ZIP_DEFLATED)


def overlapping(path: Path) -> None:
    """A thousand members that are all the same bytes of the file."""
    write_archive(path, {PICKLE: HEADER + b"}.", f"{FOLDER}/data/0": b"\0" * MEGA})
    content = path.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    start = struct.unpack_from("<I", content, end + 16)[0]
    entry = content[content.rindex(b"PK\x01\x02") : end]
    entries = b"".join(entry.replace(b"data/0", b"da%04d" % number) for number in range(1000))
    counts = struct.pack("<HHII", 1001, 1001, len(content[start:end]) - len(entry) + len(entries), start)
    path.write_bytes(content[: end - len(entry)] + entries + content[end : end + 8] + counts + b"\0\0")


def many_members(path: Path) -> None:
    write_archive(path, [(PICKLE, HEADER + b"}."), *((f"{FOLDER}/data/{count}", b"") for count in range(120_000))])


def claims_a_terabyte(content: dict[str, Any]) -> None:
    """One number, seen as 250,000,000,000."""
    content["model"].model[0].conv.weight = nn.Parameter(torch.zeros(1).expand(500_000, 500_000), requires_grad=False)


def ten_thousand_views(content: dict[str, Any]) -> None:
    """The same numbers again and again: twice four hundred megabytes when each is turned to float32."""
    stored = torch.zeros(20_000, dtype=torch.float16)
    for count in range(10_000):
        content["model"].model[0].register_buffer(f"view{count}", stored[:])


def model_within_itself(content: dict[str, Any]) -> None:
    content["model"].model[0]._modules["conv"] = content["model"]


def names_without_end(content: dict[str, Any]) -> None:
    endless: list[Any] = ["a"]
    for _ in range(60):
        endless = [endless, endless]
    content["model"].names = {0: endless, 1: "b"}


def deep_settings(content: dict[str, Any]) -> None:
    deep: list[Any] = []
    for _ in range(150):
        deep = [deep]
    content["model"].yaml["head"] = deep
    content["train_args"] = {"imgsz": 64, "names": deep}


def huge_stride(content: dict[str, Any]) -> None:
    content["model"].stride = torch.tensor([2.0**40])


def spread(original: Path, change: Callable[[dict[str, Any]], None]) -> Make:
    """A good checkpoint, changed."""

    def make(path: Path) -> None:
        content = loaded(original)
        change(content)
        torch.save(content, path)

    return make


CHANGES = (claims_a_terabyte, ten_thousand_views, model_within_itself, names_without_end, deep_settings, huge_stride)


def made(original: Path) -> list[Make]:
    """Everything that is made for harm."""
    return [*MADE.values(), *(spread(original, change) for change in CHANGES)]


def opcodes(body: bytes, storages: dict[str, bytes] | None = None) -> Make:
    return lambda path: write_pickle(path, body, storages or {})


def shared_tuples(depth: int) -> bytes:
    """A tuple of the same tuple twice, of the same tuple twice, and so on: a few bytes, and 2 ** depth to walk."""
    return b")" + b"".join(b"q%ch%c\x86" % (count, count) for count in range(depth))


def layer_within_itself(path: Path) -> None:
    inner = nn.Sequential(nn.Identity())
    inner._modules["0"] = inner
    torch.save({"model": inner}, path)


def list_within_itself(path: Path) -> None:
    endless: list[Any] = []
    endless.append(endless)
    torch.save({"model": nn.Identity(), "train_args": {"names": endless}, "epoch": endless}, path)


WEIGHTS = b"\0" * 64
SIXTEEN = ((16,), (1,))
MADE: dict[str, Make] = {
    "zip bomb": bomb,
    "zip bomb in the pickle": bomb_in_the_pickle,
    "overlapping members": overlapping,
    "120,000 members": many_members,
    "a tensor of more numbers than are stored": opcodes(mapping(model=tensor("0", 500_000_000, (500_000_000,), (1,))), {"0": WEIGHTS}),
    "a tensor that looks beyond its storage": opcodes(mapping(model=tensor("0", 16, (4000,), (1,))), {"0": WEIGHTS}),
    "a tensor before its storage": opcodes(mapping(model=tensor("0", 16, *SIXTEEN, offset=-8)), {"0": WEIGHTS}),
    "a tensor that claims a terabyte": opcodes(mapping(model=tensor("0", 16, (500_000, 500_000), (0, 0))), {"0": WEIGHTS}),
    "a tensor of negative size": opcodes(mapping(model=tensor("0", 16, (-4,), (1,))), {"0": WEIGHTS}),
    "a storage of another type": opcodes(mapping(model=tensor("0", 16, *SIXTEEN, storage="DoubleStorage")), {"0": WEIGHTS}),
    "a storage of no type": opcodes(mapping(model=tensor("0", 16, *SIXTEEN, storage="NoStorage")), {"0": WEIGHTS}),
    "a storage that is not there": opcodes(mapping(model=tensor("7", 16, *SIXTEEN)), {"0": WEIGHTS}),
    "a storage named like the pickle": opcodes(mapping(model=tensor("../data.pkl", 16, *SIXTEEN)), {"0": WEIGHTS}),
    "a layer of a million inputs, made by calling it": opcodes(
        mapping(model=call("torch.nn.modules.linear", "Linear", number(1_000_000), number(1_000_000)))
    ),
    "a terabyte of bytes": opcodes(mapping(model=call("builtins", "bytearray", b"\x8a\x06\0\0\0\0\0\x01"))),
    "a tensor made by its size": opcodes(mapping(model=call("torch", "FloatTensor", number(2_000_000_000)))),
    "lists nested half a million deep": opcodes(b"]" * (MEGA // 2) + b"a" * (MEGA // 2 - 60_000)),
    "tuples nested as deep as it goes": opcodes(b")" + b"\x85" * 990_000),
    "marks as deep as it goes": opcodes(b"(" * 990_000),
    "three million values": opcodes(b"N" * (3 * MEGA)),
    "a pickle of 10 MB": opcodes(b"X" + struct.pack("<I", 10 * MEGA) + b"a" * (10 * MEGA)),
    "a key that takes for ever to hash": opcodes(b"}" + shared_tuples(60) + b"Ns"),
    "a set that takes for ever to hash": opcodes(call("builtins", "set", b"]" + shared_tuples(60) + b"a")),
    "a name that takes for ever to write": opcodes(shared_tuples(60) + b")R"),
    "arguments that take for ever to write": opcodes(call("torch", "device", shared_tuples(60))),
    "class names that take for ever to write": opcodes(mapping(model=shared_tuples(60), train_args=mapping(names=shared_tuples(60)))),
    "memory that was never written to": opcodes(b"h\xff"),
    "an empty stack": opcodes(b"R"),
    "no end": lambda path: write_archive(path, {PICKLE: HEADER + b"}"}),
    "an empty pickle": lambda path: write_archive(path, {PICKLE: b""}),
    "numbers read as objects": opcodes(
        mapping(model=call("numpy._core.multiarray", "scalar", call("numpy", "dtype", text("V8"), b"\x89", b"\x88")
        + b"(" + number(3) + text("|") + b"N" + text("a") + b"\x85" + b"}" + text("a")
        + b"(" + call("numpy", "dtype", text("O"), b"\x89", b"\x88") + number(0) + b"ts" + number(8) + number(1) + number(0) + b"tb",
        call("_codecs", "encode", text("AAAAAAAA"), text("latin1"))))
    ),
    "layer within itself": layer_within_itself,
    "list within itself": list_within_itself,
    "a class where the model should be": opcodes(mapping(model=name("ultralytics.nn.tasks", "DetectionModel"))),
    "an empty model": opcodes(mapping(model=name("ultralytics.nn.tasks", "DetectionModel") + b")\x81}b")),
    "a model filled with nothing": opcodes(mapping(model=name("ultralytics.nn.tasks", "DetectionModel") + b")\x81Nb")),
    "an optimizer instead of a model": opcodes(mapping(model=b"}", optimizer=b"}")),
}  # fmt: skip
