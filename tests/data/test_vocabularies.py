import hashlib
import pickle

import pytest
import seqio

from archobj_jax.data import vocabularies
from archobj_jax.data.token_ids import TokenIds
from archobj_jax.errors import MachineError, UserError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    vocabulary = vocabularies.EmbeddedVocabulary()
    vocabulary.prepare(tmp_path_factory.mktemp("cache"))
    return vocabulary


def test_it_has_4096_pieces_and_100_sentinels(trained):
    assert trained.vocab_size == 4196
    assert vocabularies.load(trained, "unused") == TokenIds(4196, 100, eos_id=1)
    assert (trained.pad_id, trained.unk_id) == (0, 2)
    assert trained.encode("<extra_id_0>") == [4195]
    assert trained.encode("<extra_id_99>") == [4096]


def test_any_text_survives(trained):
    text = "Naïve façade: 日本語 🙂 {x!r}"
    assert trained.decode(trained.encode(text)) == text


def test_training_again_gives_the_same_bytes(trained, tmp_path):
    again = vocabularies.EmbeddedVocabulary()
    again.prepare(tmp_path)
    assert again.sentencepiece_model_file != trained.sentencepiece_model_file
    sums = {hashlib.sha256(v.sp_model).hexdigest() for v in (trained, again)}
    assert len(sums) == 1
    assert vocabularies.fingerprint(again) == vocabularies.fingerprint(trained)


def test_naming_it_trains_nothing(monkeypatch):
    monkeypatch.setattr(vocabularies, "_train", lambda: pytest.fail("trained"))
    vocabulary = vocabularies.EmbeddedVocabulary()
    assert "4096" in str(vocabulary)
    assert vocabularies.declaration(vocabulary)["extra_ids"] == 100
    assert pickle.loads(pickle.dumps(vocabulary)) == vocabulary


def test_fingerprints_tell_vocabularies_apart(trained):
    others = [seqio.ByteVocabulary(100), seqio.ByteVocabulary(0), trained]
    assert len({vocabularies.fingerprint(other) for other in others}) == 3


def test_a_model_file_that_is_not_there_is_named(tmp_path):
    vocabulary = seqio.SentencePieceVocabulary(str(tmp_path / "none.model"), 100)
    with pytest.raises(UserError, match=r"none\.model cannot be read"):
        vocabularies.load(vocabulary, tmp_path)


def test_a_file_that_is_no_model_is_named(tmp_path):
    (tmp_path / "text.model").write_text("not a model")
    vocabulary = seqio.SentencePieceVocabulary(str(tmp_path / "text.model"), 100)
    with pytest.raises(UserError, match=r"text\.model cannot be read"):
        vocabularies.load(vocabulary, tmp_path)


def test_a_vocabulary_without_eos_is_refused(tmp_path):
    with pytest.raises(UserError, match="no end-of-sequence id"):
        vocabularies.load(seqio.PassThroughVocabulary(size=10), tmp_path)


def test_a_folder_that_cannot_be_made_is_a_machine_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(MachineError, match="cannot be written"):
        vocabularies.EmbeddedVocabulary().prepare(tmp_path / "file")
