"""A prompted data set as a SeqIO source: its records, rendered by one prompt."""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import seqio
import tensorflow as tf

from archobj_jax.errors import MachineError, UserError
from archobj_jax.objectives import rng_for
from archobj_jax.prompts.records import Records
from archobj_jax.prompts.template import PromptError, Rendered, Template

_TEXT = tf.TensorSpec([], tf.string)


class PromptedSource(seqio.DataSource):
    """Examples as a prompt puts them, in the records' order; those it leaves out are left out.

    Elements have "inputs" and "targets", string scalars, and "answer_choices", string [C], if the
    prompt has choices. For rank classification there is an element for each choice instead, as T0
    has it: "inputs", "targets" (the choice), "idx" int32 [2] (number of the record, which is the
    same for all prompts, and of the choice), "is_correct" bool, "weight" float32 (1).

    Args:
      name: names the cache's folder.
      template: the prompt.
      records: the data set.
      ranked: whether for rank classification.
      splits: the records' split for each of ours, where they differ.
      group: name of the data set, the same for all of its prompts; the template's by default.

    Raises:
      UserError: `ranked`, and the prompt has no answer choices. What is wrong with a record is a
        UserError when it is read, and so is a split without a usable example.
    """

    def __init__(
        self,
        name: str,
        template: Template,
        records: Records,
        *,
        ranked: bool = False,
        splits: Mapping[str, str] | None = None,
        group: str | None = None,
    ):
        if ranked and template.answer_choices is None:
            raise UserError(
                f"{template.title} has no answer_choices, among which rank classification "
                "chooses; expected a prompt with choices"
            )
        self.name = name
        self.problem: Exception | None = None
        """The error that ended reading, which tf.data passes on only as text."""
        self.left_out: dict[str, int] = {}
        """Records of each split that was read to its end of which the prompt makes no example."""
        self.group = group or "_".join(filter(None, (template.dataset, template.subset)))
        self.prompt = template.name
        self._template, self._records, self._ranked = template, records, ranked
        self._read_as = dict(splits or {split: split for split in records.splits})
        super().__init__(splits=tuple(self._read_as))

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """A split is one shard."""
        return False

    def declaration(self) -> dict[str, object]:
        """Returns what the elements depend on, without reading records."""
        return {
            "jinja": self._template.jinja,
            "answer_choices": self._template.answer_choices,
            "prompt": self._template.title,
            "records": self._records.declaration(),
            "splits": self._read_as,
            "ranked": self._ranked,
        }

    def files(self, split: str) -> list[list[Any]] | None:
        """Returns the files that the records of `split` are read from; see `Records`."""
        return self._records.files(self._read_as[split])

    def list_shards(self, split: str) -> list[str]:
        """Returns the one shard's name."""
        return [split]

    def get_dataset(  # type: ignore[no-untyped-def]  # SeqIO's signature, not all of it ours
        self, split="train", shuffle=True, seed=None, shard_info=None, **_
    ) -> tf.data.Dataset:
        """Returns the elements of a split."""

        def elements() -> Iterator[dict[str, Any]]:
            try:
                yield from self._elements(split)
            except (UserError, MachineError) as error:
                self.problem = error
                raise

        dataset = tf.data.Dataset.from_generator(elements, output_signature=self._signature())
        if shard_info is not None and shard_info.num_shards > 1:
            dataset = dataset.shard(shard_info.num_shards, shard_info.index)
        return dataset.shuffle(10_000, seed=seed) if shuffle else dataset

    def rendered(self, split: str) -> Iterator[tuple[int, Rendered]]:
        """Yields a record's number and what the prompt makes of it, unless it leaves it out.

        Raises:
          UserError, MachineError: as reading and rendering do; also if all are left out.
        """
        seed = zlib.crc32(self._template.title.encode())
        number, usable = -1, 0
        for number, (where, record) in enumerate(self._records.read(self._read_as[split])):
            try:
                rendered = self._template.render(record, rng_for(seed, number))
            except PromptError as error:
                raise PromptError(f"{where}: {error}") from error
            if rendered:
                usable += 1
                yield number, rendered
        if not usable:
            raise UserError(
                f"'{self.name}', split '{split}': {self._template.title} makes no example of the "
                f"{number + 1} records; expected some with an input and a target"
            )
        self.left_out[split] = number + 1 - usable

    def _elements(self, split: str) -> Iterator[dict[str, Any]]:
        for number, rendered in self.rendered(split):
            if self._ranked:
                yield from _ranked(number, rendered)
            else:
                texts = {"inputs": rendered.inputs, "targets": rendered.targets}
                choices = rendered.answer_choices
                yield texts if choices is None else texts | {"answer_choices": list(choices)}

    def _signature(self) -> dict[str, tf.TensorSpec]:
        texts = {"inputs": _TEXT, "targets": _TEXT}
        if self._ranked:
            return texts | {
                "idx": tf.TensorSpec([2], tf.int32),
                "is_correct": tf.TensorSpec([], tf.bool),
                "weight": tf.TensorSpec([], tf.float32),
            }
        if self._template.answer_choices is None:
            return texts
        return texts | {"answer_choices": tf.TensorSpec([None], tf.string)}


def _ranked(number: int, rendered: Rendered) -> Iterator[dict[str, Any]]:
    for index, choice in enumerate(rendered.answer_choices or ()):
        yield {
            "inputs": rendered.inputs,
            "targets": choice,
            "idx": [number, index],
            "is_correct": choice == rendered.targets,
            "weight": 1.0,
        }
