"""Copies of a model that share what need not be copied: without weights, with some modules of their own, in float64."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn

from tui_pruner.domain.errors import TraceError

CACHES = frozenset({"anchors", "strides", "shape", "shapes", "valid_mask"})
"""What heads cache between two forwards; their classes have the empty value."""
OWN_TABLES = frozenset(name for name, value in nn.Module().__dict__.items() if isinstance(value, dict))


Parts = Sequence[tuple[str, nn.Module]]
"""The modules of a model by their paths, as `modules_of` gives them."""


def modules_of(model: nn.Module, repeated: bool = False) -> list[tuple[str, nn.Module]]:
    """Path and module of the model and of every part, as `named_modules` gives them, in a tenth of the time; `repeated`: by every path."""
    found: list[tuple[str, nn.Module]] = []
    seen: set[int] = set()
    waiting: list[tuple[str, nn.Module]] = [("", model)]
    while waiting:
        path, module = waiting.pop()
        if not repeated:
            if id(module) in seen:
                continue
            seen.add(id(module))
        found.append((path, module))
        start = f"{path}." if path else ""
        waiting += [(start + name, child) for name, child in reversed(module._modules.items()) if child is not None]
    return found


def named_tensors(model: nn.Module | Parts) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and buffer of a model, or of its parts by path, with its full name, each shared tensor under its first name only."""
    parts = modules_of(model) if isinstance(model, nn.Module) else model
    for table in ("_parameters", "_buffers"):
        seen: set[int] = set()
        for path, module in parts:
            for name, tensor in getattr(module, table).items():
                if tensor is not None and id(tensor) not in seen:
                    seen.add(id(tensor))
                    yield f"{path}.{name}" if path else name, tensor


def owners_of_tensors(model: nn.Module | Parts) -> dict[str, tuple[str, ...]]:
    """All names of each parameter and buffer by its first name, of a model or of its parts by path: tied weights have several."""
    owners: tuple[dict[int, list[str]], dict[int, list[str]]] = {}, {}
    parts = modules_of(model, repeated=True) if isinstance(model, nn.Module) else model
    for path, module in parts:
        tables: tuple[Mapping[str, Tensor | None], ...] = (module._parameters, module._buffers)
        for known, table in zip(owners, tables):
            for name, tensor in table.items():
                if tensor is not None:
                    known.setdefault(id(tensor), []).append(f"{path}.{name}" if path else name)
    return {names[0]: tuple(names) for known in owners for names in known.values()}


def tensor_at(model: nn.Module, name: str) -> Tensor:
    """A parameter or buffer by its full name."""
    path, _, attribute = name.rpartition(".")
    tensor: Tensor = getattr(model.get_submodule(path), attribute)
    return tensor


def put_tensor(model: nn.Module, name: str, tensor: Tensor) -> dict[str, nn.Module]:
    """Replace a parameter or buffer of the module that owns it."""
    path, _, attribute = name.rpartition(".")
    owner = model.get_submodule(path)
    setattr(owner, attribute, tensor)
    return {path: owner}


def without_weights(model: nn.Module) -> nn.Module:
    """A copy of the model whose parameters and buffers are on the meta device; no weight is copied.

    Attributes that are tensors but no buffers (a detection head's strides) keep their values, since `forward` reads them. What heads cached
    in an earlier forward is not copied: it has values too, and would be mixed with meta tensors.
    """
    known: dict[int, Tensor] = {}

    def on_meta(tensor: Tensor) -> Tensor:
        if id(tensor) not in known:
            empty = torch.empty_like(tensor, device="meta")
            known[id(tensor)] = nn.Parameter(empty, requires_grad=False) if isinstance(tensor, nn.Parameter) else empty
        return known[id(tensor)]

    skeleton = _with_own_names(model, on_meta, {})
    forget_caches(skeleton)
    return skeleton


def forget_caches(model: nn.Module) -> None:
    """Reset what heads cache to the state before their first forward."""
    for _, module in modules_of(model):
        for name in cached_by(type(module)):  # type: ignore[arg-type]
            module.__dict__.pop(name, None)


