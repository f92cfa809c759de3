"""Nothing of a bundle is used that is not what its manifest says, or that leaves its folder."""

import json
import os

import pytest

from keras_addnorm.text import BundleError, Embedder
from keras_addnorm.text import bundle as reading
from tests.text.common import copy, read, replace, write

INPUT = {"name": "token_ids", "dtype": "int32", "shape": [1, None]}
OUTPUT = {"name": "embedding", "dtype": "float32", "shape": [1, 32]}


@pytest.fixture
def folder(bundle, tmp_path):
    return copy(bundle, tmp_path)


def test_vectors_are_checked(folder):
    assert Embedder(folder).check() > 40
    vectors = read(folder, "tokenization.json")
    vectors["cases"][3]["ids"][1] += 1
    replace(folder, "tokenization.json", json.dumps(vectors).encode())
    with pytest.raises(BundleError, match="The tokenizer gives .* for .* and gave"):
        Embedder(folder).check()


@pytest.mark.parametrize("name", ["model.tflite", "tokenizer.json", "tokenization.json"])
@pytest.mark.parametrize("damage", ["changed", "longer", "shorter", "missing", "folder", "pipe"])
def test_damaged_files(folder, name, damage):
    path = folder / name
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage == "pipe":
        os.mkfifo(path)
    elif damage != "missing":
        middle = len(data) // 2
        changed = data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]
        path.write_bytes({"changed": changed, "longer": data + b" ", "shorter": data[1:]}[damage])
    with pytest.raises(BundleError, match=f"{name}.*copy or make it again"):
        Embedder(folder).check()


def test_no_descriptor_stays_open(folder):
    (folder / "manifest.json").unlink()
    (folder / "manifest.json").mkdir()
    before = len(os.listdir("/dev/fd"))
    for _ in range(5):
        with pytest.raises(BundleError):
            Embedder(folder)
    assert len(os.listdir("/dev/fd")) == before


def test_outputs_of_another_size(folder):
    manifest = read(folder)
    manifest["model"]["signatures"][0]["outputs"][0]["shape"][-1] = 7
    manifest["embedding"]["dimension"] = 7
    write(folder, manifest)
    with pytest.raises(BundleError, match="has 32 features, not 7"):
        Embedder(folder)


def test_a_length_that_special_tokens_do_not_fit_in(folder):
    manifest = read(folder)
    manifest["tokenizer"]["max_length"] = 1
    write(folder, manifest)
    with pytest.raises(BundleError, match="max_length below the number of special tokens"):
        Embedder(folder)


