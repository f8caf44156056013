"""What a pickle would do, found without running it: which names it calls, with which arguments, and how much it builds.

An allow-list of names is not enough. Classes of layers are on Ultralytics' list to be filled with what the file holds; *called*, they
fetch addresses, read other files or take any amount of memory, and `numpy.dtype` can be told to read numbers as objects, which crashes.
"""

from __future__ import annotations

import _compat_pickle
import pickletools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tui_pruner.domain.errors import PrunerError

LARGEST_PICKLE = 8 << 20
MOST_OPERATIONS = 1_000_000
"""Five times those of YOLOv9e; a checkpoint in the middle of a training contains its network twice."""
PLAIN_DTYPE = re.compile(r"[biufc]\d{1,2}")
SCALARS = (str, bytes, int, float, bool, type(None))
DILL_TYPE = "dill._dill._load_type"
"""How dill names Python's own types: Ultralytics 8.0.114 to 8.2 saved with dill wherever it was installed."""
PLAIN_TYPES = {kind.__name__: kind for kind in (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, slice)}
"""The types that this function may return; it knows types of functions, code and modules too."""


class RefusedPickle(PrunerError):
    """The pickle would do what no stock model does; the message follows the file's name."""


class Malformed(PrunerError):
    """The bytes are not a pickle as PyTorch writes it; the message follows the file's name."""


class Name(str):
    """An object that the pickle imports, as "module.name"."""


@dataclass(frozen=True)
class Made:
    """The result of a call, identified by what was called."""

    by: str


@dataclass(frozen=True)
class Storage:
    """The numbers of tensors: the archive's member, their type, and how many there are."""

    key: str
    type: str
    numbers: int


@dataclass(frozen=True)
class Survey:
    """The names that a pickle imports, and the storages that it refers to."""

    names: tuple[str, ...]
    storages: tuple[Storage, ...]


def shallow(arguments: tuple[Any, ...]) -> bool:
    """Whether no tuple is nested more than once: an error message that shows nested tuples could fill the memory."""
    return all(type(one) is not tuple or only_scalars(one) for one in arguments)


def only_scalars(arguments: tuple[Any, ...]) -> bool:
    """Whether these are strings and numbers, perhaps in lists: hashing nested tuples can take for ever."""
    return all(type(one) in SCALARS or (type(one) is list and only_scalars(tuple(one))) for one in arguments)


CALLS: Mapping[str, Callable[[tuple[Any, ...]], bool]] = {
    "torch._utils._rebuild_tensor": shallow,
    "torch._utils._rebuild_tensor_v2": shallow,
    "torch._utils._rebuild_parameter": shallow,
    "torch.Size": shallow,
    "torch.device": only_scalars,
    "collections.OrderedDict": lambda arguments: not arguments,
    "builtins.set": only_scalars,
    "builtins.getattr": lambda arguments: len(arguments) == 2 and type(arguments[1]) is str,
    "_codecs.encode": lambda arguments: len(arguments) == 2 and type(arguments[0]) is str and arguments[1] == "latin1",
    "numpy.dtype": lambda arguments: bool(arguments) and type(arguments[0]) is str and bool(PLAIN_DTYPE.fullmatch(arguments[0])),
    "numpy.core.multiarray.scalar": shallow,
    "numpy._core.multiarray.scalar": shallow,
    DILL_TYPE: lambda arguments: len(arguments) == 1 and type(arguments[0]) is str and arguments[0] in PLAIN_TYPES,
    "torchvision.transforms.functional.InterpolationMode": only_scalars,
    **dict.fromkeys([f"{module}.IterableSimpleNamespace" for module in ("ultralytics.utils", "ultralytics.yolo.utils")], only_scalars),
    **{f"{module}.{kind}Path": only_scalars for module in ("pathlib", "pathlib._local") for kind in ("Posix", "Windows")},
}
"""What a stock model's checkpoint calls, and which arguments are allowed. Every other object is made empty and then filled."""


def survey(pickled: bytes) -> Survey:
    """Follow a pickle without running it.

    Raises:
        RefusedPickle: it calls what no stock model does.
        Malformed: it is damaged, or larger than that of any model.
    """
    if len(pickled) > LARGEST_PICKLE:
        raise Malformed(f"describes its model in {len(pickled) >> 20} MB, which no model needs")
    machine = Machine()
    try:
        for number, (operation, argument, _) in enumerate(pickletools.genops(pickled)):
            if number > MOST_OPERATIONS:
                raise Malformed("describes its model in more steps than any model needs")
            STEPS.get(operation.name, unknown)(machine, operation.name, argument)
    except PrunerError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, UnicodeError, OverflowError, RecursionError) as error:
        raise Malformed(f"is damaged (its pickle cannot be read: {type(error).__name__})") from error
    return Survey(tuple(sorted(machine.names)), tuple(machine.storages.values()))


@dataclass
class Machine:
    """The state of the unpickler: its stack, the stacks below marks, its memo, and what was seen."""

    stack: list[Any] = field(default_factory=list)
    below: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)
    storages: dict[str, Storage] = field(default_factory=dict)

    def pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        above, self.stack = self.stack, self.below.pop()
        return above


def push_argument(machine: Machine, name: str, argument: Any) -> None:
    """A string or a number."""
    machine.stack.append(argument)


def push_constant(machine: Machine, name: str, argument: Any) -> None:
    """None, true, false, or the empty tuple."""
    machine.stack.append(CONSTANTS[name])


def push_empty(machine: Machine, name: str, argument: Any) -> None:
    """A new container."""
    machine.stack.append(EMPTY[name]())


