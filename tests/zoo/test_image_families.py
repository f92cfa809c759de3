"""What is special in the families of images: keys that are refused, and KerasHub's layouts."""

import keras
import keras_hub
import numpy as np
import pytest

from keras_addnorm import export, zoo
from keras_addnorm.models import ImageEncoder
from keras_addnorm.zoo import CheckpointError
from tests.common import TINY_IMAGE_ENCODER
from tests.zoo import cases
from tests.zoo.common import DATA, copy_checkpoint, edit_tensors


@pytest.mark.parametrize(
    "name, key, value",
    [
        ("vit_plain", "image_size", 10),  # no whole patches
        ("vit_plain", "image_size", [12, 12, 3]),
        ("vit_plain", "image_size", [12, True]),
        ("vit_plain", "patch_size", 0),
        ("vit_plain", "patch_size", "4"),
        ("vit_plain", "num_channels", 0),
        ("vit_plain", "qkv_bias", 1),
        ("vit_plain", "pooler_output_size", 8),
        ("vit_plain", "pooler_act", "no_such_activation"),
        ("vit_plain", "use_mask_token", True),  # a key of DINOv2
        ("deit_plain", "pooler_output_size", 17),
        ("dinov2_plain", "image_size", [12, 8]),  # transformers has only squares
        ("dinov2_plain", "mlp_ratio", 2.5),
        ("dinov2_plain", "mlp_ratio", 10**6),
        ("dinov2_plain", "use_swiglu_ffn", None),
        ("dinov2_plain", "num_register_tokens", 4),  # a key of the other family
        ("dinov2_with_registers_plain", "num_register_tokens", 0),
        ("dinov2_with_registers_plain", "num_register_tokens", 10**9),
        ("dinov2_with_registers_plain", "use_mask_token", False),
    ],
)
def test_a_key_that_cannot_be_honoured_is_named(tmp_path, name, key, value):
    folder = copy_checkpoint(tmp_path, name, **{key: value})
    if value is None:
        (folder / "config.json").write_text(
            (folder / "config.json").read_text().replace("{", f'{{"{key}": null, ', 1)
        )
    with pytest.raises(CheckpointError) as caught:
        zoo.from_hugging_face(folder)
    assert any(f"`{key}`" in problem for problem in caught.value.problems)


def test_the_size_of_the_pooler_may_be_said(tmp_path):
    folder = copy_checkpoint(tmp_path, "vit_plain", pooler_output_size=16)
    assert zoo.from_hugging_face(folder).pooler == "tanh"


def test_without_tensors_of_a_pooler_there_is_none(tmp_path):
    folder = copy_checkpoint(tmp_path, "vit_plain")

    def remove(tensors):
        del tensors["pooler.dense.weight"], tensors["pooler.dense.bias"]

    edit_tensors(folder, remove)
    assert zoo.from_hugging_face(folder).pooler is None


@pytest.mark.parametrize(
    "arguments, reason",
    [
        ({"residual": "post_norm"}, "`residual` is 'post_norm', the family has 'pre_norm'"),
        ({"embedding_options": {"num_class_tokens": 3}}, "`embedding_options`"),
        ({"attention_options": {"qk_norm": "rms_norm"}}, "`attention_options`"),
    ],
)
def test_an_encoder_that_no_family_has_is_not_written(tmp_path, arguments, reason):
    encoder = ImageEncoder(**{**TINY_IMAGE_ENCODER, **arguments})
    with pytest.raises(ValueError) as caught:
        zoo.to_hugging_face(encoder, tmp_path / "out")
    assert reason in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("inner, written", [(16, True), (18, False)])
def test_dinov2_has_whole_ratios_only(tmp_path, inner, written):
    encoder = ImageEncoder(
        (8, 8, 3), 4, 1, 2, 8, inner, residual="layer_scale", embedding_options=None
    )
    if written:
        zoo.to_hugging_face(encoder, tmp_path / "out")
        assert zoo.from_hugging_face(tmp_path / "out").intermediate_dim == inner
    else:
        with pytest.raises(ValueError, match="no whole multiple of `hidden_dim` 8"):
            zoo.to_hugging_face(encoder, tmp_path / "out", model_type="dinov2")


def test_a_checkpoint_of_another_image_size_exports_to_tflite(tmp_path):
    encoder = zoo.from_hugging_face(DATA / "dinov2_gated", image_size=8)
    report = export.to_tflite(encoder, tmp_path / "model.tflite")
    assert [tuple(x.shape) for x in report.inputs] == [(1, 8, 8, 3)]
    assert list(report.verification) == ["sequence_output"]  # what was verified


@pytest.mark.parametrize("model_type", ["vit", "deit", "dinov2"])
def test_channels_first_is_refused(model_type):
    arguments = cases.module_of(model_type).HUB[0]
    height, width, channels = arguments["image_shape"]
    backbone = getattr(keras_hub.models, zoo.FAMILIES[model_type].keras_hub.backbone)(
        **{**arguments, "image_shape": (channels, height, width), "data_format": "channels_first"}
        | ({"position_embedding_shape": (channels, 12, 12)} if model_type == "dinov2" else {})
    )
    with pytest.raises(CheckpointError, match="`data_format` is supported only as 'channels_last'"):
        zoo.from_keras_hub(backbone)


def test_to_keras_hub_is_channels_last_whatever_the_default():
    encoder = ImageEncoder(**TINY_IMAGE_ENCODER)
    keras.config.set_image_data_format("channels_first")
    try:
        backbone = zoo.to_keras_hub(encoder)
    finally:
        keras.config.set_image_data_format("channels_last")
    images = np.ones((1, 8, 12, 3), "float32")
    np.testing.assert_allclose(
        backbone(images), encoder({"images": images})["sequence_output"], rtol=0, atol=1e-5
    )


def test_positions_of_keras_hubs_dinov2_survive_its_own_files(tmp_path):
    """Its files keep the table that it interpolates from: both tables must be ours."""
    encoder = ImageEncoder((8, 8, 3), 4, 1, 2, 8, 16, residual="layer_scale")
    backbone = zoo.to_keras_hub(encoder)
    backbone.save_to_preset(tmp_path / "preset")
    again = keras_hub.models.Backbone.from_preset(str(tmp_path / "preset"))
    images = {"images": np.ones((1, 8, 8, 3), "float32")}
    np.testing.assert_array_equal(again(images), backbone(images))
    ours = zoo.from_keras_hub(again)(images)["sequence_output"]
    np.testing.assert_array_equal(ours, encoder(images)["sequence_output"])
