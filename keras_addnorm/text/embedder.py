"""Embeddings of texts from a bundle."""

from keras_addnorm.text.model import BATCH_SIZE, TextModel
from keras_addnorm.text.search import top_k


class Embedder(TextModel):
    """Embeds texts with a bundle that `to_text_bundle` made of a `TextEmbedder`.

    Runs in LiteRT on CPUs. Each text is computed at its own length where the bundle takes any, and
    `num_threads` texts at once, on one thread each. An object may be used from several threads.
    Sizes and SHA-256 of the files that are used are compared with the manifest.

    Args:
        folder: path of the bundle.
        num_threads: int, how many texts are computed at once; None for one a CPU core.

    Attributes:
        dimension: int, the size of an embedding.
        normalized: bool, whether embeddings have length 1.
        max_length: int, tokens of a text; longer texts are cut.

    Raises:
        BundleError: if the folder is no such bundle, or is broken.
        ValueError: on an invalid argument.

    Example:

    ```python
    embedder = keras_addnorm.text.Embedder("minilm")
    corpus = embedder.embed(["A cat sits on the mat.", "Shares fell."])  # (2, 384)
    embedder.search("a kitten", corpus, k=1)  # [(0, 0.48)]
    ```
    """

    task = "embed"

    def __init__(self, folder, num_threads=None):
        super().__init__(folder, num_threads)
        section = self._bundle.manifest.section("embedding")
        self.dimension = section.whole("dimension", 1, 2**20)
        self.normalized = section.get("normalized", bool)
        if self.dimension != self._features:
            raise section.error(f"has another dimension than the model, {self._features}")

    def embed(self, texts, batch_size=BATCH_SIZE):
        """Embeds texts.

        Args:
            texts: iterable of strings; none gives `(0, dimension)`.
            batch_size: int, texts that are tokenized and sorted by length together.

        Returns:
            float32 array `(len(texts), dimension)`.

        Raises:
            ValueError: if there is anything else than strings in `texts`.
        """
        return self._run(texts, batch_size)

    def stream(self, texts, batch_size=BATCH_SIZE):
        """Embeds texts as they come: of any iterable, in its order, however long it is.

        Args:
            texts: iterable of strings, such as an open file.
            batch_size: int, texts that are held at a time.

        Yields:
            float32 arrays `(dimension,)`.

        Raises:
            ValueError: when the iterable gives anything else than a string.
        """
        for embeddings in self._windows(texts, batch_size):
            yield from embeddings

    def search(self, query, corpus_embeddings, k=10):
        """Finds what is most similar to a text, by cosine.

        Args:
            query: a string, or a list of strings.
            corpus_embeddings: float array `(n, dimension)`, such as `embed` returns; may be a
                memory map.
            k: int, how many to find.

        Returns:
            List of `k` pairs `(index, cosine)`, the most similar first, equal ones by index; all
            where there are fewer. For a list of strings, a list of such lists.

        Raises:
            ValueError: as `embed` and `top_k`.
        """
        queries = self.embed([query] if isinstance(query, str) else query)
        indices, scores = top_k(queries, corpus_embeddings, k, normalized=self.normalized)
        found = [
            list(zip(row.tolist(), cosines.tolist(), strict=True))
            for row, cosines in zip(indices, scores, strict=True)
        ]
        return found[0] if isinstance(query, str) else found
