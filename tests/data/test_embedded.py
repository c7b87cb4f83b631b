import ast
import itertools

from archobj_jax.data import embedded


def test_the_corpus_is_more_than_a_megabyte_of_prose():
    documents = embedded.documents("train")
    assert sum(len(document.text) for document in documents) > 1_000_000
    for paragraph in documents[0].text.split("\n\n"):
        assert len(paragraph.split()) >= embedded.MIN_WORDS


def test_splits_share_neither_document_nor_paragraph():
    train, validation = map(embedded.documents, embedded.SPLITS)
    assert not {d.name for d in train} & {d.name for d in validation}
    paragraphs = [p for d in (*train, *validation) for p in d.text.split("\n\n")]
    assert len(paragraphs) == len(set(paragraphs))
    assert 0.02 < len(validation) / len(train) < 0.1


def test_the_order_is_always_the_same():
    first = embedded.documents("train")
    embedded._corpus.cache_clear()
    assert embedded.documents("train") == first


def test_shards_part_the_split():
    shards = [embedded.shard_documents("train", index, 8) for index in range(8)]
    assert sorted(itertools.chain(*shards)) == sorted(embedded.documents("train"))


def test_docstrings_come_in_source_order():
    source = '"M."\nclass A:\n  "A."\n  def f(self):\n    "F."\nif x:\n  def g():\n    "G."'
    assert list(embedded._docstrings_of(ast.parse(source))) == ["M.", "A.", "F.", "G."]


def test_only_paragraphs_of_prose_are_kept():
    prose = "These are ten words of prose that are worth keeping, surely."
    code = ">>> f(1, 2, 3) + [4, 5] == {6: 7} # 8 9 10 11 12 13"
    assert list(embedded._paragraphs(f"Too short.\n\n{prose}\n \n{code}")) == [prose]
