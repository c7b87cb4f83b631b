"""What the embedded tasks are made of: passages of the embedded corpus, and its functions."""

import ast
import functools
import re
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from archobj_jax.data import embedded
from archobj_jax.prompts.template import SEPARATOR

MAX_WORDS = 80
"""Words of a passage; four of them and a question fit a row of 1,024 tokens."""

SENTENCE_WORDS = range(6, 31)
"""Words of a sentence that tasks use by itself."""

DESCRIPTION_WORDS = range(embedded.MIN_WORDS, MAX_WORDS + 1)
"""Words of a description of a function."""

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])")
WORD = re.compile(r"[A-Za-z]{4,}")
"""What tasks take for a word: four letters or more."""


class Passage(NamedTuple):
    """A short paragraph.

    Attributes:
      document: the name of its document, `topic/…` or `module/…`.
      text: at most `MAX_WORDS` words.
      sentences: those of `SENTENCE_WORDS` words that no passage before it has, in order.
    """

    document: str
    text: str
    sentences: tuple[str, ...]

    @property
    def module(self) -> str | None:
        """The module whose documentation this is, None for a topic's."""
        kind, _, name = self.document.partition("/")
        return name if kind == "module" else None


class Function(NamedTuple):
    """A function or class and what its documentation says, with `____` for its name."""

    document: str
    name: str
    description: str


@functools.cache
def passages(split: str) -> tuple[Passage, ...]:
    """Returns the short paragraphs of a split of the corpus, in its order.

    A sentence that stands in several is one of the first alone, and one that the train documents
    have is none of a validation passage.
    """
    earlier = () if split == embedded.SPLITS[0] else passages(embedded.SPLITS[0])
    seen = {sentence for passage in earlier for sentence in passage.sentences}
    found = []
    for document in embedded.documents(split):
        for text in document.text.split("\n\n"):
            if len(text.split()) <= MAX_WORDS and SEPARATOR not in text:
                sentences = tuple(each for each in _sentences(text) if each not in seen)
                seen.update(sentences)
                found.append(Passage(document.name, text, sentences))
    return tuple(found)


@functools.cache
def functions(split: str) -> tuple[Function, ...]:
    """Returns the described functions and classes of a split's modules, names not repeated.

    A description is one of the corpus, under the same document, and so in no other split.
    """
    found: dict[str, Function] = {}
    for document in embedded.documents(split):
        kind, _, module = document.name.partition("/")
        if kind == "module":
            paragraphs = set(document.text.split("\n\n"))
            for name, description in _described(module):
                if description in paragraphs:
                    masked = re.sub(re.escape(name), "____", description, flags=re.IGNORECASE)
                    found.setdefault(name, Function(document.name, name, masked))
    return tuple(found.values())


def words(text: str) -> list[str]:
    """Returns every `WORD` of `text`, as it stands there."""
    return WORD.findall(text)


def _sentences(text: str) -> list[str]:
    parts = dict.fromkeys(_SENTENCE_END.split(text))
    return [part for part in parts if len(part.split()) in SENTENCE_WORDS]


def _described(module: str) -> Iterator[tuple[str, str]]:
    """Yields each name that a module defines and the first paragraph long enough about it."""
    root = Path(sysconfig.get_paths()["stdlib"]).joinpath(*module.split("."))
    path = root / "__init__.py" if root.is_dir() else root.with_name(root.name + ".py")
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("__"):
            for text in re.split(r"\n\s*\n", ast.get_docstring(node) or ""):
                description = " ".join(text.split())
                if len(description.split()) in DESCRIPTION_WORDS and SEPARATOR not in description:
                    yield node.name, description
                    break
