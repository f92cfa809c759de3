"""Classes of single tokens: named entities, parts of speech, replaced tokens."""

import keras
from keras import ops
from keras_hub import models as hub

from keras_addnorm.models.classifier import Classifier
from keras_addnorm.models.token_classifier_preprocessor import (
    IGNORED,
    TokenClassifierPreprocessor,
)


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TokenAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """Sparse categorical accuracy over the positions whose label is not -100.

    See `keras.metrics.SparseCategoricalAccuracy`.
    """

    def __init__(self, name="token_accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        counts = ops.cast(ops.not_equal(y_true, IGNORED), "float32")
        if sample_weight is not None:
            counts = ops.multiply(counts, ops.cast(sample_weight, "float32"))
        return super().update_state(y_true, y_pred, counts)


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TokenClassifier(Classifier, hub.Task):
    """Encoder, and a head with an output for each class at each position.

        output = activation(head(encoder(token_ids, padding_mask)))

    A KerasHub `Task`: with a preprocessor, `predict` and `classify` take strings. Labels of -100
    do not count in the default loss and metric. ModernBERT's head has the `head_options` that
    `TextClassifier` names; ELECTRA's discriminator is `num_classes=1` with
    `head_options={"hidden_dim": 256, "activation": "gelu"}`; the others' are the default.

    Args:
        backbone: the encoder, a `TransformerEncoder`.
        num_classes: int, number of classes.
        preprocessor: a `TokenClassifierPreprocessor`, or None for a model of token ids.
        activation, dropout, labels, head_options, head_dtype: as in `TextClassifier`.

    Inputs (a dict):
        Those of the backbone.

    Output shape:
        `(batch, length, num_classes)`; float32 in mixed precision.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    encoder = TransformerEncoder(vocabulary_size=30522, embedding_norm=True)
    task = TokenClassifier(encoder, 3, labels=["O", "B-PER", "I-PER"])
    task.classify({"token_ids": ids, "padding_mask": mask})  # [[("O", 0.9), ("B-PER", 0.7), ...
    ```

    Source: Devlin et al., arXiv:1810.04805, section 5.3; replaced tokens: Clark et al.,
    arXiv:2003.10555.
    """

    preprocessor_cls = TokenClassifierPreprocessor

    def __init__(
        self,
        backbone,
        num_classes,
        preprocessor=None,
        activation=None,
        dropout=0.1,
        labels=None,
        head_options=None,
        head_dtype=None,
        **kwargs,
    ):
        self._check_arguments(backbone, kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        features = backbone(backbone.input)["sequence_output"]
        outputs = self._class_outputs(
            features, num_classes, activation, dropout, labels, head_options, head_dtype
        )
        super().__init__(inputs=backbone.input, outputs=outputs, **kwargs)

    def compile(
        self, optimizer="auto", loss="auto", *, metrics=None, weighted_metrics="auto", **kwargs
    ):
        """Configures training; see `keras.Model.compile`.

        Args:
            optimizer, loss: as in `TextClassifier.compile`.
            metrics: None, or a list of metrics without sample weights.
            weighted_metrics: `"auto"` is the accuracy over positions whose label is not -100.
            **kwargs: as in `keras.Model.compile`.
        """
        if weighted_metrics == "auto":
            weighted_metrics = self._loss_and_metrics()[1]
        super().compile(
            optimizer, loss, metrics=metrics, weighted_metrics=weighted_metrics, **kwargs
        )

    def _loss_and_metrics(self):
        if self.activation == "sigmoid" or self.num_classes == 1:
            return super()._loss_and_metrics()
        loss = keras.losses.SparseCategoricalCrossentropy(
            from_logits=self.activation is None, ignore_class=IGNORED
        )
        return loss, [TokenAccuracy()]

    def classify(self, x, **kwargs):
        """The most probable class of each unpadded position.

        Args:
            x: with a preprocessor a string, strings, or lists of words; else the inputs as a dict
                of arrays.
            **kwargs: passed on to `predict`.

        Returns:
            For each sequence a list of pairs `(label, probability)`, one a token, special tokens
            too; see `TextClassifier.classify`. The preprocessor's `offsets` and `word_ids` say
            which characters and words the tokens are.
        """
        inputs = self.preprocess_samples([x] if isinstance(x, str) else x)
        # Not KerasHub's `predict`, which would preprocess once more.
        outputs = keras.Model.predict(self, inputs, **{"verbose": 0, **kwargs})
        probabilities = self._probabilities(outputs)
        masks = ops.convert_to_numpy(inputs["padding_mask"]).astype(bool)
        return [
            [self._named(row, top_k=1)[0] for row in rows[mask]]
            for rows, mask in zip(probabilities, masks, strict=True)
        ]
