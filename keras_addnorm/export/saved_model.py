"""Export to a TensorFlow SavedModel that needs neither Keras nor this package to run."""

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.pipeline import Format, Plan, run_export
from keras_addnorm.export.recipes import RECIPES
from keras_addnorm.export.runtime import SavedModel
from keras_addnorm.export.signature import SIGNATURE, as_called
from keras_addnorm.export.text_graph.signatures import text_signatures

# Keras's `model.export` gives its function both names too: a server calls the first one if it is
# told none.
IDS_SIGNATURES = (SIGNATURE, "serve")


def _write(exportable, plan, path):
    import tensorflow as tf

    exportable.module.serve = as_called(exportable)
    signatures = {name: exportable.function for name in IDS_SIGNATURES}
    signatures |= plan.text.add_to(exportable, plan.batch_size, plan.sequence_length)
    try:
        tf.saved_model.save(exportable.module, str(path), signatures)
    except (AssertionError, ValueError) as error:
        raise ExportError(
            "TensorFlow cannot save the model's function: it holds lookup tables, random seeds or "
            "strings, which are no weights. Leave the layers that hold them out of the exported "
            f"model. TensorFlow says: {str(error).strip().splitlines()[0]}"
        ) from error


def _inspect(path, exportable, recipe):
    return {}, {}


SAVED_MODEL = Format("saved_model", write=_write, open=SavedModel, inspect=_inspect)


def to_saved_model(
    model,
    path,
    *,
    sequence_length=None,
    batch_size=None,
    text=None,
    verify=True,
    overwrite=False,
    progress=None,
):
    """Exports a Keras model to a SavedModel directory and proves that it is the same model.

    The signature `serving_default`, also called `serve`, takes the model's named inputs, integers
    as int32, and returns its outputs by name. `tf.saved_model.load(path).serve(inputs)`, and with
    it `keras.layers.TFSMLayer(path)`, takes them as the model itself does.

    A `TextEmbedder` or `TextClassifier` with BERT's tokenizer (WordPiece) has its tokenizer in the
    graph, of TensorFlow's core ops, and these signatures of `text`, strings `(batch,)`:

    | signature | outputs |
    |---|---|
    | `serve_text` | those of `serve` |
    | `embed` | of an embedder: the same under the name of the task |
    | `classify` | of a classifier: `labels` and `scores` `(batch, classes)`, the best first |
    | `tokenize` | `token_ids`, `padding_mask` and `segment_ids` |

    Args:
        model: a built functional Keras model, such as a `TransformerEncoder` or `TextEmbedder`.
        path: the directory; `<path>.report.json` and, where the model has a tokenizer,
            `<path>.tokenizer.json` are written beside it.
        sequence_length: int, or None (default) for any length up to the model's longest. More are
            an error on CPUs, but not under XLA, which takes the last position for those beyond.
        batch_size: int, or None (default) for any batch.
        text: None (default) for signatures of strings where the tokenizer can be written as a
            graph; True to raise an error where it cannot; False for none. The report's `text`
            says what was done, and why.
        verify: bool, whether the result is loaded, run and compared before it gets its name.
        overwrite: bool, whether an existing directory may be replaced.
        progress: function of a step's name, called as each step starts.

    Returns:
        An `ExportReport`.

    Raises:
        FileExistsError: if `path` exists and `overwrite` is False.
        ValueError: on an invalid argument.
        ExportError: if the model, or with `text=True` its tokenizer, cannot be exported.
        VerificationError: if the result is not the same model. Whatever is raised, what was at
            `path` is still there.

    Example:

    ```python
    report = keras_addnorm.export.to_saved_model(embedder, "saved_models/minilm")
    ```
    """
    return run_export(
        model,
        path,
        SAVED_MODEL,
        Plan(
            RECIPES["float32"],
            sequence_length=sequence_length,
            batch_size=batch_size,
            text=text_signatures(model, text, sequence_length),
        ),
        verify=verify,
        overwrite=overwrite,
        progress=progress,
    )
