"""What the tasks that classify share: classes with names, default losses, `classify`."""

import keras
import numpy as np

from keras_addnorm.layers import checks
from keras_addnorm.models.task import EncoderTask

ACTIVATIONS = (None, "softmax", "sigmoid")


class Classifier(EncoderTask):
    """To be inherited beside a KerasHub task; `EncoderTask` is part of it."""

    def _class_outputs(
        self, features, num_classes, activation, dropout, labels, head_options, head_dtype
    ):
        """Sets the attributes of the arguments and returns the symbolic output.

        `features` is a tensor, or a dict of several by the name of the head that each gets: the
        output is then the average.
        """
        owner = type(self).__name__
        self.num_classes = checks.positive_int(owner, "num_classes", num_classes)
        self.activation = checks.choice(owner, "activation", activation, ACTIVATIONS)
        self.dropout = checks.rate(owner, "dropout", dropout)
        self.labels = _labels(owner, labels, self.num_classes)
        if self.activation == "softmax" and self.num_classes == 1:
            raise ValueError(
                f"{owner}: a softmax over one class is always 1. Received: num_classes=1, "
                "activation='softmax'. Pass activation='sigmoid', or None for a regression."
            )
        heads = {"told": ("dropout",), "dropout": self.dropout}
        logits = []
        for name, x in (features if isinstance(features, dict) else {"head": features}).items():
            head = self._make_head(self.num_classes, head_options, head_dtype, name=name, **heads)
            setattr(self, name, head)
            logits.append(head(x))
        logits = logits[0] if len(logits) == 1 else _average(logits)
        # Its name is the name of an exported model's output.
        name = "logits" if self.activation is None else "probabilities"
        activation = self.activation or "linear"
        return keras.layers.Activation(activation, dtype=logits.dtype, name=name)(logits)

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Configures training; see `keras.Model.compile`.

        Args:
            optimizer: `"auto"` is Adam with a learning rate of 5e-5.
            loss: `"auto"` is sparse cross-entropy; binary cross-entropy with the activation
                `"sigmoid"`; the mean squared error of one class without an activation.
            metrics: `"auto"` is the accuracy; none for the mean squared error.
            **kwargs: as in `keras.Model.compile`.
        """
        auto_loss, auto_metrics = self._loss_and_metrics()
        super().compile(
            optimizer=keras.optimizers.Adam(5e-5) if optimizer == "auto" else optimizer,
            loss=auto_loss if loss == "auto" else loss,
            metrics=auto_metrics if metrics == "auto" else metrics,
            **kwargs,
        )

    def _loss_and_metrics(self):
        if self.activation == "sigmoid":
            return keras.losses.BinaryCrossentropy(), [keras.metrics.BinaryAccuracy()]
        if self.num_classes == 1:
            return keras.losses.MeanSquaredError(), []
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=self.activation is None)
        return loss, [keras.metrics.SparseCategoricalAccuracy()]

    def classify(self, x, top_k=1, **kwargs):
        """The most probable classes.

        Args:
            x: what `predict` takes: with a preprocessor a string or strings, or images.
            top_k: int, how many classes to name.
            **kwargs: passed on to `predict`.

        Returns:
            For each sample a list of `top_k` pairs `(label, probability)`, the most probable
            first; without `labels` a label is the number of the class. Without an activation the
            probabilities are those of a softmax, and the output itself where there is one class.
        """
        x = [x] if isinstance(x, str) else x
        probabilities = self._probabilities(self.predict(x, **{"verbose": 0, **kwargs}))
        return [self._named(row, top_k) for row in probabilities]

    def _probabilities(self, outputs):
        outputs = np.asarray(outputs, "float64")
        if self.activation is not None or self.num_classes == 1:
            return outputs
        exps = np.exp(outputs - outputs.max(axis=-1, keepdims=True))
        return exps / exps.sum(axis=-1, keepdims=True)

    def _named(self, probabilities, top_k):
        best = np.argsort(-probabilities, kind="stable")[:top_k]
        labels = self.labels or range(self.num_classes)
        return [(labels[i], float(probabilities[i])) for i in best]

    @classmethod
    def from_config(cls, config):
        # A preset's classes are replaced by `from_preset(..., num_classes=...)`, and so their names
        # are not those of the new ones.
        labels = config.get("labels")
        if labels and len(labels) != config.get("num_classes"):
            config = {**config, "labels": None}
        return super().from_config(config)

    def get_config(self):
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "activation": self.activation,
            "dropout": self.dropout,
            "labels": None if self.labels is None else list(self.labels),
            **self._head_config(),
        }


def _average(logits):
    return keras.layers.Average(dtype=logits[0].dtype, name="average")(logits)


def _labels(owner, labels, num_classes):
    """Returns names of classes as a tuple, or None."""
    if labels is None:
        return None
    names = isinstance(labels, (list, tuple)) and all(isinstance(x, str) for x in labels)
    if not names or len(labels) != num_classes:
        raise ValueError(
            f"{owner}: `labels` must be a list of {num_classes} strings, a name for each of the "
            f"`num_classes`. Received: num_classes={num_classes}, labels={labels!r}. "
            "Pass None to number the classes."
        )
    return tuple(labels)