@lru_cache(maxsize=512)
def cached_by(kind: Hashable) -> tuple[str, ...]:
    """What modules of a class cache."""
    return tuple(name for name in CACHES if hasattr(kind, name))


def sharing_weights(model: nn.Module, twins: dict[int, nn.Module] | None = None) -> nn.Module:
    """A copy of the model's modules with the same tensors: replacing a tensor in the copy leaves the original unchanged.

    `twins` receives the copy of each module, by the identity of the module.
    """
    return _with_own_names(model, None, {} if twins is None else twins)


def _with_own_names(model: nn.Module, tensor_of: Callable[[Tensor], Tensor] | None, known: dict[int, nn.Module]) -> nn.Module:
    """A copy whose modules name each other where the originals do."""
    naming: list[tuple[dict[str, Any], str]] = []
    copy = _copied(model, tensor_of, known, naming)
    for state, name in naming:
        state[name] = named_copies(state[name], known)
    return copy


def _copied(
    module: nn.Module,
    tensor_of: Callable[[Tensor], Tensor] | None,
    known: dict[int, nn.Module],
    naming: list[tuple[dict[str, Any], str]],
    path: str = "",
) -> nn.Module:
    """A module in evaluation mode with its own attribute tables and copied children; `tensor_of` replaces tensors.

    `copy.deepcopy` is ten times slower, since it walks every attribute, and `eval()` takes twice as long as the copy. The `__new__` of
    `torch.fx` modules would make another class, without the module's forward. `naming` receives the attributes that may name modules.

    Raises:
        TraceError: a part is TorchScript.
    """
    if id(module) in known:
        return known[id(module)]
    if isinstance(module, torch.jit.ScriptModule):
        raise TraceError(f"{path or 'the model'} is TorchScript, whose operations cannot be followed: give the model from before torch.jit")
    twin = known[id(module)] = object.__new__(type(module))
    state = twin.__dict__
    _copy_attributes(module.__dict__, state, naming)
    if tensor_of is not None:
        for table in ("_parameters", "_buffers"):
            state[table] = {name: None if tensor is None else tensor_of(tensor) for name, tensor in state[table].items()}
    for name, child in module._modules.items():
        twin._modules[name] = None if child is None else _copied(child, tensor_of, known, naming, f"{path}.{name}" if path else name)
    return twin


def _copy_attributes(given: dict[str, Any], state: dict[str, Any], naming: list[tuple[dict[str, Any], str]]) -> None:
    """Give a module the attributes of another one, in containers of its own; `naming` receives those that may name modules."""
    state.update(given, training=False)
    for name, value in given.items():
        kind = type(value)
        if kind in DATA:
            continue
        if not (kind in CONTAINERS or name in OWN_TABLES):
            naming.append((state, name))
        elif value:
            if kind is not tuple:
                state[name] = value.copy()
            if name not in CONTENTS and holds_more_than_data(value):
                naming.append((state, name))
        elif kind is not tuple:
            state[name] = kind()  # a copy of an empty ordered dict takes long, and a module has ten


CONTAINERS = frozenset({list, tuple, dict, OrderedDict})
NAMING = CONTAINERS | {MethodType, partial}
"""What an attribute or a hook may be that names modules: on a copy it has to name the copies."""
CONTENTS = frozenset({"_parameters", "_buffers", "_modules"})
DATA = frozenset({bool, int, float, str, type(None), set})
"""Types of attributes that name no module."""
LONGEST = 1000
"""Longer lists hold data."""


def holds_more_than_data(container: Any) -> bool:
    """Whether anything in a list, tuple or dict, or a key, may be or name a module."""
    if len(container) > LONGEST:
        return False
    if DATA.issuperset(map(type, container)):
        return isinstance(container, dict) and not DATA.issuperset(map(type, container.values()))
    return True


