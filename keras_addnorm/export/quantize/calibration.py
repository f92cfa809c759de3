"""What flows through a .tflite file on sample inputs."""

import numpy as np

from keras_addnorm.export.errors import ExportError


def record(graph, tensors, samples):
    """Runs a file and keeps what some of its tensors hold.

    Args:
        graph: a `Graph`.
        tensors: indices of tensors `(..., features)`.
        samples: list of dicts of arrays by input name, as the file's signature names them, with
            any number of rows each. Positions that `padding_mask` marks as padding are left out:
            they are cut off where the file takes any length, else dropped from what was recorded.

    Returns:
        Dict by tensor of float arrays `(vectors, features)`.

    Raises:
        ExportError: if there are no samples, or LiteRT cannot run the file.
    """
    recorded = {int(tensor): [] for tensor in tensors}
    for row, values in _runs(graph, list(recorded), samples):
        mask = row.get("padding_mask")
        for tensor, value in values.items():
            recorded[tensor].append(_unpadded(value.reshape(-1, value.shape[-1]), mask))
    return {tensor: np.concatenate(values) for tensor, values in recorded.items()}


def ranges(graph, tensors, samples):
    """Dict of (smallest, largest) value by tensor; arguments and errors as of `record`.

    Tensors may be of any shape, padded positions count where they are not told apart by it.
    """
    found = {int(tensor): [] for tensor in tensors}
    for row, values in _runs(graph, list(found), samples):
        mask = row.get("padding_mask")
        for tensor, value in values.items():
            flat = value.reshape(-1, value.shape[-1]) if value.ndim else value.reshape(1, 1)
            flat = _unpadded(flat, mask)
            found[tensor].append((float(flat.min()), float(flat.max())))
    return {t: (min(x[0] for x in v), max(x[1] for x in v)) for t, v in found.items()}


def smallest_peaks(graph, tensors, samples):
    """Dict by tensor of the smallest of the largest values of its vectors; else as `ranges`."""
    found = {int(tensor): [] for tensor in tensors}
    for _, values in _runs(graph, list(found), samples):
        for tensor, value in values.items():
            found[tensor].append(float(value.max(axis=-1).min()))
    return {tensor: min(peaks) for tensor, peaks in found.items()}


def _runs(graph, tensors, samples):
    """Runs row after row; yields its inputs, and what the tensors hold by tensor."""
    from ai_edge_litert.interpreter import Interpreter

    rows = [row for sample in samples for row in _rows(graph, sample)]
    if not rows:
        raise ExportError(
            "Calibration needs inputs to run the model on. Received: none. Pass sample inputs."
        )
    # Each change of length costs more than a run.
    rows.sort(key=lambda row: [value.shape for value in row.values()])
    try:
        interpreter = Interpreter(model_content=_with_outputs(graph, tensors))
        shapes = {}
        for row in rows:
            _feed(interpreter, graph.signature_inputs(), row, shapes)
            yield row, {tensor: interpreter.get_tensor(tensor) for tensor in tensors}
    except (ValueError, RuntimeError) as error:
        raise ExportError(f"LiteRT cannot run the file to calibrate it: {error}") from error


def _rows(graph, sample):
    """The inputs of one run after another: a batch of the file's size, or 1, without padding."""
    inputs = graph.signature_inputs()
    shapes = {name: graph.shape(tensor) for name, tensor in inputs.items()}
    step = next(iter(shapes.values()))[0] or 1
    count = min(len(sample[name]) for name in inputs)
    for start in range(0, count - step + 1, step):
        row = {name: np.asarray(sample[name][start : start + step]) for name in inputs}
        mask = row.get("padding_mask")
        if mask is not None and shapes["padding_mask"][1] is None:
            length = max(int(np.nonzero(mask.any(axis=0))[0].max(initial=0)) + 1, 1)
            cut = {name for name, shape in shapes.items() if len(shape) > 1 and shape[1] is None}
            row = {name: v[:, :length] if name in cut else v for name, v in row.items()}
        yield row


def _with_outputs(graph, tensors):
    """The bytes of a file that computes tensors, and nothing behind them.

    As outputs, no delegate may leave them out; most recordings are of an early layer's tensors.
    """
    model, main = graph.model, graph.model.subgraphs[0]
    wanted = set(tensors)
    last = [i for i, op in enumerate(main.operators) if not wanted.isdisjoint(map(int, op.outputs))]
    kept = main.outputs, main.operators, model.signatureDefs
    buffers = [tensor.buffer for tensor in main.tensors], [b.data for b in model.buffers]
    notes = model.metadata, model.buffers
    main.outputs, model.signatureDefs = np.array(tensors, "int32"), None
    model.buffers = list(model.buffers)  # Notes of this file are put behind them.
    main.operators = main.operators[: last[-1] + 1] if last else main.operators
    try:
        return graph.to_bytes()
    finally:  # What nothing reads any more was taken out.
        main.outputs, main.operators, model.signatureDefs = kept
        model.metadata, model.buffers = notes
        for tensor, buffer in zip(main.tensors, buffers[0], strict=True):
            tensor.buffer = buffer
        for buffer, data in zip(model.buffers, buffers[1], strict=True):
            buffer.data = data


def _feed(interpreter, inputs, row, shapes):
    changed = {name: row[name].shape for name in inputs}
    if changed != shapes:
        for name, tensor in inputs.items():
            interpreter.resize_tensor_input(tensor, row[name].shape)
        interpreter.allocate_tensors()
        shapes.update(changed)
    for name, tensor in inputs.items():
        interpreter.set_tensor(tensor, np.ascontiguousarray(row[name]))
    interpreter.invoke()


def _unpadded(values, mask):
    if mask is None or mask.size != len(values):
        return values
    return values[np.asarray(mask, bool).reshape(-1)]
