"""Tasks over the test corpus: what MIXTURE_OR_TASK_MODULE names in these tests.

`words_full_lm`, `words_prefix_lm` and `words_span_corruption` read the folder of the environment
variable ARCHOBJ_TEST_CORPUS, which `corpus.write` fills; `empty_full_lm` reads an empty file there.
"""

import os

import seqio

from tasks.pretraining import register_text_corpus
from tests.end_to_end.corpus import VARIABLE

_folder = os.environ[VARIABLE]
for _name, _file in {"words": "train", "wordless": "empty"}.items():
    register_text_corpus(
        _name,
        train=f"{_folder}/{_file}.jsonl",
        validation=f"{_folder}/held.jsonl",
        vocabulary=seqio.ByteVocabulary(extra_ids=100),
    )
