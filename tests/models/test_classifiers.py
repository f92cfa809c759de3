"""TextClassifier, TokenClassifier, ImageClassifier: values by hand, labels, losses, errors."""

import keras
import keras_hub
import numpy as np
import pytest

from keras_addnorm.models import (
    ImageClassifier,
    ImageClassifierPreprocessor,
    ImageConverter,
    ImageEncoder,
    TextClassifier,
    TokenClassifier,
    TransformerEncoder,
)
from keras_addnorm.models.token_classifier import TokenAccuracy
from tests import reference
from tests.common import (
    TINY_IMAGE_ENCODER,
    encoder_inputs,
    randomize,
    to_numpy,
    weights_of,
    word_piece,
)
from tests.models import tasks

# A head of two matrix products of 8 to 24 terms and a norm, in float32.
TOLERANCE = {"rtol": 1e-5, "atol": 1e-5}
ACTIVATIONS = {
    None: lambda x: x,
    "sigmoid": reference.ACTIVATIONS["sigmoid"],
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
}


def float64(outputs, name):
    return to_numpy(outputs[name]).astype("float64")


@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "last", "weighted_mean", "pooler"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_text_classifier(rng, pooling, activation):
    encoder = TransformerEncoder(**tasks.ENCODER, pooler="tanh")
    options = {"hidden_dim": 5, "activation": "gelu", "norm": "layer_norm", "epsilon": 1e-3}
    task = TextClassifier(encoder, 3, None, pooling, activation, head_options=options)
    randomize(task, rng)
    inputs = encoder_inputs(rng)
    outputs = encoder(inputs)
    if pooling == "pooler":
        features = float64(outputs, "pooled_output")
    else:
        states = float64(outputs, "sequence_output")
        features = reference.pooling(states, inputs["padding_mask"], pooling)
    logits = reference.head(weights_of(task.head), features, "gelu", "layer_norm", 1e-3)
    np.testing.assert_allclose(to_numpy(task(inputs)), ACTIVATIONS[activation](logits), **TOLERANCE)


def test_several_poolings_are_joined_in_their_order(rng):
    encoder = TransformerEncoder(**tasks.ENCODER, pooler="tanh")
    task = randomize(TextClassifier(encoder, 3, pooling=["max", "pooler", "mean"]), rng)
    inputs = encoder_inputs(rng)
    outputs = encoder(inputs)
    states, mask = float64(outputs, "sequence_output"), inputs["padding_mask"]
    parts = [reference.pooling(states, mask, kind) for kind in ("max", "mean")]
    features = np.concatenate([parts[0], float64(outputs, "pooled_output"), parts[1]], -1)
    want = reference.head(weights_of(task.head), features)
    np.testing.assert_allclose(to_numpy(task(inputs)), want, **TOLERANCE)


@pytest.mark.parametrize("name", ["token", "replaced"])
def test_token_classifier(rng, name):
    task, inputs = tasks.make(name, rng)
    states = float64(task.backbone(inputs), "sequence_output")
    logits = reference.head(weights_of(task.head), states, "gelu")
    want = ACTIVATIONS[task.activation](logits)
    assert want.shape == (3, 6, task.num_classes)
    np.testing.assert_allclose(to_numpy(task(inputs)), want, **TOLERANCE)


@pytest.mark.parametrize("pooling", ["cls", "distillation", "mean", "max", ["distillation", "max"]])
def test_image_classifier(rng, pooling):
    task, inputs = tasks.make("image", rng, pooling=pooling)
    states = float64(task.backbone(inputs), "sequence_output")
    assert states.shape == (3, 2 + 1 + 6, 8)  # class and distillation token, register, patches
    parts = {
        "cls": states[:, 0],
        "distillation": states[:, 1],
        "mean": states[:, 3:].mean(1),
        "max": states[:, 3:].max(1),
    }
    names = [pooling] if isinstance(pooling, str) else pooling
    features = np.concatenate([parts[name] for name in names], -1)
    want = reference.head(weights_of(task.head), features)
    np.testing.assert_allclose(to_numpy(task(inputs)), want, **TOLERANCE)


