"""From a Keras model to one TensorFlow function with named inputs and outputs."""

import dataclasses
import keyword
import re

import keras

from keras_addnorm.export.errors import ExportError
from keras_addnorm.export.graph import MASK_CONSTANT, Constant, infer

SIGNATURE = "serving_default"

# Inputs that an export can leave out, and what they then hold everywhere: each position is real,
# and of the first segment.
DROPPABLE = {"padding_mask": 1, "segment_ids": 0}

# Inputs that an export can add for clients that pass them to every model; they change nothing.
ADDABLE = ("segment_ids",)


@dataclasses.dataclass(frozen=True)
class TensorSpec:
    """One input or output: its name, its shape (None where unknown) and its dtype."""

    name: str
    shape: tuple
    dtype: str


@dataclasses.dataclass(frozen=True)
class Exportable:
    """A traced model: `function` computes `outputs` from `inputs`; `module` holds its weights."""

    model: keras.Model
    inputs: tuple
    module: object
    function: object


def make_exportable(
    model,
    batch_size,
    sequence_length,
    drop_inputs=(),
    mask_constant=MASK_CONSTANT,
    add_inputs=(),
    cut_to=None,
):
    """Traces `model` for inference.

    Args:
        model: what `prepare` returned.
        batch_size: int, or None for any.
        sequence_length: int, or None for any; replaces the axes that the model leaves open.
        drop_inputs: names of inputs that are left out, keys of `DROPPABLE`.
        mask_constant: float, what is subtracted from masked scores.
        add_inputs: names of inputs that the function takes, like `token_ids`, whether the model
            has them or not.
        cut_to: int or None: longer texts keep so many tokens, the last one among them, for clients
            that do not know how many a model takes. Only of a model of tokens.

    Raises:
        ExportError: if the inputs cannot be named or sized.
        ValueError: if an input cannot be left out.
    """
    import tensorflow as tf

    names = input_names(model)
    drop_inputs = check_dropped(drop_inputs, names.values())
    tensors = [t for t in keras.tree.flatten(model.input) if names[t.name] not in drop_inputs]
    inputs = tuple(_input_spec(names[t.name], t, batch_size, sequence_length) for t in tensors)
    like = {spec.name: spec for spec in inputs}
    added = [name for name in add_inputs if name not in like]
    inputs += tuple(dataclasses.replace(like["token_ids"], name=name) for name in added)

    def serve(**kwargs):
        if cut_to is not None:
            kwargs = {name: _cut(value, cut_to) for name, value in kwargs.items()}
        for name in drop_inputs:
            kwargs[name] = Constant(DROPPABLE[name], kwargs["token_ids"])
        structure = keras.tree.map_structure(lambda t: kwargs[names[t.name]], model.input)
        return output_dict(model, infer(model, structure, mask_constant))

    module = tf.Module()
    module.weights = [variable.value for variable in model.variables]
    # Not the tf.function: saved with the module, it would be traced once more.
    function = tf.function(serve, autograph=False).get_concrete_function(**_tensor_specs(inputs))
    return Exportable(model, inputs, module, function)


def as_called(exportable):
    """The traced function with the model's own call: one argument of the structure of its inputs.

    Keras's `model.export` writes one like it, for `tf.saved_model.load(path).serve(inputs)` and
    `keras.layers.TFSMLayer`.
    """
    import tensorflow as tf

    names, specs = input_names(exportable.model), _tensor_specs(exportable.inputs)
    structure = keras.tree.map_structure(lambda t: names[t.name], exportable.model.input)

    def serve(inputs):
        flat = zip(keras.tree.flatten(structure), keras.tree.flatten(inputs), strict=True)
        return exportable.function(**dict(flat))

    return tf.function(serve, autograph=False).get_concrete_function(
        keras.tree.map_structure(specs.get, structure)
    )


def _tensor_specs(inputs):
    import tensorflow as tf

    return {s.name: tf.TensorSpec(s.shape, s.dtype, name=s.name) for s in inputs}


def _cut(tokens, length):
    """The first `length - 1` tokens and the last one; all of them where there are no more."""
    import tensorflow as tf

    return tf.concat([tokens[:, :-1][:, : length - 1], tokens[:, -1:]], axis=1)


def check_dropped(drop_inputs, names):
    """`drop_inputs` as a tuple of names; raises ValueError unless each can be left out."""
    dropped = (drop_inputs,) if isinstance(drop_inputs, str) else tuple(drop_inputs)
    allowed = sorted(set(names) & DROPPABLE.keys()) if "token_ids" in names else []
    wrong = [name for name in dropped if name not in allowed]
    if wrong:
        raise ValueError(
            "`drop_inputs` names inputs that are the same everywhere: padding_mask (1, no padding) "
            f"and segment_ids (0). Received: {wrong}; of this model's inputs "
            f"{', '.join(allowed) or 'none'} can be left out."
        )
    return dropped


def check_sizes(batch_size, sequence_length):
    """Raises ValueError unless both sizes are positive ints or None."""
    for name, size in (("batch_size", batch_size), ("sequence_length", sequence_length)):
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise ValueError(
                f"`{name}` must be a positive int, or None for any. Received: {name}={size!r}."
            )


