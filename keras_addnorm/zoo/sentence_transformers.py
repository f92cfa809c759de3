"""The modules that sentence-transformers stacks on an encoder: pooling and normalization."""

import json
import pathlib

from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.sources import read_json, read_object

POOLING_KEYS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "last",
    "pooling_mode_weightedmean_tokens": "weighted_mean",
}
# The values of `pooling_mode` in newer files.
POOLING_MODES = {
    "cls": "cls",
    "mean": "mean",
    "max": "max",
    "lasttoken": "last",
    "weightedmean": "weighted_mean",
}


def embedder_arguments(folder, encoder_config):
    """Reads `modules.json` and its pooling config into arguments of `TextEmbedder`.

    A folder without `modules.json` gets what sentence-transformers gives it: mean pooling,
    not normalized.

    Raises:
        CheckpointError: if there is a module or pooling mode that cannot be honoured.
    """
    modules = read_json(folder, "modules.json")
    if modules is None:
        return {"pooling": "mean", "normalize": False}
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise CheckpointError(folder, ["modules.json must hold a list of modules"])
    kinds = [str(module.get("type", "")).rsplit(".", 1)[-1] for module in modules]
    if kinds not in (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise CheckpointError(
            folder,
            [
                "modules.json is supported as Transformer, Pooling and, at the end, Normalize; "
                f"got {', '.join(kinds)}"
            ],
        )
    if modules[0].get("path", "") not in ("", "."):
        raise CheckpointError(
            folder,
            [
                f"modules.json keeps the encoder in the subfolder {modules[0]['path']!r}; it is "
                "supported in the folder itself: move its files there and empty that path"
            ],
        )
    settings = read_object(folder, "config_sentence_transformers.json")
    if settings.get("default_prompt_name") is not None:
        raise CheckpointError(
            folder,
            [
                "sentence-transformers puts the prompt "
                f"{settings['default_prompt_name']!r} before each text, which is not supported"
            ],
        )
    path = str(modules[1].get("path", ""))
    if path == ".." or pathlib.PurePath(path).name != path:
        raise CheckpointError(folder, [f"modules.json points out of the folder: {path!r}"])
    config = read_object(pathlib.Path(folder) / path, "config.json")
    pooling = _pooling(folder, config)
    width = config.get("word_embedding_dimension", encoder_config["hidden_dim"])
    if width != encoder_config["hidden_dim"]:
        raise CheckpointError(
            folder,
            [f"pooling expects {width} features, the encoder has {encoder_config['hidden_dim']}"],
        )
    return {"pooling": pooling, "normalize": kinds[-1] == "Normalize"}


def _pooling(folder, config):
    modes = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
    if not modes and isinstance(config.get("pooling_mode"), str):
        modes = [f"pooling_mode_{config['pooling_mode']}"]
    names = {**POOLING_KEYS, **{f"pooling_mode_{k}": name for k, name in POOLING_MODES.items()}}
    if len(modes) != 1 or modes[0] not in names:
        raise CheckpointError(
            folder,
            [f"pooling is supported as one of {', '.join(POOLING_KEYS)}; got {modes or 'none'}"],
        )
    return names[modes[0]]


def write_modules(folder, embedder):
    """Writes the files that make sentence-transformers load a checkpoint as this embedder.

    Raises:
        ValueError: if the embedder truncates, which such files do not say.
    """
    if embedder.output_dim is not None:
        raise ValueError(
            "A folder of sentence-transformers does not say that embeddings are truncated. "
            f"Received: an embedder with output_dim={embedder.output_dim}. Write it with "
            "output_dim=None, and load it with SentenceTransformer(folder, truncate_dim="
            f"{embedder.output_dim})."
        )
    kinds = ["Transformer", "Pooling"] + ["Normalize"] * embedder.normalize
    modules = [
        {
            "idx": index,
            "name": str(index),
            "path": f"{index}_{kind}" if index else "",
            "type": f"sentence_transformers.models.{kind}",
        }
        for index, kind in enumerate(kinds)
    ]
    _write_json(folder / "modules.json", modules)
    pooling = {
        "word_embedding_dimension": embedder.backbone.hidden_dim,
        **{key: name == embedder.pooling for key, name in POOLING_KEYS.items()},
    }
    for index, kind in enumerate(kinds[1:], 1):
        (folder / f"{index}_{kind}").mkdir()
    _write_json(folder / "1_Pooling" / "config.json", pooling)
    if embedder.preprocessor is not None:
        length = embedder.preprocessor.sequence_length
        settings = {"max_seq_length": length, "do_lower_case": False}
        _write_json(folder / "sentence_bert_config.json", settings)


def _write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