def test_image_classifier_takes_arrays(rng):
    task, inputs = tasks.make("image", rng)
    task.compile(run_eagerly=True)
    want = task.predict(inputs, verbose=0)
    np.testing.assert_array_equal(task.predict(inputs["images"], verbose=0), want)
    assert task.classify(inputs["images"]) == task.classify(inputs)
    assert np.isfinite(task.evaluate(inputs["images"], np.array([0, 1, 2]), verbose=0)).all()


def test_distilled_image_classifier(rng):
    task, inputs = tasks.make("distilled", rng)
    states = float64(task.backbone(inputs), "sequence_output")
    heads = (task.head, task.distillation_head)
    parts = [reference.head(weights_of(head), states[:, i]) for i, head in enumerate(heads)]
    np.testing.assert_allclose(to_numpy(task(inputs)), sum(parts) / 2, **TOLERANCE)


@pytest.mark.parametrize(("tokens", "pooling"), [(1, "cls"), (2, "mean")])
def test_distilled_needs_both_tokens(rng, tokens, pooling):
    encoder = ImageEncoder(**TINY_IMAGE_ENCODER, embedding_options={"num_class_tokens": tokens})
    with pytest.raises(ValueError, match="must have both.*Pass embedding_options="):
        ImageClassifier(encoder, 2, pooling=pooling, distilled=True)


def test_image_classifier_of_images_of_any_sizes(rng, tmp_path):
    preprocessor = ImageClassifierPreprocessor(ImageConverter((8, 12), mean=0.5, std=[0.5, 1, 2]))
    task, _ = tasks.make("image", rng, preprocessor=preprocessor)
    images = [rng.integers(0, 256, (*size, 3)).astype("uint8") for size in ((9, 14), (20, 12))]
    want = to_numpy(task(preprocessor(images)))
    task.compile(run_eagerly=True)
    np.testing.assert_allclose(task.predict(images, verbose=0), want, **TOLERANCE)
    one = task.predict(images[0][None], verbose=0)  # an array, through `tf.data`
    np.testing.assert_allclose(one, want[:1], **TOLERANCE)
    assert [row[0][0] for row in task.classify(images)] == [
        tasks.LABELS[i] for i in np.argmax(want, axis=-1)
    ]
    task.save_to_preset(tmp_path / "preset")
    again = ImageClassifier.from_preset(str(tmp_path / "preset"))
    np.testing.assert_array_equal(to_numpy(again(again.preprocessor(images))), want)


@pytest.mark.parametrize("labels", [None, tasks.LABELS])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_classify(rng, labels, activation):
    task, inputs = tasks.make("text", rng, labels=labels, activation=activation)
    task.compile(run_eagerly=True)
    probabilities = to_numpy(task(inputs)).astype("float64")
    if activation is None:
        probabilities = ACTIVATIONS["softmax"](probabilities)
    for row, best in zip(probabilities, task.classify(inputs, top_k=2), strict=True):
        order = np.argsort(-row)[:2]
        assert [label for label, _ in best] == [labels[i] if labels else i for i in order]
        np.testing.assert_allclose([p for _, p in best], row[order], rtol=1e-5)
    assert [len(best) for best in task.classify(inputs)] == [1, 1, 1]


def test_classify_tokens_leaves_padding_out(rng):
    task, inputs = tasks.make("token", rng)
    task.compile(run_eagerly=True)
    probabilities = to_numpy(task(inputs))
    got = task.classify(inputs)
    assert [len(row) for row in got] == [6, 4, 2]
    for row, pairs in zip(probabilities, got, strict=True):
        for scores, (label, probability) in zip(row, pairs, strict=False):
            assert label == tasks.LABELS[scores.argmax()]
            assert probability == pytest.approx(scores.max(), rel=1e-5)


