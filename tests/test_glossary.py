"""One word, one thing: words that `docs/glossary.md` leaves out are in no text that users read, and hardly anywhere else."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PLAIN = (
    r"\bsomebody\b", r"\bnobody\b", r"\bwhoever\b", r"\bwhatever\b", r"\bgoes? along\b", r"\bas it stands\b", r"\bis no [a-z]+",
    r"\bthe word of\b",
    r"\bone (?:is|was|can|may)\b", r"\bso many\b",
)  # fmt: skip
"""Turns of phrase that a reader of English as a second language stumbles over."""
ON_THE_SCREEN = (
    *PLAIN, r"\breads less\b", r"\bGentle cuts\b", r"\bOpened lately\b", r"\bElsewhere\b", r"\btaught\b", r"\bmeasured again\b",
    r"\bIn reach\b",
    r"\bsatisfiable\b", r"\btakes it\b", r"\bstumbled\b", r"\bfalls by\b", r"\bFinding one's way\b", r"\bGo on with\b", r"\bgoes on with\b",
)  # fmt: skip
OUT_OF_DOCSTRINGS = (
    r"\bno matter\b", r"\bheirs?\b", r"\bhand(?:s|ed)? (?:out|on|through)\b", r"\b(?:is|are) told\b", r"\bbe it\b", r"\blives? or dies?\b",
    r"\bstands? beside\b", r"\bwhom\b", r"\banew\b", r"\bcomes? of it\b",
)  # fmt: skip
"""Turns of phrase that are out of all names, docstrings, comments and texts."""
MOST = 15
OUT_OF_CODE = re.compile(r"(^|_)(subjects?|evidence|rooms?|stations?|diary|inquiry|residence|board|quicken)(_|$)")
"""Names that code does not use: each is replaced by the noun that it holds (a key of 0.1.0 may still be read under its old name)."""


def found(patterns: tuple[str, ...], text: str) -> list[str]:
    return [match.group() for pattern in patterns for match in re.finditer(pattern, text)]


def shown_texts(file: Path) -> str:
    """The strings of a module that are no docstrings."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(statement.value)
        for node in ast.walk(tree)
        if isinstance(node, documented)
        for statement in node.body
        if isinstance(statement, ast.Expr)
    }
    texts = [
        node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]
    return "\n".join(texts)


def names_in(tree: ast.AST) -> set[str]:
    """Everything that a module calls something: classes, functions, arguments, variables, attributes and modules."""
    found = {node.name for node in ast.walk(tree) if isinstance(node, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))}
    found |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    found |= {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    return found | {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def in_words(name: str) -> str:
    """A name with underscores between its words, in lower case."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower()


def test_names_in_code_use_no_replaced_word():
    files = [*(ROOT / "tui_pruner").rglob("*.py")]
    names = {file.name: {*names_in(ast.parse(file.read_text(encoding="utf-8"))), file.stem} for file in files}
    assert {
        file: out for file, found in names.items() if (out := sorted(name for name in found if OUT_OF_CODE.search(in_words(name))))
    } == {}
    assert OUT_OF_CODE.search(in_words("ScanSubject")) and not OUT_OF_CODE.search(in_words("dashboard"))


def test_screen_help_and_readme_use_the_words_of_the_glossary():
    screens = [*(ROOT / "tui_pruner/tui").rglob("*.py"), *(ROOT / "tui_pruner/cli").rglob("*.py")]
    wrong = {str(file.relative_to(ROOT)): words for file in screens if (words := found(ON_THE_SCREEN, shown_texts(file)))}
    texts = [ROOT / "README.md", *(ROOT / "tests/tui/golden").glob("*.txt")]
    wrong |= {file.name: words for file in texts if (words := found(ON_THE_SCREEN, file.read_text(encoding="utf-8")))}
    assert wrong == {}


def test_docstrings_use_no_replaced_phrase():
    files = [*(ROOT / "tui_pruner").rglob("*.py")]
    assert len(files) > 200
    wrong = {file.name: words for file in files if (words := found(OUT_OF_DOCSTRINGS, file.read_text(encoding="utf-8")))}
    assert wrong == {}


def test_code_and_docs_use_few_discouraged_phrases():
    files = [*(ROOT / "tui_pruner").rglob("*.py"), *(ROOT / "docs").rglob("*.md")]
    words = [word for file in files if file.name != "glossary.md" for word in found(PLAIN, file.read_text(encoding="utf-8"))]
    assert len(words) <= MOST, words
