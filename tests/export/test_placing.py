"""Names are given all at once or not at all, and nothing of the user's is lost."""

import os

import pytest

from keras_addnorm import export, files
from tests.export import common


def test_a_tflite_file_and_a_saved_model_of_one_name_keep_their_reports(tmp_path):
    model = common.embedder()
    export.to_tflite(model, tmp_path / "m.tflite", sequence_length=16)
    before = (tmp_path / "m.tflite.report.json").read_bytes()
    export.to_saved_model(model, tmp_path / "m")
    assert (tmp_path / "m.tflite.report.json").read_bytes() == before
    assert (tmp_path / "m.report.json").is_file()


def test_a_file_with_the_name_of_the_report_is_not_replaced_unasked(tmp_path):
    (tmp_path / "m.report.json").write_text("mine")
    with pytest.raises(FileExistsError, match="m.report.json exists already"):
        export.to_saved_model(common.encoder(), tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["m.report.json"]


def test_overwriting_never_deletes_a_folder_that_holds_no_saved_model(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "photo.jpg").write_text("mine")
    with pytest.raises(FileExistsError, match="holds no saved_model.pb"):
        export.to_saved_model(common.encoder(), tmp_path / "m", overwrite=True)
    assert (tmp_path / "m" / "photo.jpg").read_text() == "mine"


def test_a_vocabulary_of_an_earlier_model_does_not_stay(tmp_path):
    export.to_tflite(common.embedder(), tmp_path / "m.tflite", sequence_length=16)
    export.to_tflite(common.encoder(), tmp_path / "m.tflite", sequence_length=16, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.tflite", "m.tflite.report.json"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_all_moves_are_undone_if_one_fails(tmp_path, monkeypatch, kind):
    staging = tmp_path / "staging"
    staging.mkdir()
    new, old = staging / "new", tmp_path / "model"
    for place, text in ((new, "new"), (old, "old")):
        if kind == "folder":
            place.mkdir()
        (place / "content" if kind == "folder" else place).write_text(text)
    (staging / "note").write_text("new note")
    replace, calls = os.replace, []

    def fail_on_the_second(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise OSError("disk full")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fail_on_the_second)
    with pytest.raises(OSError, match="disk full"):
        files.place_all([(new, old), (staging / "note", tmp_path / "note")])
    content = old / "content" if kind == "folder" else old
    assert content.read_text() == "old" and not (tmp_path / "note").exists()


def test_a_path_without_a_name(tmp_path):
    with pytest.raises(ValueError, match="must end in a name"):
        export.to_saved_model(common.encoder(), "")
