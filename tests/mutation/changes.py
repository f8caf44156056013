"""What is broken, one at a time: small changes to a module's syntax tree that a suite must notice.

Each kind of change is a function from a tree to the changes that it offers; applying one alters the tree in place. `CHANGES` says which
kinds apply to which modules.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass

FLOW = "tui_pruner.core.tracing"
CORE = "tui_pruner.core"
FRAMEWORK = "tui_pruner.frameworks.ultralytics"
PASSES = "__passes_through__"
SCRAMBLES = ("__rolled__", "__mirrored__")
LABEL_ARGUMENT = {"put": 1, "unify": 2, "unify_tensors": 2, "unify_vector": 2}
TABLES = {
    "rule": (f"{FLOW}.state RULES", "operation"),
    "kernel_rule": (f"{FLOW}.state KERNEL_RULES", "operation"),
    "adapter": (f"{FLOW}.adapters ADAPTERS", "adapter"),
    "widths_of": (f"{CORE}.model.layers WIDTHS", ""),
}
"""By decorator: the module and the name of the table that it fills, and what a test must touch to need an entry."""
OPPOSITES: dict[type[ast.operator], ast.operator] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.FloorDiv(),
    ast.FloorDiv: ast.Mult(),
    ast.Div: ast.Mult(),
}


@dataclass(frozen=True)
class Change:
    """One change: where, in words, how, and what a test must touch to notice it (a line, an operation, an adapted class).

    How is either `apply`, which alters the tree, or `drops`, a key that a table of the program loses.
    """

    line: int
    what: str
    apply: Callable[[], None] | None = None
    reach: str = ""
    drops: tuple[str, str] | None = None


Kind = Callable[[ast.Module], Iterator[Change]]


def registered(tree: ast.Module, decorator: str) -> Iterator[tuple[ast.FunctionDef, ast.Call]]:
    """Functions that a decorator puts into a table, with the decorator's call."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for call in function.decorator_list:
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == decorator:
                yield function, call


def entry_removed(tree: ast.Module) -> Iterator[Change]:
    """A table of functions by operation or by class loses one entry."""
    for decorator, (table, reach) in TABLES.items():
        for function, call in registered(tree, decorator):
            for key in (key for argument in call.args for key in keys_of(argument)):
                touched = f"{reach} {key}" if reach else f"line {first_line(function)}"
                yield Change(function.lineno, f"{decorator} for {key} removed", None, touched, (table, key))


def keys_of(argument: ast.expr) -> list[str]:
    """The names in a decorator's argument: words of a string, or what an expression ends with."""
    return argument.value.split() if isinstance(argument, ast.Constant) else [ast.unparse(argument).rpartition(".")[2]]


def rule_replaced(tree: ast.Module) -> Iterator[Change]:
    """A rule only passes its first input's labels on, or locks all that enters."""
    for function, _ in (*registered(tree, "rule"), *registered(tree, "kernel_rule")):
        flow, call = (argument.arg for argument in function.args.args)
        for what, source in (
            ("only passes labels through", f"{PASSES}({flow}, {call})\nreturn"),
            ("locks no matter what enters", f"{flow}.lock({call}, {call}.tensors, 'broken on purpose')"),
        ):

            def apply(function: ast.FunctionDef = function, source: str = source) -> None:
                function.body = [*ast.parse(source).body, *function.body]

            yield Change(function.lineno, f"rule {function.name} {what}", apply, f"line {first_line(function)}")


def pair_removed(tree: ast.Module) -> Iterator[Change]:
    """The table of widths that belong together loses one class."""
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.value, ast.Dict) and ast.unparse(node.target) == "EQUAL_WIDTHS":
            for key in (ast.literal_eval(key) for key in node.value.keys if key):
                yield Change(node.lineno, f"equal widths of {key} removed", None, f"adapter {key}", (f"{FLOW}.adapters EQUAL_WIDTHS", key))


def statements(tree: ast.Module) -> Iterator[tuple[list[ast.stmt], int, ast.stmt]]:
    """Every statement within a function, with the block that holds it and its place there."""
    for function in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)):
        for node in ast.walk(function):
            for block in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
                if isinstance(block, list) and not (isinstance(node, ast.FunctionDef) and node is not function):
                    yield from ((block, place, statement) for place, statement in enumerate(block))