def test_no_bundle(tmp_path):
    (tmp_path / "file").write_text("")
    for path, what in ((tmp_path, "holds no manifest.json"), (tmp_path / "file", "is no folder")):
        with pytest.raises(BundleError, match=what):
            Embedder(path)


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 200_000, "is no JSON"),
        (b"[]", r"must be an object, not \[\]"),
        (b"{}", "format must be a string, not missing"),
        (b'{"format": "web app"}', "describes no keras_addnorm text bundle"),
        (b" " * (reading.MAX_MANIFEST_BYTES + 1), "more than the 1048576 that it may have"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_no_manifest(folder, data, message):
    (folder / "manifest.json").write_bytes(data)
    with pytest.raises(BundleError, match=message):
        Embedder(folder)


DELETE = "(to be deleted)"


def edit(manifest, keys, value):
    *path, last = keys
    for key in path:
        manifest = manifest[key]
    if value is DELETE:
        del manifest[last]
    else:
        manifest[last] = value


SIGNATURE = ("model", "signatures", 0)
EDITS = [
    (("version",), 2, "of version 2; this keras_addnorm reads version 1"),
    (("version",), True, "version must be a whole number, not True"),
    (("version",), "1", "version must be a whole number, not '1'"),
    (("task",), "classify", "for the task 'classify'"),
    (("task",), None, "task must be a string, not None"),
    (("files",), [], r"files must be an object, not \[\]"),
    (("files", "../x"), {"bytes": 1, "sha256": ""}, r"names a file outside the bundle: '\.\./x'"),
    (("files", "/etc/passwd"), {"bytes": 1, "sha256": ""}, "outside the bundle"),
    (("files", "a\\b"), {"bytes": 1, "sha256": ""}, "outside the bundle"),
    (("files", ".."), {"bytes": 1, "sha256": ""}, "outside the bundle"),
    (("files", ""), {"bytes": 1, "sha256": ""}, "outside the bundle"),
    (("files", "x\0y"), {"bytes": 1, "sha256": ""}, "outside the bundle"),
    (("files", "model.tflite", "bytes"), -1, "bytes must be a whole number from 0"),
    (("files", "model.tflite", "bytes"), 10**12, "bytes must be a whole number from 0"),
    (("files", "model.tflite", "bytes"), 1.0, "bytes must be a whole number, not 1.0"),
    (("files", "model.tflite", "sha256"), None, "sha256 must be a string"),
    (("files", "model.tflite", "sha256"), "0" * 64, "is not the file that"),
    (("files", "model.tflite"), DELETE, "lists no file 'model.tflite'"),
    (("model",), "model.tflite", "model must be an object"),
    (("model", "file"), "../model.tflite", "lists no file '../model.tflite'"),
    (("model", "file"), "/etc/passwd", "lists no file '/etc/passwd'"),
    (("model", "file"), "vocab.txt", "LiteRT cannot load the model"),
    (("model", "signatures"), [], "must be a list of 1 to 64 objects"),
    (("model", "signatures"), [{}] * 65, "must be a list of 1 to 64 objects"),
    (("model", "signatures"), [3], r"signatures\[0\] must be an object, not 3"),
    ((*SIGNATURE, "name"), "length_8", "has no signature 'length_8'"),
    ((*SIGNATURE, "length"), 0, "length must be a whole number from 1"),
    ((*SIGNATURE, "length"), 2**40, "length must be a whole number from 1"),
    ((*SIGNATURE, "batch_size"), 10**6, "batch_size must be a whole number from 1"),
    ((*SIGNATURE, "inputs"), [], "inputs must be a list of 1 to 3"),
    ((*SIGNATURE, "inputs"), [{**INPUT, "name": "pixels"}], "must take token_ids"),
    ((*SIGNATURE, "inputs"), [INPUT, INPUT], "must take token_ids"),
    ((*SIGNATURE, "inputs"), [{**INPUT, "dtype": "float32"}], "must take token_ids as int32"),
    ((*SIGNATURE, "inputs"), [{**INPUT, "shape": [1, 7]}], r"of shape \[1, None\]"),
    ((*SIGNATURE, "inputs"), [{**INPUT, "shape": "long"}], "a list of whole numbers and nulls"),
    ((*SIGNATURE, "inputs"), [INPUT], "has no signature 'serving_default' with the inputs"),
    ((*SIGNATURE, "outputs"), [OUTPUT, OUTPUT], "outputs must be a list of 1 to 1"),
    ((*SIGNATURE, "outputs"), [{**OUTPUT, "name": "logits"}], "and the output 'logits'"),
    ((*SIGNATURE, "outputs"), [{**OUTPUT, "shape": [1]}], r"must be float32 of shape \[batch,"),
    ((*SIGNATURE, "outputs"), [{**OUTPUT, "shape": [1, 31]}], "has 32 features, not 31"),
    (("tokenizer", "file"), "vocab.txt", "vocab.txt is no tokenizer"),
    (("tokenizer", "max_length"), 2**30, "max_length must be a whole number from 1"),
    (("tokenizer", "max_length"), None, "max_length must be a whole number, not None"),
    (("tokenizer", "pad_token_id"), -1, "pad_token_id must be a whole number from 0"),
    (("embedding",), DELETE, "embedding must be an object, not missing"),
    (("embedding", "dimension"), 384, "another dimension than the model, 32"),
    (("embedding", "normalized"), 1, "normalized must be true or false, not 1"),
]


@pytest.mark.parametrize("keys, value, message", EDITS, ids=lambda value: str(value)[:40])
def test_hostile_manifests(folder, keys, value, message):
    manifest = read(folder)
    edit(manifest, keys, value)
    write(folder, manifest)
    with pytest.raises(BundleError, match=message):
        Embedder(folder)


def test_a_fixed_length_needs_a_mask_and_fits_the_tokenizer(folder):
    manifest = read(folder)
    signature = manifest["model"]["signatures"][0]
    signature["length"] = 16
    for item in signature["inputs"]:
        item["shape"] = [1, 16]
    write(folder, manifest)
    with pytest.raises(BundleError, match="has a max_length above 16"):
        Embedder(folder)
    signature["inputs"] = [x for x in signature["inputs"] if x["name"] != "padding_mask"]
    write(folder, manifest)
    with pytest.raises(BundleError, match="so it must take a padding_mask"):
        Embedder(folder)
    manifest["model"]["signatures"] = [signature, signature]
    signature["length"] = None
    signature["inputs"] = [INPUT]
    write(folder, manifest)
    with pytest.raises(BundleError, match="signatures of different lengths"):
        Embedder(folder)


def test_a_link_is_followed_only_to_what_was_described(folder, tmp_path):
    (folder / "tokenizer.json").rename(tmp_path / "blob")
    (folder / "tokenizer.json").symlink_to(tmp_path / "blob")
    assert Embedder(folder).embed(["a cat"]).shape == (1, 32)  # As in the cache of a hub.
    secret = tmp_path / "secret"
    secret.write_text("x")
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer.json").symlink_to(secret)
    with pytest.raises(BundleError, match="is not the file that"):
        Embedder(folder)


def test_a_broken_model_and_tokenizer_whose_digests_fit(bundle, tmp_path):
    folder = copy(bundle, tmp_path)
    data = (folder / "model.tflite").read_bytes()
    replace(folder, "model.tflite", data[: len(data) // 2])
    with pytest.raises(BundleError, match="LiteRT cannot load the model"):
        Embedder(folder)
    folder = copy(bundle, tmp_path / "again")
    replace(folder, "tokenizer.json", b'{"version": "1.0", "model": {}}')
    with pytest.raises(BundleError, match="tokenizer.json is no tokenizer"):
        Embedder(folder)
