"""Signatures of a SavedModel that take strings."""

import dataclasses

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.samples import longest_sequence
from keras_addnorm.export.text_graph.reasons import why_not
from keras_addnorm.export.text_graph.word_piece import WordPieceGraph
from keras_addnorm.models import TextClassifier, TextEmbedder

TEXT = "text"


@dataclasses.dataclass(frozen=True)
class TextSignatures:
    """What is asked of the strings' side of a SavedModel.

    Attributes:
        model: the task as it was given, with its preprocessor.
        reason: why there are no such signatures; None where there are.
    """

    model: object
    reason: str | None

    def add_to(self, exportable, batch_size, sequence_length):
        """Traces the signatures over an exportable model, and puts their weights into its module.

        Returns:
            Dict of concrete functions by signature: `tokenize`, `serve_text`, and `embed` or
            `classify`; empty where there is a reason.
        """
        if self.reason is not None:
            return {}
        import tensorflow as tf

        graph = WordPieceGraph(
            self.model.preprocessor.tokenizer, max_length(self.model, sequence_length)
        )
        names = [spec.name for spec in exportable.inputs]
        spec = tf.TensorSpec([batch_size], "string", name=TEXT)
        made = {}

        def trace(function):
            traced = tf.function(function, autograph=False).get_concrete_function(spec)
            setattr(exportable.module, function.__name__, traced)  # which saves what it holds
            made[function.__name__] = traced

        def tokenize(text):
            return graph(text, sequence_length)

        def serve_text(text):
            # The traced function, so that the tables are in the file once.
            tokens = made["tokenize"](text)
            shape = (batch_size, sequence_length)  # which ragged rows are not known to have
            return exportable.function(
                **{name: tf.ensure_shape(tokens[name], shape) for name in names}
            )

        trace(tokenize)
        trace(serve_text)
        if isinstance(self.model, TextClassifier):
            trace(_classify(self.model, made["serve_text"]))
        else:
            made["embed"] = made["serve_text"]
        return made


def text_signatures(model, text, sequence_length=None):
    """The `TextSignatures` of a model.

    Args:
        model: the Keras model.
        sequence_length: as in `to_saved_model`.
        text: True if there must be some, None if there are where it is possible, False for none.

    Raises:
        ValueError: if `text` is something else.
        ExportError: if it is True, and the tokenizer cannot be written as a graph.
    """
    if text not in (None, True, False):
        raise ValueError(
            f"`text` must be True, False or None. Received: text={text!r}. Leave it out for "
            "signatures of strings where the tokenizer allows them."
        )
    reason = "text=False was asked for" if text is False else _reason(model, sequence_length)
    if text and reason:
        raise ExportError(
            "Strings go in where the model is a TextEmbedder or TextClassifier with BERT's "
            f"tokenizer. Received: {model.name!r}; {reason}. Leave out text=True, and tokenize "
            "before the model is called."
        )
    return TextSignatures(model, reason)


def _reason(model, sequence_length):
    if not isinstance(model, (TextEmbedder, TextClassifier)):
        return "the model is no TextEmbedder or TextClassifier"
    reason = why_not(model)
    if reason is None and isinstance(sequence_length, (int, type(None))):
        needed = model.preprocessor.tokenizer.num_special_tokens() + 1
        if max_length(model, sequence_length) < needed:
            return f"texts need a length of at least {needed}, for special tokens and one more"
    return reason


def max_length(model, sequence_length=None):
    """The number of ids that a model's texts are cut to."""
    limits = longest_sequence(model), model.preprocessor.sequence_length, sequence_length
    return min(limit for limit in limits if limit is not None)


def _classify(model, serve_text):
    """Labels and scores, the best first, as `TextClassifier.classify` gives them."""
    import tensorflow as tf

    names = [str(label) for label in model.labels or range(model.num_classes)]

    def classify(text):
        (scores,) = serve_text(text).values()
        if model.activation is None and model.num_classes > 1:
            scores = tf.nn.softmax(scores)
        scores, order = tf.math.top_k(scores, k=model.num_classes)
        return {"labels": tf.gather(tf.constant(names), order), "scores": scores}

    return classify
