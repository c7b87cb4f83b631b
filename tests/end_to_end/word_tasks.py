"""Tasks over the test corpus: what MIXTURE_OR_TASK_MODULE names in these tests.

`words_full_lm`, `words_prefix_lm` and `words_span_corruption` read the folder of the environment
variable ARCHOBJ_TEST_CORPUS, which `corpus.write` fills; `wordless_full_lm` reads an empty file
there. `planets_train` is a mixture of prompted tasks, `planets_score_eval` ranks answer choices.
`mute_it_score_eval` has a choice without tokens, `odd_full_lm` another vocabulary.
"""

import os
from pathlib import Path

import seqio

from archobj_jax.prompts import PromptCollection, Template
from archobj_jax.prompts.records import LocalRecords
from tasks.pretraining import register_text_corpus
from tasks.prompted import register_dataset, register_mixture
from tests.end_to_end.corpus import VARIABLE

_folder = os.environ[VARIABLE]
_vocabulary = seqio.ByteVocabulary(extra_ids=100)
for _name, _file in {"words": "train", "wordless": "empty"}.items():
    register_text_corpus(
        _name,
        train=f"{_folder}/{_file}.jsonl",
        validation=f"{_folder}/held.jsonl",
        vocabulary=_vocabulary,
    )

register_text_corpus(
    "odd",
    train=f"{_folder}/train.jsonl",
    validation=f"{_folder}/held.jsonl",
    vocabulary=seqio.ByteVocabulary(extra_ids=50),
)

_templates = PromptCollection.read(Path(__file__).parents[1] / "prompts" / "templates")
_planets = register_dataset(
    _templates.of("planets"), LocalRecords(f"{_folder}/planets"), vocabulary=_vocabulary
)
register_mixture("planets_train", [_planets])
seqio.MixtureRegistry.add("planets_score_eval", list(_planets.original), default_rate=1.0)

_mute = Template(
    dataset="mute",
    subset=None,
    name="it",
    id="",
    jinja="What is {{planet}}? ||| rock",
    answer_choices='rock ||| {{ "" }}',
)
register_dataset({"it": _mute}, LocalRecords(f"{_folder}/planets"), vocabulary=_vocabulary)