def test_classify_of_a_regression_is_its_output(rng):
    task, inputs = tasks.make("regression", rng)
    task.compile(run_eagerly=True)
    want = to_numpy(task(inputs))[:, 0]
    got = [pair for ((_, pair),) in task.classify(inputs)]
    np.testing.assert_allclose(got, want, rtol=1e-5)


WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "cat", "sat", "##s", "dog", "the"]


def kerashub_preprocessor():
    tokenizer = keras_hub.models.BertTokenizer(vocabulary=WORDS, lowercase=True)
    return keras_hub.models.BertTextClassifierPreprocessor(tokenizer, 8)


@pytest.mark.parametrize("whose", ["ours", "KerasHub's"])
@pytest.mark.parametrize("name", ["text", "token"])
def test_strings(rng, name, whose):
    task, _ = tasks.make(name, rng)
    ours = task.preprocessor_cls(word_piece(WORDS), 8)
    task.preprocessor = ours if whose == "ours" else kerashub_preprocessor()
    task.compile(jit_compile=False)
    texts = ["A cat sat", "the dogs"]
    inputs = task.preprocess_samples(texts)
    assert set(inputs) == set(task.input)  # without segments where there are none
    got, alone = task.classify(texts), task.classify("A cat sat")
    assert [len(row) for row in got] == ([5, 5] if name == "token" else [1, 1])  # with [CLS], [SEP]
    for (label, probability), (same, want) in zip(got[0], alone[0], strict=True):
        # Another batch may sum in another order.
        assert label == same and probability == pytest.approx(want, rel=1e-5)


@pytest.mark.parametrize(
    ("name", "loss", "metrics"),
    [
        ("text", "sparse_categorical_crossentropy", ["sparse_categorical_accuracy"]),
        ("several", "binary_crossentropy", ["binary_accuracy"]),
        ("regression", "mean_squared_error", []),
        ("token", "sparse_categorical_crossentropy", ["token_accuracy"]),
        ("replaced", "mean_squared_error", []),
    ],
)
def test_default_loss(rng, name, loss, metrics):
    task, inputs = tasks.make(name, rng)
    task.compile(run_eagerly=True)
    labels, outputs = tasks.targets(name, rng), to_numpy(task(inputs)).astype("float64")
    got = task.evaluate(inputs, labels, verbose=0, return_dict=True)
    assert list(got) == ["loss", *metrics] or sorted(got) == sorted(["loss", *metrics])
    if loss == "mean_squared_error":
        want = ((outputs - labels.reshape(outputs.shape)) ** 2).mean()
    elif loss == "binary_crossentropy":
        want = -np.where(labels == 1, np.log(outputs), np.log(1 - outputs)).mean()
    else:
        probabilities = outputs if task.activation else ACTIVATIONS["softmax"](outputs)
        want = -np.log(np.take_along_axis(probabilities, labels[..., None], -1)).mean()
    # Keras clips probabilities at 1e-7, and float32 has 1e-7 of a logit of size 1.
    assert got["loss"] == pytest.approx(want, rel=1e-4)


def test_labels_of_minus_100_do_not_count(rng):
    task, inputs = tasks.make("token", rng)
    task.compile(run_eagerly=True)
    labels = tasks.targets("token", rng)
    ignored = np.where(inputs["padding_mask"] == 1, labels, -100)
    got = task.evaluate(inputs, ignored, verbose=0, return_dict=True)
    probabilities = to_numpy(task(inputs)).astype("float64")
    kept = inputs["padding_mask"] == 1
    right = np.take_along_axis(probabilities, labels[..., None], -1)[..., 0][kept]
    assert got["loss"] == pytest.approx(-np.log(right).mean(), rel=1e-4)
    hits = (probabilities.argmax(-1) == labels)[kept]
    assert got["token_accuracy"] == pytest.approx(hits.mean(), rel=1e-6)


