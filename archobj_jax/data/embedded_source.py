"""The embedded corpus as a SeqIO data source."""

import seqio
import tensorflow as tf

from archobj_jax.data import embedded


class EmbeddedCorpus(seqio.DataSource):
    """Documents of `embedded`, elements {"text": string scalar}, in 8 shards of each split."""

    name = "embedded"

    def __init__(self) -> None:
        super().__init__(splits=embedded.SPLITS)

    @property
    def supports_arbitrary_sharding(self) -> bool:
        """Any number of shards would do."""
        return True

    def declaration(self) -> dict[str, object]:
        """Returns what the corpus depends on, without reading it."""
        return embedded.declaration()

    def size(self, split: str) -> int:
        """Returns the bytes of text in `split`."""
        return sum(len(document.text.encode()) for document in embedded.documents(split))

    def list_shards(self, split: str) -> list[str]:
        """Returns a name for each shard of `split`."""
        return [f"{split}-{index}" for index in range(embedded.SHARDS)]

    def get_dataset(  # type: ignore[no-untyped-def]  # SeqIO's signature, not all of it ours
        self, split="train", shuffle=True, seed=None, shard_info=None, **_
    ) -> tf.data.Dataset:
        """Returns the documents of a shard, or of the split, as elements {"text": string}."""
        info = shard_info or seqio.ShardInfo(index=0, num_shards=1)
        documents = embedded.shard_documents(split, info.index, info.num_shards)
        texts = [document.text for document in documents]
        dataset = tf.data.Dataset.from_tensor_slices({"text": tf.constant(texts, tf.string)})
        return dataset.shuffle(max(len(texts), 1), seed=seed) if shuffle else dataset
