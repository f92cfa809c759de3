"""Answers that are spans of a text."""

import keras
import numpy as np
from keras import ops
from keras_hub import models as hub

from keras_addnorm.layers import checks
from keras_addnorm.models.question_answering_preprocessor import QuestionAnsweringPreprocessor
from keras_addnorm.models.task import EncoderTask


@keras.saving.register_keras_serializable(package="keras_addnorm")
class QuestionAnswering(EncoderTask, hub.Task):
    """Encoder, and a head that scores each position as the first and the last of the answer.

        start_logits, end_logits = head(encoder(token_ids, padding_mask))

    A KerasHub `Task`: with a preprocessor, `fit` takes questions, contexts and the characters of
    the answers, and `answer` finds them. The logits are those of all positions, padding too;
    `decode_spans` turns them into spans of the positions that may hold the answer. ModernBERT's
    head has the `head_options` that `TextClassifier` names; the others' are the default.

    Args:
        backbone: the encoder, a `TransformerEncoder`.
        preprocessor: a `QuestionAnsweringPreprocessor`, or None for a model of token ids.
        dropout: float in [0, 1), dropout rate before the last layer while training.
        head_options: dict of further arguments of `Head`.
        head_dtype: dtype policy of the head. Default: the backbone's.

    Inputs (a dict):
        Those of the backbone.

    Outputs (a dict):
        start_logits, end_logits: `(batch, length)`; float32 in mixed precision. To train, pass
            the positions of the first and the last token, `(batch,)`, under the same names.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    task = QuestionAnswering(TransformerEncoder(vocabulary_size=30522, num_segments=2))
    outputs = task.predict({"token_ids": ids, "padding_mask": mask, "segment_ids": segments})
    spans = decode_spans(**outputs, mask=segments * mask)  # the second segment is the text

    task.preprocessor = QuestionAnsweringPreprocessor(tokenizer, sequence_length=384)
    task.answer((["Who wrote?"], ["Ada Lovelace wrote."]))  # [("Ada Lovelace", 0.98)]
    ```

    Source: Devlin et al., arXiv:1810.04805, section 4.2.
    """

    preprocessor_cls = QuestionAnsweringPreprocessor

    def __init__(
        self,
        backbone,
        preprocessor=None,
        dropout=0.0,
        head_options=None,
        head_dtype=None,
        **kwargs,
    ):
        self._check_arguments(backbone, kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        self.dropout = checks.rate("QuestionAnswering", "dropout", dropout)
        self.head = self._make_head(
            2, head_options, head_dtype, told=("dropout",), dropout=self.dropout
        )
        scores = self.head(backbone(backbone.input)["sequence_output"])  # [batch, length, 2]
        start, end = ops.split(scores, 2, axis=-1)
        outputs = {"start_logits": ops.squeeze(start, -1), "end_logits": ops.squeeze(end, -1)}
        super().__init__(inputs=backbone.input, outputs=outputs, **kwargs)

    def compile(self, optimizer="auto", loss="auto", *, metrics="auto", **kwargs):
        """Configures training; see `keras.Model.compile`.

        Args:
            optimizer: `"auto"` is Adam with a learning rate of 5e-5.
            loss: `"auto"` is the mean of the sparse cross-entropies of both positions.
            metrics: `"auto"` is the accuracy of each position.
            **kwargs: as in `keras.Model.compile`.
        """
        names = ("start_logits", "end_logits")
        if optimizer == "auto":
            optimizer = keras.optimizers.Adam(5e-5)
        if loss == "auto":
            entropy = keras.losses.SparseCategoricalCrossentropy
            loss = {name: entropy(from_logits=True) for name in names}
            kwargs = {"loss_weights": dict.fromkeys(names, 0.5), **kwargs}
        if metrics == "auto":
            metrics = {name: [keras.metrics.SparseCategoricalAccuracy()] for name in names}
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def answer(self, x, max_span_length=30, no_answer=False, **kwargs):
        """The most probable answers.

        Args:
            x: a tuple `(questions, contexts)` of strings, or of lists of strings.
            max_span_length: int, most tokens of an answer.
            no_answer: bool, whether the answer may be none (SQuAD 2.0), an empty string.
            **kwargs: passed on to `predict`.

        Returns:
            For each question a pair `(answer, probability)`; see `decode_spans`. Empty with a
            probability of 0 where nothing is left of a context.

        Raises:
            ValueError: if there is no preprocessor.
        """
        if self.preprocessor is None:
            raise ValueError(
                "QuestionAnswering: `answer` needs a preprocessor, which tells tokens from text. "
                "Received: preprocessor=None. Pass a QuestionAnsweringPreprocessor, or use "
                "`predict` and `decode_spans`."
            )
        x = tuple([texts] if isinstance(texts, str) else list(texts) for texts in x)
        inputs = self.preprocess_samples(x)
        # Not KerasHub's `predict`, which would preprocess once more.
        outputs = keras.Model.predict(self, inputs, **{"verbose": 0, **kwargs})
        mask = self.preprocessor.offsets(x)[..., 0] >= 0
        mask[:, 0] = no_answer
        spans = decode_spans(**outputs, mask=mask, max_span_length=max_span_length)
        spans = [best[0] if best else (0, 0, 0.0) for best in spans]
        first, last, probabilities = zip(*spans, strict=True)
        return list(zip(self.preprocessor.answers(x, first, last), probabilities, strict=True))

    def get_config(self):
        return {**super().get_config(), "dropout": self.dropout, **self._head_config()}


def decode_spans(start_logits, end_logits, mask, max_span_length=30, top_k=1):
    """The most probable spans, by the product of the probabilities of their ends.

        p(i, j) = softmax(start)_i softmax(end)_j     (both over positions with mask 1)

    over i <= j < i + max_span_length with mask 1 at all of i, ..., j. With mask 1 at the first
    token and 0 at the question behind it, (0, 0) stands for "no answer", as in SQuAD 2.0.

    Args:
        start_logits, end_logits: float arrays `(batch, length)`, of `QuestionAnswering`.
        mask: `(batch, length)`, 1 or True where the answer may lie: not at padding, nor at the
            question.
        max_span_length: int, most tokens of a span.
        top_k: int, how many spans to return.

    Returns:
        For each row a list of at most `top_k` tuples `(first, last, probability)`, the most
        probable first; empty where the mask is 0 everywhere.

    Raises:
        ValueError: on an invalid argument, and where the shapes differ.

    Example:

    ```python
    decode_spans([[1.0, 5.0, 2.0]], [[0.0, 1.0, 4.0]], mask=[[0, 1, 1]])  # [[(1, 2, 0.908...)]]
    ```

    Source: Devlin et al., arXiv:1810.04805, section 4.2; no answer: section 4.3.
    """
    owner = "decode_spans"
    max_span_length = checks.positive_int(owner, "max_span_length", max_span_length)
    top_k = checks.positive_int(owner, "top_k", top_k)
    arrays = [np.asarray(x, "float64") for x in (start_logits, end_logits, mask)]
    if len({x.shape for x in arrays}) > 1 or arrays[0].ndim != 2:
        raise ValueError(
            f"{owner}: `start_logits`, `end_logits` and `mask` must have one shape, "
            f"(batch, length). Received: {', '.join(str(x.shape) for x in arrays)}. "
            "Add a first axis to a single row."
        )
    return [_decode_row(*row, max_span_length, top_k) for row in zip(*arrays, strict=True)]


def _decode_row(start_logits, end_logits, mask, max_span_length, top_k):
    kept = np.flatnonzero(mask)
    if not len(kept):
        return []
    start, end = _softmax(start_logits[kept]), _softmax(end_logits[kept])
    # Two kept positions are in one run, without a masked one between, if this number is the same.
    run = kept - np.arange(len(kept))
    distance = kept[None, :] - kept[:, None]
    allowed = (distance >= 0) & (distance < max_span_length) & (run[None, :] == run[:, None])
    products = np.where(allowed, start[:, None] * end[None, :], -1.0)
    best = np.argsort(-products, axis=None, kind="stable")[: min(top_k, int(allowed.sum()))]
    spans = zip(*np.unravel_index(best, products.shape), strict=True)
    return [(int(kept[i]), int(kept[j]), float(products[i, j])) for i, j in spans]


def _softmax(x):
    exps = np.exp(x - x.max())
    return exps / exps.sum()
