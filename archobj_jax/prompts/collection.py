"""PromptSource's `templates.yaml` files, read safely; a broken prompt does not spoil the others."""

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from archobj_jax.errors import UserError, did_you_mean
from archobj_jax.prompts.template import Metadata, PromptError, Template

FILE_NAME = "templates.yaml"

MAX_BYTES = 1 << 20
"""Bytes of one file (the largest of PromptSource's has 16,918)."""

Key = tuple[str, str | None]
"""Data set and subset."""


@dataclass(frozen=True)
class PromptCollection:
    """The prompts of some data sets.

    Attributes:
      prompts: by data set and subset, then by name, in the files' order of names.
      problems: what is wrong with prompts that were left out, by data set, subset and name.
    """

    prompts: Mapping[Key, Mapping[str, Template]]
    problems: Mapping[tuple[str, str | None, str], PromptError] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path) -> "PromptCollection":
        """Returns the prompts of a file, or of every `templates.yaml` under a folder.

        A prompt that is not valid goes to `problems`; the others are read.

        Raises:
          UserError: there is no such file, or one is not a file of templates.
        """
        prompts: dict[Key, dict[str, Template]] = {}
        problems: dict[tuple[str, str | None, str], PromptError] = {}
        for file in _files(Path(path)):
            key, templates = _read_file(file)
            if key in prompts:
                raise UserError(f"{file} repeats the prompts of {'/'.join(filter(None, key))}")
            prompts[key] = {}
            for template in sorted(templates, key=lambda each: each.name):
                try:
                    template.check()
                except PromptError as error:
                    problems[(*key, template.name)] = error
                else:
                    prompts[key][template.name] = template
        return cls(prompts, problems)

    def __len__(self) -> int:
        return sum(map(len, self.prompts.values()))

    def __iter__(self) -> Iterator[Template]:
        for templates in self.prompts.values():
            yield from templates.values()

    def of(self, dataset: str, subset: str | None = None) -> Mapping[str, Template]:
        """Returns the prompts of a data set by name.

        Raises:
          UserError: there are none.
        """
        found = self.prompts.get((dataset, subset))
        if found is None:
            name = "/".join(filter(None, (dataset, subset)))
            known = ["/".join(filter(None, key)) for key in self.prompts]
            raise UserError(f"no prompts are there for '{name}'.{did_you_mean(name, known)}")
        return found

    def find(self, dataset: str, subset: str | None, name: str) -> Template:
        """Returns a prompt.

        Raises:
          UserError: the data set has no such prompt.
          PromptError: that prompt is not valid.
        """
        templates = self.of(dataset, subset)
        if name in templates:
            return templates[name]
        if (dataset, subset, name) in self.problems:
            raise self.problems[dataset, subset, name]
        where = "/".join(filter(None, (dataset, subset)))
        raise UserError(f"{where} has no prompt '{name}'.{did_you_mean(name, templates)}")


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """YAML's safe loader, and mappings under PromptSource's two tags.

    Anchors are shared, not copied, so they cannot make a small file large; merge keys could.
    """

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        """Refuses the merge key `<<`, which YAML would expand."""
        if any(key.tag == "tag:yaml.org,2002:merge" for key, _ in node.value):
            raise yaml.constructor.ConstructorError(
                None, None, "the merge key '<<' is not read", node.start_mark
            )


def _mapping(loader: Any, node: yaml.Node) -> dict[str, Any]:
    return loader.construct_mapping(node, deep=True)


_Loader.add_constructor("!Template", _mapping)
_Loader.add_constructor("!TemplateMetadata", _mapping)


def _files(path: Path) -> list[Path]:
    files = sorted(path.rglob(FILE_NAME)) if path.is_dir() else [path]
    if not files:
        raise UserError(f"no {FILE_NAME} lies under {path}; expected PromptSource's folders")
    return files


def _read_file(path: Path) -> tuple[Key, list[Template]]:
    content = _load(path)
    if not isinstance(content, dict) or not isinstance(content.get("templates"), dict):
        raise UserError(f"{path}: expected a mapping with 'dataset' and 'templates'")
    dataset, subset = content.get("dataset"), content.get("subset")
    if not isinstance(dataset, str) or not isinstance(subset, str | None):
        raise UserError(f"{path}: expected text under 'dataset' (and under 'subset', if there)")
    templates = [
        _template(entry, (dataset, subset), path) for entry in content["templates"].values()
    ]
    names = [template.name for template in templates]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"{path}: two prompts are named '{name}'")
    return (dataset, subset), templates


def _load(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            text = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); expected {FILE_NAME}"
        ) from error
    if len(text) > MAX_BYTES:
        raise UserError(f"{path} is larger than a file of templates may be ({MAX_BYTES:,} bytes)")
    try:
        return yaml.load(text, _Loader)  # safe: `_Loader` is
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{path} is not a YAML file of templates: {problem}") from error


def _template(entry: Any, key: Key, path: Path) -> Template:
    if not isinstance(entry, dict):
        raise UserError(
            f"{path}: expected !Template entries under 'templates', found {type(entry).__name__}"
        )
    read = functools.partial(_field, entry, f"{path}, prompt '{entry.get('id')}'")
    read_metadata = functools.partial(
        _field, read("metadata", dict) or {}, f"{path}, metadata of '{read('name', str)}'"
    )
    metadata = Metadata(
        original_task=bool(read_metadata("original_task", bool)),
        choices_in_prompt=read_metadata("choices_in_prompt", bool),
        metrics=_texts(read_metadata("metrics", list)),
        languages=_texts(read_metadata("languages", list)),
    )
    return Template(
        *key,
        name=read("name", str, required=True),
        id=read("id", str) or "",
        jinja=read("jinja", str, required=True),
        answer_choices=read("answer_choices", str),
        metadata=metadata,
        reference=read("reference", str) or "",
    )


def _field(
    entry: Mapping[str, Any], where: str, name: str, kind: type, required: bool = False
) -> Any:
    value = entry.get(name)
    if not isinstance(value, kind) and (required or value is not None):
        raise UserError(
            f"{where}: '{name}' is of type {type(value).__name__}; expected {kind.__name__}"
        )
    return value


def _texts(items: list[Any] | None) -> tuple[str, ...]:
    return tuple(item for item in items or () if isinstance(item, str))
