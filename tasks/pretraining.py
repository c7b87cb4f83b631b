"""Pretraining tasks: three objectives over the embedded corpus and over C4, and over your text."""

import functools

import seqio

from archobj_jax.data import vocabularies
from archobj_jax.data.embedded_source import EmbeddedCorpus
from archobj_jax.data.text_files import TextFiles
from archobj_jax.objectives import FullLm, Objective, PrefixLm, SpanCorruption

OBJECTIVES: tuple[Objective, ...] = (FullLm(), PrefixLm(), SpanCorruption())


def register_objectives(
    name: str, source: seqio.DataSource, vocabulary: seqio.Vocabulary
) -> list[seqio.Task]:
    """Registers `<name>_full_lm`, `<name>_prefix_lm` and `<name>_span_corruption`.

    Args:
      name: the corpus.
      source: elements with "text", a document.
      vocabulary: tokenises it; loaded only when a task is used.

    Returns:
      The three tasks, which share one cache.
    """
    tokenise = [
        functools.partial(seqio.preprocessors.rekey, key_map={"targets": "text"}),
        seqio.preprocessors.tokenize,
        seqio.CacheDatasetPlaceholder(),
    ]
    return [
        seqio.TaskRegistry.add(
            f"{name}_{objective.name}",
            source=source,
            preprocessors=[*tokenise, objective],
            output_features={
                feature: seqio.Feature(vocabulary, add_eos=False) for feature in objective.features
            },
        )
        for objective in OBJECTIVES
    ]


def register_text_corpus(
    name: str,
    *,
    train: str,
    validation: str | None = None,
    vocabulary: seqio.Vocabulary | None = None,
    text_key: str = "text",
    held_out: float = 0.005,
) -> list[seqio.Task]:
    """Registers the three objectives over the user's files; call it in a module of your own.

        register_text_corpus("news", train="gs://my-bucket/news-*.jsonl.zst")

    Then `MIXTURE_OR_TASK_NAME="news_full_lm"`, and `MIXTURE_OR_TASK_MODULE` names the module.

    Args:
      name: the corpus.
      train: glob of the files to train on (kinds: see `TextFiles`).
      validation: glob of the held-out files; without it, a share of the documents is held out.
      vocabulary: T5's by default.
      text_key: the key or column that holds the text.
      held_out: that share.

    Returns:
      The tasks `<name>_full_lm`, `<name>_prefix_lm` and `<name>_span_corruption`.
    """
    patterns = {"train": train} | ({"validation": validation} if validation else {})
    source = TextFiles(name, patterns, text_key=text_key, held_out=held_out)
    return register_objectives(name, source, vocabulary or vocabularies.t5_vocabulary())


register_objectives("embedded", EmbeddedCorpus(), vocabularies.embedded_vocabulary())

# C4 as TensorFlow Datasets prepares it, where TFDS_DATA_DIR or ~/tensorflow_datasets has it.
register_objectives(
    "c4_v220",
    seqio.TfdsDataSource("c4/en:2.2.0", splits=("train", "validation"), read_only=True),
    vocabularies.t5_vocabulary(),
)