def test_token_accuracy_multiplies_sample_weights():
    metric = TokenAccuracy()
    scores = np.eye(3)[[[0, 1, 2, 0]]]
    metric.update_state(np.array([[0, 2, -100, 0]]), scores, np.array([[1.0, 1.0, 9.0, 3.0]]))
    assert float(metric.result()) == pytest.approx(4 / 5)
    revived = TokenAccuracy.from_config(metric.get_config())
    assert revived.name == "token_accuracy"


def test_a_preset_with_other_classes(rng, tmp_path):
    task, inputs = tasks.make("text", rng)
    task.save_to_preset(tmp_path / "preset")
    for cls in (TextClassifier, keras_hub.models.TextClassifier):
        loaded = cls.from_preset(str(tmp_path / "preset"), num_classes=5)
        assert type(loaded) is TextClassifier
        assert (loaded.num_classes, loaded.labels) == (5, None)
        np.testing.assert_array_equal(
            to_numpy(loaded.backbone(inputs)["sequence_output"]),
            to_numpy(task.backbone(inputs)["sequence_output"]),
        )


def test_lora_trains_the_head_and_the_factors(rng):
    task, inputs = tasks.make("text", rng)
    task.backbone.enable_lora(2)
    paths = {w.path for w in task.trainable_weights}
    assert {"head/output/kernel", "head/output/bias"} <= paths
    assert all("lora" in path for path in paths if not path.startswith("head/"))
    before = to_numpy(task.head.output_dense.kernel)
    task.compile(keras.optimizers.SGD(0.1), run_eagerly=True)
    task.fit(inputs, np.array([0, 1, 2]), verbose=0)
    assert not np.array_equal(to_numpy(task.head.output_dense.kernel), before)


@pytest.mark.parametrize("name", ["text", "token", "image"])
@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"num_classes": 0}, "`num_classes` must be a whole number from 1"),
        ({"labels": ["a"]}, "`labels` must be a list of 3 strings"),
        ({"labels": [1, 2, 3]}, "Pass None to number the classes"),
        ({"labels": "abc"}, "labels='abc'"),
        ({"activation": "relu"}, "`activation` must be one of None, 'softmax', 'sigmoid'"),
        ({"num_classes": 1, "activation": "softmax", "labels": None}, "Pass activation='sigmoid'"),
        ({"dropout": 1.0}, "`dropout` is the share of units"),
    ],
)
def test_bad_argument_is_named_with_its_fix(rng, name, kwargs, message):
    with pytest.raises(ValueError) as error:
        tasks.make(name, rng, **kwargs)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("name", "pooling"),
    [
        ("several", "pooler"),
        ("several", "sum"),
        ("several", []),
        ("several", ["mean", "mean"]),
        ("several", None),
        ("several", ["mean", {}]),
        ("image", "last"),
        ("image", "pooler"),
    ],
)
def test_bad_pooling_is_named_with_its_fix(rng, name, pooling):
    with pytest.raises(
        ValueError, match="`pooling` must be one of .*Pass for instance 'cls'|'mean'"
    ):
        tasks.make(name, rng, pooling=pooling)


@pytest.mark.parametrize(("tokens", "pooling"), [(0, "cls"), (1, "distillation")])
def test_tokens_that_are_not_there_are_refused(rng, tokens, pooling):
    encoder = ImageEncoder(**TINY_IMAGE_ENCODER, embedding_options={"num_class_tokens": tokens})
    with pytest.raises(ValueError, match="'distillation' where it has such tokens"):
        ImageClassifier(encoder, 2, pooling=pooling)


def test_a_token_classifier_takes_no_pooling(rng):
    with pytest.raises(ValueError, match="has no argument `pooling`"):
        TokenClassifier(TransformerEncoder(**tasks.ENCODER), 2, pooling="cls")
