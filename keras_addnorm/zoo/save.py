"""Saving a model so that it is whole or not there."""

import pathlib

from keras_addnorm import files


def save(model, path, overwrite=False):
    """Saves a model as a `.keras` file, or as a KerasHub preset folder.

    Args:
        model: an encoder or task of ours, or any model of KerasHub.
        path: ends in `.keras` for a file; else the folder of a preset.
        overwrite: whether an existing file or preset folder may be replaced.

    Returns:
        `pathlib.Path` of the file or folder.

    Raises:
        FileExistsError: if it exists and must not be replaced.
        ValueError: if the path has no name.
    """
    path = pathlib.Path(path)
    files.refuse_existing([path], overwrite, marker="config.json")
    with files.staging(path) as stage:
        new = stage / f"new{path.suffix}"
        if path.suffix == ".keras":
            model.save(new)
        else:
            model.save_to_preset(str(new))
        files.place_all([(new, path)])
    return path
