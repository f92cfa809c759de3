"""Live comparison with transformers and torch: `make parity`."""

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from keras_addnorm import zoo  # noqa: E402
from tests.common import to_numpy  # noqa: E402
from tests.zoo.common import HIDDEN_STATES, needs_weights  # noqa: E402
from tests.zoo.make_reference import COMMON, padded_inputs, randomize, run  # noqa: E402

KEYS = {
    "defaults": {},
    "gelu_new": {"hidden_act": "gelu_new"},
    "relu, wide": {"hidden_act": "relu", "intermediate_size": 70},
    "silu": {"hidden_act": "silu"},
    "tanh": {"hidden_act": "tanh"},
    "large epsilon": {"layer_norm_eps": 1e-1},
    "one head": {"num_attention_heads": 1},
    "a feature a head": {"num_attention_heads": 16},
    "one segment": {"type_vocab_size": 1},
    "five segments": {"type_vocab_size": 5},
    "short": {"max_position_embeddings": 12},
    "pad id": {"pad_token_id": 7},
    "deep": {"num_hidden_layers": 5},
}
HEADS = ("BertModel", "BertForMaskedLM", "BertForSequenceClassification", "BertForPreTraining")


def compare(model, folder, config, seed=0):
    randomize(model, seed)
    model.save_pretrained(folder)
    inputs = padded_inputs(config, np.random.default_rng(seed))
    expected = run(getattr(model, "bert", model), inputs)
    encoder = zoo.from_hugging_face(folder)
    outputs = encoder(
        {
            "token_ids": inputs["input_ids"],
            "padding_mask": inputs["attention_mask"],
            "segment_ids": inputs["token_type_ids"],
        }
    )
    assert sorted(outputs) == sorted(expected)
    for key in expected:
        difference = np.abs(to_numpy(outputs[key]) - expected[key]).max()
        assert difference <= HIDDEN_STATES, f"{key}: {difference}"


@pytest.mark.parametrize("name", KEYS)
def test_tiny_random_checkpoints(tmp_path, name):
    config = transformers.BertConfig(**{**COMMON, "num_attention_heads": 4, **KEYS[name]})
    compare(transformers.BertModel(config), tmp_path, config)


@pytest.mark.parametrize("head", HEADS)
def test_checkpoints_with_a_head(tmp_path, head):
    config = transformers.BertConfig(**COMMON, num_attention_heads=2)
    compare(getattr(transformers, head)(config), tmp_path, config, seed=3)


@needs_weights
def test_minilm_on_real_sentences():
    from tests.zoo.test_tokenizer import SENTENCES

    folder = zoo.resolve("minilm")
    texts = SENTENCES.read_text(encoding="utf-8").splitlines()[:40]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = dict(tokenizer(texts, padding="max_length", max_length=64, return_tensors="np"))
    expected = run(transformers.AutoModel.from_pretrained(folder), inputs)
    outputs = zoo.from_hugging_face("minilm")(
        {
            "token_ids": inputs["input_ids"],
            "padding_mask": inputs["attention_mask"],
            "segment_ids": inputs["token_type_ids"],
        }
    )
    # At padded positions torch's own float32 is 6e-5 away from its float64: nothing to compare.
    difference = np.abs(to_numpy(outputs["sequence_output"]) - expected["sequence_output"])
    real = difference[inputs["attention_mask"].astype(bool)].max()
    pooled = np.abs(to_numpy(outputs["pooled_output"]) - expected["pooled_output"]).max()
    print(f"largest difference: hidden states {real:.2e}, pooled output {pooled:.2e}")
    assert max(real, pooled) <= HIDDEN_STATES


@needs_weights
def test_minilm_embeddings_are_those_of_mean_pooling_in_torch():
    texts = ["A cat sits on the mat.", "Yes.", "How do I reset my password?"]
    folder = zoo.resolve("minilm")
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer(texts, padding=True, return_tensors="pt")
    with torch.no_grad():
        hidden = transformers.AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state
    mask = inputs["attention_mask"][..., None].float()
    pooled = (hidden * mask).sum(1) / mask.sum(1)
    expected = torch.nn.functional.normalize(pooled, dim=-1).numpy()
    embeddings = zoo.from_hugging_face("minilm", task="embed").encode_text(texts)
    # Unit vectors of 384 features: hidden states within 2e-5 keep each value within 1e-6.
    np.testing.assert_allclose(embeddings, expected, atol=1e-6, rtol=0)