def prepare(model):
    """The functional float32 form of a model: itself, where it is that already.

    Raises:
        ExportError: if the model or the backend cannot be exported.
    """
    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            "Export needs the TensorFlow backend. "
            f"Received: the {keras.backend.backend()} backend. Save the model, set "
            "KERAS_BACKEND=tensorflow before Keras is imported, and load it again."
        )
    if isinstance(model, keras.Sequential) and model.built:
        model = keras.Model(model.inputs, model.outputs, name=model.name)
    try:
        keras.tree.flatten(model.input)
    except (AttributeError, ValueError):
        raise ExportError(
            "Export takes a built Keras model of the functional API, whose inputs are known. "
            f"Received: an object of type {type(model).__name__}. Wrap it: "
            "keras.Model(inputs, model(inputs)) with inputs = keras.Input(...)."
        ) from None
    quantized = [layer.path for layer in model._flatten_layers() if layer.quantization_mode]
    if quantized:
        raise ExportError(
            "Export takes float models; converters do not know Keras's quantized layers. "
            f"Received: {len(quantized)} quantized layers, the first {quantized[0]!r}. "
            "Export the model as it was before `quantize`, with quantization='dynamic_int8'."
        )
    return _in_float32(model)


def input_names(model):
    """Exported names of a model's inputs by the names of its tensors; unnamed ones are counted.

    Runtimes know inputs as arguments of a function, so other characters become underscores.
    """
    tensors = keras.tree.flatten(model.input)
    names = {t.name: _argument_name(t.name, index) for index, t in enumerate(tensors)}
    if len(set(names.values())) < len(tensors):
        raise ExportError(f"Inputs must have different names. Received: {list(names.values())}.")
    return names


def _argument_name(name, index):
    if re.fullmatch(r"keras_tensor(_\d+)?", name):
        return f"input_{index}"
    name = re.sub(r"[^0-9A-Za-z_]", "_", name).strip("_") or str(index)
    usable = name.isidentifier() and not keyword.iskeyword(name) and name != "self"
    return name if usable else f"input_{name}"


def _input_spec(name, tensor, batch_size, sequence_length):
    rest = tuple(tensor.shape[1:])
    if rest.count(None) > 1:
        raise ExportError(
            "Export fills in the batch and one more open axis of an input. "
            f"Received: {name} of shape {tuple(tensor.shape)}. Fix the others in keras.Input."
        )
    dtype = keras.backend.standardize_dtype(tensor.dtype)
    whole = "int" in dtype or dtype == "bool"
    shape = (batch_size, *(sequence_length if size is None else size for size in rest))
    return TensorSpec(name, shape, "int32" if whole else "float32")


def output_dict(model, outputs):
    """A model's outputs by name: a dict's own keys, names of layers the user named, or counted.

    The keys of dicts in dicts are joined by underscores.
    """
    if isinstance(outputs, dict):
        if not any(isinstance(value, (dict, list, tuple)) for value in outputs.values()):
            return {str(name): value for name, value in outputs.items()}
        leaves = keras.tree.flatten_with_path(outputs)
        named = {"_".join(map(str, path)): value for path, value in leaves}
        if len(named) < len(leaves):
            raise ExportError(f"Outputs must have different names. Received: {sorted(named)}.")
        return named
    return dict(zip(_output_names(model), keras.tree.flatten(outputs), strict=True))


def _output_names(model):
    tensors = keras.tree.flatten(model.output)
    names = []
    for index, tensor in enumerate(tensors):
        operation = tensor._keras_history.operation
        given = re.sub(r"_\d+$", "", operation.name).replace("_", "")
        named = given != type(operation).__name__.lower()  # Keras's own: `dense_3` for Dense.
        fallback = "output" if len(tensors) == 1 else f"output_{index}"
        names.append(operation.name if named else fallback)
    if len(set(names)) < len(names):
        names = [f"output_{index}" for index in range(len(names))]
    return names


def _in_float32(model):
    """`model` itself where it computes in float32; otherwise a float32 copy with its weights.

    Mixed-precision graphs convert to ops that no shipped runtime has.
    """
    policies = {layer.compute_dtype for layer in model._flatten_layers()}
    if not policies & {"float16", "bfloat16", "float64"}:
        return model
    config = keras.saving.serialize_keras_object(model)
    config.pop("compile_config", None)  # Losses and metrics are not exported.
    try:
        copy = keras.saving.deserialize_keras_object(_replace_dtypes(config))
    except (TypeError, ValueError) as error:
        raise ExportError(
            "A model in half precision is exported as a float32 copy, and this one cannot be "
            "copied. Register its own layers and functions with "
            "keras.saving.register_keras_serializable, replace Lambda layers that hold a Python "
            "lambda, or build the model with dtype='float32' and set its weights. "
            f"Keras says: {str(error).strip().splitlines()[0]}"
        ) from error
    copy.set_weights([keras.ops.convert_to_numpy(w).astype("float32") for w in model.weights])
    return copy


def _replace_dtypes(config, is_dtype=False):
    """A config whose dtypes are float32; names and vocabularies that read like one stay."""
    names = ("float16", "bfloat16", "float64", "mixed_float16", "mixed_bfloat16")
    if isinstance(config, dict):
        return {
            k: _replace_dtypes(v, is_dtype or k in ("dtype", "head_dtype"))
            for k, v in config.items()
        }
    if isinstance(config, (list, tuple)):
        return type(config)(_replace_dtypes(value, is_dtype) for value in config)
    return "float32" if is_dtype and config in names else config
