"""Labels of texts from a bundle."""

import numpy as np

from keras_addnorm.text.model import BATCH_SIZE, TextModel

ACTIVATIONS = (None, "softmax", "sigmoid")


class Classifier(TextModel):
    """Classifies texts with a bundle that `to_text_bundle` made of a `TextClassifier`.

    Runs as `Embedder` does.

    Args:
        folder: path of the bundle.
        num_threads: int, how many texts are computed at once; None for one a CPU core.

    Attributes:
        labels: list of strings, in the order of the model's outputs.
        max_length: int, tokens of a text; longer texts are cut.

    Raises:
        BundleError: if the folder is no such bundle, or is broken.
        ValueError: on an invalid argument.

    Example:

    ```python
    classifier = keras_addnorm.text.Classifier("sentiment")
    classifier.classify(["What a film!"], k=1)  # [[("positive", 0.98)]]
    ```
    """

    task = "classify"

    def __init__(self, folder, num_threads=None):
        super().__init__(folder, num_threads)
        manifest = self._bundle.manifest
        section = manifest.section("classification")
        self._activation = section.get("activation", str, optional=True)
        if self._activation not in ACTIVATIONS:
            raise section.error(f"must have an activation of {ACTIVATIONS}")
        self.labels = self._bundle.read_lines(manifest.get("labels", str))
        if len(self.labels) != self._features:
            raise section.error(f"has {len(self.labels)} labels for {self._features} outputs")

    def classify(self, texts, k=None, batch_size=BATCH_SIZE):
        """Names the classes of texts.

        Args:
            texts: iterable of strings.
            k: int, how many classes to name; None for all.
            batch_size: int, texts that are tokenized and sorted by length together.

        Returns:
            For each text a list of pairs `(label, score)`, the highest score first. Scores are
            probabilities: of a softmax, or of a sigmoid where the model has that; of a model with
            one class and no activation, its output.

        Raises:
            ValueError: if there is anything else than strings in `texts`, or on an invalid `k`.
        """
        if k is not None and (isinstance(k, bool) or not isinstance(k, int) or k < 1):
            raise ValueError(
                f"`k` must be a positive int or None. Received: k={k!r}. Pass None for all classes."
            )
        scores = self.scores(texts, batch_size)
        best = np.argsort(-scores, axis=-1, kind="stable")[:, :k]
        return [
            [(self.labels[i], float(row[i])) for i in order]
            for row, order in zip(scores, best, strict=True)
        ]

    def scores(self, texts, batch_size=BATCH_SIZE):
        """The scores of all classes, as in `classify`: float32 array `(len(texts), classes)`."""
        outputs = self._run(texts, batch_size)
        if self._activation is not None or outputs.shape[-1] == 1:
            return outputs
        exps = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return exps / exps.sum(axis=-1, keepdims=True)
