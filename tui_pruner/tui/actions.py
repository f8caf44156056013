"""Actions, their keys (also the user's own), and the registry in which a screen finds them by id.

One object provides key, footer, help, palette and the command line's help. Controllers put their actions into the registry,
which imports none of them.
"""

from __future__ import annotations

import difflib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from textual.binding import Binding
from textual.keys import Keys, format_key

if TYPE_CHECKING:
    from tui_pruner.storage.model_file import ModuleNames
    from tui_pruner.tui.state import AppState


RATIO, STEPS, JOBS, VIEW = "Ratio", "Steps and file", "Jobs", "Navigation"
GROUPS = (RATIO, STEPS, JOBS, VIEW)
INTERACTIVE = "-"
"""The command line of an action that has no meaning without a screen."""

TREE, MAP, DETAIL, PATH, STEPS_PANE, ALL_JOBS, STAGES = "tree", "map", "detail", "path", "steps", "all-jobs", "stages"
DETECTIONS = "detections"
SLIDER = "slider"
FLOW = "flow"
PANE_TITLES: Mapping[str, str] = {
    TREE: "The model",
    MAP: "The map",
    DETAIL: "The detail",
    PATH: "The explanation",
    FLOW: "The channel flow",
    STEPS_PANE: "The steps",
    ALL_JOBS: "The background jobs",
    STAGES: "The lineage and the front",
    DETECTIONS: "The detections",
    SLIDER: "The target slider",
}
PANE_MOVES: Mapping[str, tuple[tuple[str, str], ...]] = {
    TREE: (
        ("up down", "Go to the row above or below; k and j too."),
        ("home end", "Go to the first or the last row; g and G too."),
        ("^u ^d", "Go half a page up (ctrl+u) or down (ctrl+d), in every pane."),
    ),
    MAP: (("arrows", "Go to the block beside, above or below."), ("enter", "Show the block under the cursor in the tree.")),
    DETAIL: (("up down", "Scroll."),),
    PATH: (("up down", "Go from hop to hop of the explanation."),),
    FLOW: (("up down", "Go from block to block."),),
    SLIDER: (("up down", "Go to the row above or below; all other keys act on the model, and those that cut close the slider."),),
}


EVALUATE, BATCHES, RECOVERY = ("evaluate",), ("batches",), ("batches", "train")
NEEDED_BY: Mapping[str, Sequence[str]] = {
    **dict.fromkeys(("validate", "validate-masked", "automatic", "scan"), EVALUATE),
    "refitting": BATCHES,
    "recover": RECOVERY,
}
"""Which of a module's functions an action needs, one of several, by its id."""
NAMES_IN = {name: f"--{name} package.module:{name}" for name in (*EVALUATE, *RECOVERY)}
NO_FILE = "this reads a checkpoint file, which a module is not"
NO_CLASSES = "the classes and boxes of a module's outputs are not known"
NOT_FOR_MODULES: Mapping[str, str] = {
    "choose-data": "a module is measured by its own function, and refitted on its own batches: name them when it is opened",
    **dict.fromkeys(("take-mask", "train-sparse"), NO_FILE),
    **dict.fromkeys(("detections", "stage-detections", "keep-classes"), NO_CLASSES),
    "flow": "the channel flow is for an image through the blocks of a yaml: explain shows where a layer's channels go",
}
"""Why actions are disabled where any module is open, by their ids."""


def why_not_for(module: ModuleNames, id: str) -> str:
    """Why an action cannot be done on a module; empty where it can."""
    wanted = NEEDED_BY.get(id, ())
    if wanted and not any(getattr(module, name) for name in wanted):
        return f"this module has no function for that: open it with {' or '.join(NAMES_IN[name] for name in wanted)}"
    return NOT_FOR_MODULES.get(id, "")


def always(state: AppState) -> str:
    """Return no reason: for an action that is never disabled."""
    return ""


@dataclass(frozen=True, kw_only=True)
class Action:
    """Something that the user can do.

    `id`: its name in the user's keymap. `keys`: as Textual names them, empty where only the palette has it; `shown`: as they are
    displayed. `cli`: the equivalent command line, `INTERACTIVE` where the action has no meaning without a
    screen. `footer`: its word in the footer, if it is shown there. Keys hold in the focused `pane` (a widget's id), if
    named, and take precedence over the screen's. `disabled_reason`: why it is disabled, in one line; empty where it is not.
    """

    id: str
    title: str
    help: str
    group: str
    cli: str
    run: Callable[..., object]
    keys: str = ""
    shown: str = ""
    footer: str = ""
    pane: str = ""
    disabled_reason: Callable[[AppState], str] = always

    def why_disabled(self, state: AppState) -> str:
        """Why it is disabled, for any module or now; empty where it is not."""
        module = state.checkpoint.opening.module
        return (why_not_for(module, self.id) if module else "") or self.disabled_reason(state)

    @property
    def binding(self) -> Binding:
        """The action as a key binding with its tooltip."""
        return Binding(
            self.keys,
            f"screen.run('{self.id}')" if self.pane else f"run('{self.id}')",
            self.title,
            show=False,
            key_display=self.shown or self.keys,
            tooltip=self.help,
            id=self.id,
        )


PALETTE_KEY = "ctrl+p"
MOTIONS = ("up", "down", "home", "end", "j", "k", "g", "G", "ctrl+d", "ctrl+u")
TAKEN = dict.fromkeys(MOTIONS, "moving about") | {
    PALETTE_KEY: "the palette",
    "ctrl+q": "quitting",
    **{str(digit): "typing a ratio" for digit in range(1, 10)},
}
NAMED = frozenset(key.value for key in Keys)
MODIFIERS = ("ctrl+", "alt+", "shift+")

