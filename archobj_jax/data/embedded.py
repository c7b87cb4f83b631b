"""The embedded corpus: the documentation that every Python carries, as documents of clean prose.

`pydoc_data.topics` (the language reference as pydoc shows it) and the docstrings of the standard
library, read with `ast` and never imported. It needs no download, so that a fresh clone can train
on real text; being the running Python's own, it differs a little from one Python to the next.
"""

import ast
import functools
import hashlib
import inspect
import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

SPLITS = ("train", "validation")
SHARDS = 8
VALIDATION_PERCENT = 5
MIN_WORDS = 10
MIN_LETTER_SHARE = 0.75

# Tests, tools and translations: bulky, hardly prose, and not the same in every Python's packaging.
_SKIPPED = frozenset(
    {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo"}
    | {"ensurepip", "pydoc_data", "__phello__", "__pycache__", "_pyrepl"}
)


class Document(NamedTuple):
    """One document of the corpus: its name (`topic/…` or `module/…`) and its paragraphs."""

    name: str
    text: str


def declaration() -> dict[str, object]:
    """Returns what the corpus depends on, without reading it: the Python and the rules here."""
    return {
        "corpus": "embedded",
        "python": ".".join(map(str, sys.version_info[:3])),
        "min_words": MIN_WORDS,
        "min_letter_share": MIN_LETTER_SHARE,
        "validation_percent": VALIDATION_PERCENT,
        "shards": SHARDS,
    }


def documents(split: str) -> list[Document]:
    """Returns the documents of `split` ("train" or "validation"), always in the same order."""
    wanted = SPLITS.index(split)
    return [document for document in _corpus() if _is_validation(document.name) == bool(wanted)]


def shard_documents(split: str, index: int, count: int) -> list[Document]:
    """Returns every `count`-th document of `split`, from `index` on."""
    return documents(split)[index::count]


@functools.lru_cache(maxsize=1)
def _corpus() -> tuple[Document, ...]:
    """All documents; a paragraph that occurs in several is kept in the first alone."""
    seen: set[str] = set()
    corpus = []
    for name, raw in (*_topics(), *_modules()):
        kept = [p for p in _paragraphs(raw) if p not in seen]
        unique = list(dict.fromkeys(kept))
        seen.update(unique)
        if unique:
            corpus.append(Document(name, "\n\n".join(unique)))
    return tuple(corpus)


def _is_validation(name: str) -> bool:
    return hashlib.sha256(name.encode()).digest()[0] * 100 < VALIDATION_PERCENT * 256


def _topics() -> Iterator[tuple[str, str]]:
    from pydoc_data.topics import topics

    for name in sorted(topics):
        yield f"topic/{name}", topics[name]


def _modules() -> Iterator[tuple[str, str]]:
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.rglob("*.py"), key=lambda p: p.relative_to(root).parts):
        parts = path.relative_to(root).with_suffix("").parts
        if _SKIPPED.isdisjoint(parts) and not parts[-1].startswith("test_"):
            yield "module/" + ".".join(parts).removesuffix(".__init__"), _docstrings(path)


def _docstrings(path: Path) -> str:
    """Returns the docstrings of a source file in the order in which they stand."""
    try:
        tree = ast.parse(path.read_bytes())
    except SyntaxError:  # templates and deliberately broken sources
        return ""
    return "\n\n".join(_docstrings_of(tree))


def _docstrings_of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        docstring = ast.get_docstring(node, clean=False)
        if docstring:
            yield inspect.cleandoc(docstring)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):  # definitions stand only where statements do
            yield from _docstrings_of(child)


def _paragraphs(text: str) -> Iterator[str]:
    for block in re.split(r"\n\s*\n", text):
        words = block.split()
        paragraph = " ".join(words)
        solid = sum(map(len, words))
        if len(words) >= MIN_WORDS and sum(map(str.isalpha, paragraph)) >= MIN_LETTER_SHARE * solid:
            yield paragraph