def named_copies(value: Any, known: Mapping[int, nn.Module], depth: int = 3) -> Any:
    """A value with the copies of the modules that it names, by the identity of a module; the value itself where it names none."""
    kind = type(value)
    if kind is MethodType:
        owner = known.get(id(value.__self__), value.__self__)
        return value if owner is value.__self__ else MethodType(value.__func__, owner)
    if kind not in NAMING:
        return known.get(id(value), value) if isinstance(value, nn.Module) else value
    if kind is partial:
        parts = value.func, value.args, value.keywords, vars(value)
        function, args, keywords, attributes = copies = [named_copies(part, known, depth) for part in parts]
        if all(new is old for new, old in zip(copies, parts)):
            return value
        made = partial(function, *args, **keywords)
        vars(made).update(attributes)
        return made
    if not depth or not 0 < len(value) <= LONGEST:
        return value
    items = [*value, *value.values()] if isinstance(value, dict) else value
    copies = [named_copies(item, known, depth - 1) for item in items]
    if all(new is old for new, old in zip(copies, items)):
        return value
    return kind(zip(copies, copies[len(value) :])) if isinstance(value, dict) else kind(copies)


def renamed(module: nn.Module, known: Mapping[int, nn.Module]) -> dict[str, Any]:
    """The attributes of a module that name others which were copied, with the copies."""
    found = {}
    for name, value in vars(module).items():
        kind = type(value)
        if kind in DATA or name in CONTENTS or (kind in CONTAINERS and not holds_more_than_data(value)):
            continue
        copies = named_copies(value, known)
        if copies is not value:
            found[name] = copies
    return found


def redirect(known: Mapping[int, nn.Module]) -> None:
    """Have copied modules name each other where the originals did, in lists, stored methods and the like: these would run the originals."""
    for twin in {id(twin): twin for twin in known.values()}.values():
        twin.__dict__.update(renamed(twin, known))


def with_own(model: nn.Module, paths: Iterable[str]) -> nn.Module:
    """A copy with its own modules at these paths and at all paths above; every other module is shared with the model."""
    known: dict[int, nn.Module] = {}
    top, waiting = own(model, known), [*paths]
    while waiting:
        for path in waiting:
            module = top
            for part in path.split(".") if path else ():
                children: dict[str, Any] = module._modules
                module = children[part] = own(children[part], known)
        redirect(known)
        waiting = [path for path, part in modules_of(top) if id(part) not in known and renamed(part, known)]
    return top


def own(module: nn.Module, known: dict[int, nn.Module]) -> nn.Module:
    """A copy of one module with the same children and tensors; a module that was copied already is returned as it is."""
    if id(module) not in known:
        twin = object.__new__(type(module))
        tables = {table: module.__dict__[table].copy() for table in OWN_TABLES}
        twin.__dict__.update({**module.__dict__, **tables})
        known[id(module)] = known[id(twin)] = twin
        twin.__dict__.update(renamed(twin, known))
    return known[id(module)]


def below(model: nn.Module, prefix: str) -> list[str]:
    """The prefix of the paths of everything in a module; empty for the model itself."""
    return [path for path, _ in model.get_submodule(prefix).named_modules(prefix=prefix)]


def in_float64(model: nn.Module, known: dict[int, Tensor]) -> nn.Module:
    """A copy in evaluation mode that computes in float64. `known` has converted tensors by the identity of the original."""
    copy = sharing_weights(model)
    forget_caches(copy)
    for module in copy.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is not None and (tensor.is_floating_point() or tensor.is_complex()):
                    if id(tensor) not in known:
                        known[id(tensor)] = exact(tensor)
                    table[name] = known[id(tensor)]  # type: ignore[assignment]
    return copy


def exact(tensor: Tensor) -> Tensor:
    """A tensor in float64; a parameter stays a parameter."""
    value = tensor.detach().to(torch.complex128 if tensor.is_complex() else torch.float64)
    return nn.Parameter(value, requires_grad=False) if isinstance(tensor, nn.Parameter) else value
