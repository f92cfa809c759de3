"""Export to TFLite (LiteRT) with built-in ops only."""

import pathlib
import re

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.inspect import read_contents
from keras_addnorm.export.lengths import fix_lengths
from keras_addnorm.export.metadata import collect_metadata
from keras_addnorm.export.pipeline import Format, Plan, run_export
from keras_addnorm.export.products import simplify_products
from keras_addnorm.export.recipes import get_recipe
from keras_addnorm.export.runtime import LiteRTModel


def _write(exportable, plan, path):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [exportable.function], exportable.module
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        data = converter.convert()
    except Exception as error:
        unsupported = sorted(set(re.findall(r"'tf\.(\w+)' op is neither", str(error))))
        if not unsupported:
            first = str(error).strip().splitlines()[0]
            raise ExportError(f"TensorFlow's converter failed: {first}") from error
        raise ExportError(_explain(exportable, unsupported)) from error
    data = simplify_products(data)
    if plan.recipe.quantize is not None:
        data = plan.recipe.quantize(data, plan.samples)
    if plan.lengths:
        data = fix_lengths(data, plan.lengths)
    path.write_bytes(data if plan.metadata is None else plan.metadata.written(data))


def _explain(exportable, operations):
    where = "; ".join(f"{name} in {_layer_of(exportable, name)}" for name in operations)
    return (
        "TFLite runtimes run built-in ops only, without Flex (TensorFlow) or custom ops. "
        f"Received: a model that needs {where}. Write these layers with keras.ops that have "
        "built-in counterparts, or leave them out of the exported model."
    )


def _layer_of(exportable, operation):
    """Path of the first node of a type in the traced graph, which starts with the layers' names."""
    graph = exportable.function.graph
    definition = graph.as_graph_def()
    nodes = [*definition.node, *(n for f in definition.library.function for n in f.node_def)]
    for node in nodes:
        if node.op == operation:
            return f"layer {node.name.rsplit('/', 1)[0]!r}"
    return "an unknown layer"


def _inspect(path, exportable, recipe):
    contents = read_contents(path)
    if contents.forbidden:
        where = "; ".join(f"{op} for {name!r}" for op, name in contents.forbidden.items())
        raise ExportError(
            "A TFLite file must hold built-in ops and constants only, no custom, Flex or variable "
            f"ops. Received: {where}. Replace the layers that these names start with."
        )
    if recipe.weight_dtype and recipe.weight_dtype not in contents.weight_types:
        raise ExportError(
            f"The converter found nothing to store as {recipe.weight_dtype.lower()}: it leaves "
            "weights under 1024 elements as they are. Export with quantization=None."
        )
    return contents.operators, contents.weight_types


TFLITE = Format("tflite", write=_write, open=LiteRTModel, inspect=_inspect, folds=True)


def to_tflite(
    model,
    path,
    *,
    quantization=None,
    sequence_length=None,
    batch_size=1,
    lengths=None,
    drop_inputs=(),
    calibration=None,
    metadata=False,
    verify=True,
    overwrite=False,
    progress=None,
):
    """Exports a Keras model to a .tflite file and proves that it is the same model.

    Only built-in ops are allowed, so the file runs in every LiteRT runtime. Inputs and outputs
    keep the model's names; integers are int32.

    Args:
        model: a built functional Keras model, such as a `TransformerEncoder` or `TextEmbedder`.
        path: the file, ending in `.tflite`; `<path>.report.json` and, where the model has a
            tokenizer, `<path>.tokenizer.json` are written beside it.
        quantization: None for float32, or a key of `RECIPES`: `"float16"` (weights in half the
            space), `"dynamic_int8"` (weights in a quarter, integer arithmetic),
            `"weight_only_int8"` (a quarter, float arithmetic), `"mixed_int8"` (as dynamic_int8,
            faster from some hundred tokens on), `"full_int8"` (integers throughout, for hardware
            without floats; needs a `sequence_length`), `"int4"` (a seventh).
        sequence_length: None (default) for any length up to the model's longest (runtimes resize
            the inputs, at no cost in time); or an int, which GPUs and NPUs want.
        batch_size: int, or None for any batch, which costs delegate partitions.
        lengths: ints such as `(16, 64, 128)`: a signature `length_<n>` for each, with shared
            weights, for runtimes that cannot resize inputs.
        drop_inputs: names of inputs to leave out: `"padding_mask"`, for texts that are never
            padded, and `"segment_ids"`, for texts of one segment.
        calibration: sample inputs: path of a text file with a text a line, a list of strings, or
            a list of dicts of arrays by input name. `dynamic_int8` does with the default, a few
            sentences of this package; `mixed_int8`, `full_int8` and `int4` are fitted to some
            hundred texts like those which the model is for, and verified on an eighth of them.
        metadata: bool, whether the file is made for MediaPipe's TextEmbedder and TextClassifier,
            which then need nothing else: it holds the vocabulary, the labels and the verification
            report, takes `segment_ids` in any case, and gives probabilities where the model gives
            the logits of several classes. Or a dict of what the file says of itself: `name`,
            `description`, `version`, `author`, `license`.
        verify: bool, whether the file is run in LiteRT and compared before it gets its name.
        overwrite: bool, whether an existing file may be replaced.
        progress: function of a step's name, called as each step starts.

    Returns:
        An `ExportReport`.

    Raises:
        FileExistsError: if `path` exists and `overwrite` is False.
        ValueError: on an invalid argument.
        ExportError: if the model cannot be exported, naming the op and the layer.
        VerificationError: if the file is not the same model. Whatever is raised, what was at
            `path` is still there.

    Example:

    ```python
    report = keras_addnorm.export.to_tflite(
        embedder, "saved_models/minilm.tflite", quantization="dynamic_int8"
    )
    ```
    """
    if pathlib.Path(path).suffix != ".tflite":
        raise ValueError(
            f"`path` must end in '.tflite'. Received: path={str(path)!r}. Add the ending."
        )
    options = {"batch_size": batch_size, "lengths": lengths, "drop_inputs": drop_inputs}
    return run_export(
        model,
        path,
        TFLITE,
        Plan(
            get_recipe(quantization),
            sequence_length=sequence_length,
            calibration=calibration,
            metadata=collect_metadata(model, metadata, **options),
            **options,
        ),
        verify=verify,
        overwrite=overwrite,
        progress=progress,
    )