def step_skipped(tree: ast.Module) -> Iterator[Change]:
    """A call whose result is not used, a lock, a union, a link, is left out; so is a `raise`, a `continue` or a bare `return`."""
    for block, place, statement in statements(tree):
        is_call = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call) and "super()" not in ast.unparse(statement)
        if is_call or isinstance(statement, (ast.Raise, ast.Continue)) or (isinstance(statement, ast.Return) and not statement.value):

            def apply(block: list[ast.stmt] = block, place: int = place, old: ast.stmt = statement) -> None:
                block[place] = ast.copy_location(ast.Pass(), old)

            yield Change(statement.lineno, f"without {brief(statement)}", apply)


def labels_scrambled(tree: ast.Module) -> Iterator[Change]:
    """Labels that are put down or unified are off by one, or back to front."""
    for _, _, statement in statements(tree):
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)):
            continue
        call = statement.value
        place = LABEL_ARGUMENT.get(call.func.attr, -1) if isinstance(call.func, ast.Attribute) else -1
        if not 0 <= place < len(call.args):
            continue
        for scramble in SCRAMBLES:

            def apply(call: ast.Call = call, place: int = place, scramble: str = scramble) -> None:
                call.args[place] = ast.Call(ast.Name(scramble, ast.Load()), [call.args[place]], [])

            yield Change(statement.lineno, f"{scramble.strip('_')} labels in {brief(statement)}", apply)


def condition_forced(tree: ast.Module) -> Iterator[Change]:
    """A condition always holds, or never."""
    for node in ast.walk(tree):
        for value in (True, False):
            if isinstance(node, (ast.If, ast.IfExp)) or (isinstance(node, ast.While) and not value):

                def apply(node: ast.If | ast.IfExp | ast.While = node, value: bool = value) -> None:
                    node.test = ast.copy_location(ast.Constant(value), node.test)

                yield Change(node.test.lineno, f"{value} for {brief(node.test)}", apply)
            if isinstance(node, ast.comprehension) and node.ifs and value:

                def drop(node: ast.comprehension = node) -> None:
                    node.ifs.clear()

                yield Change(node.ifs[0].lineno, f"all, without if {brief(node.ifs[0])}", drop)


def arithmetic_turned(tree: ast.Module) -> Iterator[Change]:
    """Plus for minus, times for division, and a constant that is one more."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.BinOp):
            continue
        if type(node.op) in OPPOSITES and not isinstance(node.left, ast.List):

            def turn(node: ast.BinOp = node) -> None:
                node.op = OPPOSITES[type(node.op)]

            yield Change(node.lineno, f"opposite of {brief(node)}", turn)
        for side in (node.left, node.right):
            if isinstance(side, ast.Constant) and isinstance(side.value, int):

                def grow(side: ast.Constant = side, value: int = side.value) -> None:
                    side.value = value + 1

                yield Change(node.lineno, f"{side.value + 1} for {side.value} in {brief(node)}", grow)


def brief(node: ast.AST) -> str:
    """A piece of source on one short line."""
    text = " ".join(ast.unparse(node).split())
    return text if len(text) <= 88 else f"{text[:85]}..."


def first_line(function: ast.FunctionDef) -> int:
    """The line of the first statement after the docstring."""
    body = function.body[1:] if ast.get_docstring(function) and len(function.body) > 1 else function.body
    return body[0].lineno


RULE = (entry_removed, rule_replaced, step_skipped, labels_scrambled, condition_forced)
WORK = (step_skipped, condition_forced, arithmetic_turned)
CHANGES: dict[str, tuple[Kind, ...]] = {
    f"{FLOW}.rules.contraction": RULE,
    f"{FLOW}.rules.elementwise": RULE,
    f"{FLOW}.rules.movement": RULE,
    f"{FLOW}.rules.kernels": RULE,
    f"{FRAMEWORK}.adapters": (entry_removed, pair_removed, *WORK),
    f"{CORE}.model.layers": (entry_removed, *WORK),
    f"{FLOW}.tracer": (step_skipped, labels_scrambled, condition_forced),
    f"{FLOW}.state": (step_skipped, labels_scrambled, condition_forced),
    f"{FLOW}.coupling": WORK,
    f"{CORE}.pruning.links": WORK,
    f"{CORE}.pruning.surgery": WORK,
}


def changes(module: str, tree: ast.Module) -> list[Change]:
    """All changes of a module, in the order of its lines; the same list every time."""
    found = [change for kind in CHANGES[module] for change in kind(tree)]
    return sorted(found, key=lambda change: change.line)
