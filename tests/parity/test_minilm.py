"""Live comparison of all-MiniLM-L6-v2 with transformers and torch: `make parity`."""

import numpy as np
import pytest

pytestmark = pytest.mark.parity
torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from keras_addnorm import zoo  # noqa: E402
from tests.common import to_numpy  # noqa: E402
from tests.zoo.common import HIDDEN_STATES, needs_weights  # noqa: E402
from tests.zoo.make_reference import run  # noqa: E402


@needs_weights
def test_minilm_on_real_sentences():
    from tests.zoo.vocabularies import SENTENCES

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