def push_global(machine: Machine, name: str, argument: str) -> None:
    """A name, in Python 3's module where the pickle has Python 2's."""
    taken = todays_name(*argument.split(" ", 1))
    machine.names.add(taken)
    machine.stack.append(Name(taken))


def todays_name(module: str, attribute: str) -> str:
    """A name of a module as "module.name", with Python 2's modules renamed."""
    return ".".join(_compat_pickle.NAME_MAPPING.get((module, attribute), (_compat_pickle.IMPORT_MAPPING.get(module, module), attribute)))


def push_tuple(machine: Machine, name: str, argument: Any) -> None:
    """A tuple of the last one, two or three values, or of all above the mark."""
    if name == "TUPLE":
        items = machine.pop_mark()
    else:
        length = int(name.removeprefix("TUPLE"))
        items = [machine.stack.pop() for _ in range(length)][::-1]
    machine.stack.append(tuple(items))


def append(machine: Machine, name: str, argument: Any) -> None:
    """More items of a list."""
    items = machine.pop_mark() if name == "APPENDS" else [machine.stack.pop()]
    if type(machine.stack[-1]) is list:
        machine.stack[-1].extend(items)


def set_items(machine: Machine, name: str, argument: Any) -> None:
    """More entries of a dictionary; keys are checked, values are not."""
    items = machine.pop_mark() if name == "SETITEMS" else [machine.stack.pop() for _ in range(2)][::-1]
    if not machine.stack:
        raise IndexError
    if not all(type(key) in SCALARS for key in items[::2]):
        raise RefusedPickle("has keys in its dictionaries that are neither text nor numbers")


def call(machine: Machine, name: str, argument: Any) -> None:
    """A function called with its arguments."""
    arguments, function = machine.stack.pop(), machine.stack.pop()
    shown = function if isinstance(function, Name) else f"what {function.by} gave" if isinstance(function, Made) else "something else"
    if not isinstance(function, Name) or function not in CALLS:
        raise RefusedPickle(f"calls {shown}")
    if type(arguments) is not tuple or not CALLS[function](arguments):
        raise RefusedPickle(f"calls {shown} with what no stock model gives it")
    machine.stack.append(Name(f"builtins.{arguments[0]}") if function == DILL_TYPE else Made(str(function)))


def make_empty(machine: Machine, name: str, argument: Any) -> None:
    """An empty object of a class, to be filled."""
    arguments, kind = machine.stack.pop(), machine.stack.pop()
    if not isinstance(kind, Name) or arguments != ():
        raise RefusedPickle("makes objects in a way that no stock model does")
    machine.stack.append(Made(str(kind)))


def fill(machine: Machine, name: str, argument: Any) -> None:
    """An object's state."""
    state, made = machine.stack.pop(), machine.stack[-1]
    if isinstance(made, Made) and made.by == "numpy.dtype" and not (type(state) is tuple and state[2:5] == (None, None, None)):
        raise RefusedPickle("describes numbers as structures, which no stock model does")


def refer(machine: Machine, name: str, argument: Any) -> None:
    """A storage in the archive."""
    match machine.stack.pop():
        case ("storage", Name() as kind, str(key), str(), int(numbers)) if numbers >= 0:
            machine.storages[key] = Storage(key, str(kind), max(numbers, machine.storages.get(key, Storage("", "", 0)).numbers))
            machine.stack.append(Made("a storage"))
        case _:
            raise Malformed("is damaged (it refers to its weights in a way that PyTorch does not)")


def remember(machine: Machine, name: str, argument: int) -> None:
    """Store the top of the stack in the memo."""
    machine.memo[argument] = machine.stack[-1]


def recall(machine: Machine, name: str, argument: int) -> None:
    """Push a value of the memo."""
    machine.stack.append(machine.memo[argument])


def mark(machine: Machine, name: str, argument: Any) -> None:
    """A new stack above the one so far."""
    machine.below.append(machine.stack)
    machine.stack = []


def nothing(machine: Machine, name: str, argument: Any) -> None:
    """The beginning and the end."""


def unknown(machine: Machine, name: str, argument: Any) -> None:
    """An operation of another pickle protocol than that of `torch.save`."""
    raise RefusedPickle(f"is pickled with {name}, which torch.save writes only with a pickle_protocol of the caller: save it without")


Step = Callable[[Machine, str, Any], None]
EMPTY: dict[str, Callable[[], Any]] = {"EMPTY_LIST": list, "EMPTY_DICT": lambda: Made("a dictionary"), "EMPTY_SET": lambda: Made("a set")}
CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
STEPS: dict[str, Step] = {
    **dict.fromkeys(["BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"], push_argument),
    **dict.fromkeys(CONSTANTS, push_constant),
    **dict.fromkeys(EMPTY, push_empty),
    **dict.fromkeys(["TUPLE", "TUPLE1", "TUPLE2", "TUPLE3"], push_tuple),
    **dict.fromkeys(["APPEND", "APPENDS"], append),
    **dict.fromkeys(["SETITEM", "SETITEMS"], set_items),
    **dict.fromkeys(["BINPUT", "LONG_BINPUT"], remember),
    **dict.fromkeys(["BINGET", "LONG_BINGET"], recall),
    **dict.fromkeys(["PROTO", "STOP"], nothing),
    "GLOBAL": push_global,
    "MARK": mark,
    "REDUCE": call,
    "NEWOBJ": make_empty,
    "BUILD": fill,
    "BINPERSID": refer,
}