FORMER_IDS = {"station-1": "hop-1", "station-minus-1": "hop-minus-1"}
"""Former ids of actions, which a user's keymap may still have."""


@dataclass(frozen=True)
class Keymap:
    """The actions with their present keys, the overrides as Textual takes them, and the problems of the user's keymap."""

    actions: tuple[Action, ...]
    overrides: Mapping[str, str]
    problems: tuple[str, ...] = ()


def keymap_of(actions: Sequence[Action], wanted: Mapping[str, Any]) -> Keymap:
    """Give actions other keys by their ids; an unknown id or key, or a key that two actions would share, leaves the default."""
    problems: list[str] = []
    overrides = _known(actions, wanted, problems)
    while clash := _clash(actions, overrides):
        problems.append(clash.message)
        for id in clash.losers:
            del overrides[id]
    return Keymap(tuple(_with_keys(action, overrides.get(action.id)) for action in actions), overrides, tuple(problems))


_shown: dict[str, str] = {}


def use(keymap: Keymap) -> None:
    """Use these keys wherever keys are shown."""
    _shown.clear()
    _shown.update({action.id: shown_keys(action) for action in keymap.actions})


def shown(action: Action) -> str:
    """The present keys of an action, as displayed."""
    return _shown.get(action.id) or shown_keys(action)


def key_of(id: str) -> str:
    """The first present key of an action, for messages."""
    return _shown[id].split()[0]


def shown_keys(action: Action) -> str:
    """An action's keys as displayed; the palette's where it has none."""
    return action.shown or action.keys.replace(",", " ") or PALETTE_KEY


@dataclass(frozen=True)
class _Clash:
    message: str
    losers: tuple[str, ...]


def _known(actions: Sequence[Action], wanted: Mapping[str, Any], problems: list[str]) -> dict[str, str]:
    ids = {action.id for action in actions}
    overrides = {}
    for given, written in wanted.items():
        id = FORMER_IDS.get(given, given)
        words = " ".join(map(str, written)) if isinstance(written, list) else str(written)
        keys = list(dict.fromkeys(_name_of(key) for key in words.replace(",", " ").split()))
        bad = [key for key in keys if not _exists(key)]
        if id not in ids:
            near = difflib.get_close_matches(id, ids, n=1)
            problems.append(f"keymap: no action {id!r}{f', did you mean {near[0]}?' if near else ''} (see tui-pruner keys)")
        elif bad or not keys:
            problems.append(f"keymap: {id}: no key {bad[0] if bad else ''!r}: its default is used")
        else:
            overrides[id] = ",".join(keys)
    return overrides


def _clash(actions: Iterable[Action], overrides: Mapping[str, str]) -> _Clash | None:
    """The first key that two actions of one pane, or of no pane, would share, or that is reserved."""
    owners: dict[tuple[str, str], list[str]] = defaultdict(list)
    for action in actions:
        for key in overrides.get(action.id, action.keys).split(","):
            owners[action.pane, key].append(action.id)
    for (pane, key), ids in owners.items():
        losers = tuple(id for id in ids if id in overrides)
        taken = [TAKEN[key]] if key in TAKEN and not pane else []
        others = [*taken, *(id for id in ids if id not in losers[:1])]
        if losers and others:
            return _Clash(f"keymap: {key} of {losers[0]} is also for {', '.join(others)}: {_defaults(losers)}", losers)
    return None


def _defaults(losers: Sequence[str]) -> str:
    return f"the default{'s are' if len(losers) > 1 else ' is'} used"


def _with_keys(action: Action, keys: str | None) -> Action:
    return action if keys is None else replace(action, keys=keys, shown=" ".join(format_key(key) for key in keys.split(",")))


def _name_of(key: str) -> str:
    """Textual's name of a key: / is slash."""
    return next(iter(Binding.make_bindings([(key, "", "")]))).key


def _exists(key: str) -> bool:
    while key.startswith(MODIFIERS):
        key = key.partition("+")[2]
    return key in NAMED or len(key) == 1 or format_key(key) != key


DIGITS = tuple(Binding(str(digit), f"run('type-share', '{digit}')", "Type a ratio", show=False) for digit in range(1, 10))


class Registry:
    """Actions by id in the order of registration, and moves, which only panes and mouse clicks request."""

    def __init__(self, actions: Iterable[Action] = ()) -> None:
        self._actions: dict[str, Action] = {}
        self._moves: dict[str, Callable[..., object]] = {}
        self.register(actions)

    def __iter__(self) -> Iterator[Action]:
        return iter(self._actions.values())

    def register(self, actions: Iterable[Action], moves: Mapping[str, Callable[..., object]] | None = None) -> None:
        """Register actions and moves.

        Raises:
            ValueError: another action has the same id.
        """
        for action in actions:
            if action.id in self._actions:
                raise ValueError(f"two actions are called {action.id}")
            self._actions[action.id] = action
        self._moves.update(moves or {})

    def find(self, id: str) -> Action | None:
        """Return the action of this id; None where the screen has none."""
        return self._actions.get(id)

    def move(self, id: str) -> Callable[..., object] | None:
        """Return the move of this name, for a pane or a mouse click; None where the screen has none."""
        return self._moves.get(id)


def bindings(actions: Iterable[Action], pane: str = "") -> list[Binding]:
    """The key bindings of these actions in a pane, by its id; without a pane, those of the whole screen."""
    return [action.binding for action in actions if action.keys and action.pane == pane]
