"""A model with fewer tokens gives the same outputs, to the bit, where its tokens suffice."""

import json
import pathlib
import tracemalloc

import keras
import numpy as np
import pytest

from keras_addnorm import zoo
from keras_addnorm.models import (
    MaskedLM,
    MaskedLMPreprocessor,
    QuestionAnswering,
    QuestionAnsweringPreprocessor,
    TextClassifier,
    TextClassifierPreprocessor,
    TextEmbedder,
    TextEmbedderPreprocessor,
    TokenClassifier,
    TokenClassifierPreprocessor,
    Tokenizer,
    TransformerEncoder,
)
from keras_addnorm.zoo.trim_tokenizer import kept_ids, trim_tokenizer
from tests.common import to_numpy
from tests.zoo.common import needs_weights

SENTENCES = pathlib.Path(__file__).parents[2] / "examples" / "data" / "sentences.txt"
TEXTS = SENTENCES.read_text(encoding="utf-8").splitlines()
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
ROLES = {f"{name.lower()}_token": f"[{name}]" for name in ("PAD", "UNK", "CLS", "SEP", "MASK")}


def train(kind):
    """A small tokenizer of a kind, trained on the sentences."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, processors, trainers

    level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    kinds = {
        "WordPiece": (
            models.WordPiece(unk_token="[UNK]"),
            trainers.WordPieceTrainer(vocab_size=700, special_tokens=SPECIAL, show_progress=False),
            pre_tokenizers.BertPreTokenizer(),
        ),
        "BPE": (
            models.BPE(),
            trainers.BpeTrainer(
                vocab_size=700,
                special_tokens=SPECIAL,
                initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                show_progress=False,
            ),
            level,
        ),
        "Unigram": (
            models.Unigram(),
            trainers.UnigramTrainer(
                vocab_size=400, special_tokens=SPECIAL, unk_token="[UNK]", show_progress=False
            ),
            pre_tokenizers.Metaspace(),
        ),
    }
    model, trainer, pre_tokenizer = kinds[kind]
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.train_from_iterator(TEXTS, trainer)
    cls, sep = (("[CLS]", 2), ("[SEP]", 3))
    tokenizer.post_processor = (
        processors.RobertaProcessing(sep, cls)
        if kind == "BPE"
        else processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=[cls, sep])
    )
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]")
    return Tokenizer(tokenizer.to_str(), **ROLES)


def encoder_of(tokenizer, **options):
    size = tokenizer.vocabulary_size() + 3  # As published tables, which are rounded up.
    return TransformerEncoder(
        size, 1, 2, 8, 12, max_sequence_length=64, kernel_initializer="random_normal", **options
    )


@pytest.mark.parametrize("kind", ["WordPiece", "BPE", "Unigram"])
def test_tokens_and_embeddings_of_kept_texts(kind):
    tokenizer = train(kind)
    preprocessor = TextEmbedderPreprocessor(tokenizer, sequence_length=48)
    embedder = TextEmbedder(encoder_of(tokenizer), preprocessor=preprocessor)
    corpus = TEXTS[:10]
    small, trimmed = zoo.trim_vocabulary(embedder, None, corpus)
    assert small.preprocessor.tokenizer is trimmed
    assert trimmed.vocabulary_size() == small.backbone.vocabulary_size
    assert trimmed.vocabulary_size() < 0.8 * tokenizer.vocabulary_size()
    for before, after in zip(tokenizer.encode(corpus), trimmed.encode(corpus), strict=True):
        assert before.tokens == after.tokens
    for role in ROLES:
        token_id = getattr(trimmed, f"{role}_id")
        assert trimmed.id_to_token(token_id) == getattr(tokenizer, role)
    np.testing.assert_array_equal(small.encode_text(corpus), embedder.encode_text(corpus))
    assert np.isfinite(small.encode_text(TEXTS[10:20])).all()


@pytest.mark.parametrize("kind", ["BPE", "Unigram"])
def test_a_trimmed_tokenizer_survives_its_file(tmp_path, kind):
    tokenizer = train(kind)
    _, trimmed = zoo.trim_vocabulary(encoder_of(tokenizer), tokenizer, TEXTS[:5])
    again = Tokenizer(trimmed.to_json(), **ROLES)
    assert [e.ids for e in again.encode(TEXTS[:5])] == [e.ids for e in trimmed.encode(TEXTS[:5])]


def test_token_ids_in_place_of_texts():
    tokenizer = train("WordPiece")
    encoder = encoder_of(tokenizer)
    ids = np.array([[7, 300, 9], [20, 300, 8]])
    small, trimmed = zoo.trim_vocabulary(encoder, tokenizer, ids)
    assert small.vocabulary_size == len({*range(5), 7, 8, 9, 20, 300})
    new = np.vectorize(lambda id: trimmed.token_to_id(tokenizer.id_to_token(id)))(ids)
    mask = np.ones_like(ids)
    before = encoder({"token_ids": ids, "padding_mask": mask})["sequence_output"]
    after = small({"token_ids": new, "padding_mask": mask})["sequence_output"]
    np.testing.assert_array_equal(to_numpy(before), to_numpy(after))


@pytest.mark.parametrize("tied", [True, False])
def test_logits_of_a_masked_language_model(tied):
    tokenizer = train("WordPiece")
    preprocessor = MaskedLMPreprocessor(tokenizer, sequence_length=16, mask_selection_length=4)
    task = MaskedLM(encoder_of(tokenizer), preprocessor=preprocessor, tie_weights=tied)
    small, trimmed = zoo.trim_vocabulary(task, None, TEXTS[:8])
    ids = [trimmed.encode([text], max_length=16)[0].ids[:8] for text in TEXTS[:4]]
    old = [[tokenizer.token_to_id(trimmed.id_to_token(i)) for i in row] for row in ids]
    kept = [tokenizer.token_to_id(token) for token in trimmed.get_vocabulary()]
    positions = np.array([[1, 2]] * 4)
    inputs = {"padding_mask": np.ones((4, 8), "int32"), "mask_positions": positions}
    before = to_numpy(task({**inputs, "token_ids": np.array(old)}))[..., kept]
    after = to_numpy(small({**inputs, "token_ids": np.array(ids)}))
    # The states are bit-equal; a product with fewer columns may be summed in another order.
    np.testing.assert_allclose(after, before, atol=1e-6, rtol=0)


def test_the_mask_token_of_the_embeddings_is_renumbered():
    tokenizer = train("WordPiece")
    encoder = encoder_of(tokenizer, embedding_options={"mask_token_id": 4})
    _, trimmed = zoo.trim_vocabulary(encoder, tokenizer, TEXTS[:5])
    small, _ = zoo.trim_vocabulary(encoder, tokenizer, TEXTS[:5])
    assert small.embedding_options["mask_token_id"] == trimmed.mask_token_id


def bpe(**options):
    """A BPE that marks the beginning or the end of words itself."""
    import tokenizers
    from tokenizers import models, pre_tokenizers, trainers

    tokenizer = tokenizers.Tokenizer(models.BPE(unk_token="[UNK]", **options))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=SPECIAL, show_progress=False, **options
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    return Tokenizer(tokenizer.to_str(), **ROLES)


def all_pairs():
    """A BPE with a merge for each way to cut a token, as those converted from SentencePiece."""
    file = json.loads(bpe().to_json())
    ids = file["model"]["vocab"]
    words = [word for word in sorted(ids, key=ids.get) if word not in SPECIAL]
    cuts = [(word[:i], word[i:]) for word in words for i in range(1, len(word))]
    file["model"]["merges"] = [list(cut) for cut in cuts if set(cut) <= ids.keys()]
    return Tokenizer(json.dumps(file), **ROLES)


TOKENIZERS = {
    **{kind: lambda kind=kind: train(kind) for kind in ("WordPiece", "BPE", "Unigram")},
    "prefix": lambda: bpe(continuing_subword_prefix="##"),
    "suffix": lambda: bpe(end_of_word_suffix="</w>"),
    "all_pairs": all_pairs,
}


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_any_corpus_keeps_its_tokens(kind, rng):
    """Also of words that no text has, and of characters that no token has."""
    tokenizer = TOKENIZERS[kind]()
    letters = list("aaeeiioottnnsshrdlcumpgbéß東😀-") + ["the", "ing", "is "]
    for _ in range(30):
        corpus = ["".join(rng.choice(letters, rng.integers(1, 12))) for _ in range(4)]
        corpus += [str(text) for text in rng.choice(TEXTS, 2)]
        used = {id for encoding in tokenizer.encode(corpus) for id in encoding.ids}
        kept = kept_ids(tokenizer, corpus, used)
        trimmed = trim_tokenizer(tokenizer, kept)
        assert trimmed.get_vocabulary() == [tokenizer.id_to_token(id) for id in kept]
        for old, new in zip(tokenizer.encode(corpus), trimmed.encode(corpus), strict=True):
            assert [kept[id] for id in new.ids] == old.ids


def test_merges_that_were_not_used_are_left_out():
    import tokenizers
    from tokenizers import models

    ids = {token: id for id, token in enumerate(["a", "n", "d", "x", "an", "nd", "and", "xa"])}
    merges = [("a", "n"), ("n", "d"), ("an", "d"), ("a", "nd"), ("x", "a")]  # two ways to "and"
    tokenizer = Tokenizer(tokenizers.Tokenizer(models.BPE(ids, merges)).to_str())
    trimmed = trim_tokenizer(tokenizer, kept_ids(tokenizer, ["and"], {ids["and"]}))
    assert trimmed.get_vocabulary() == ["a", "n", "d", "x", "an", "and"]
    assert json.loads(trimmed.to_json())["model"]["merges"] == [["a", "n"], ["an", "d"]]
    assert trimmed.encode(["and"])[0].tokens == ["and"]


def word_piece(*words):
    import tokenizers
    from tokenizers import models, pre_tokenizers

    ids = {token: id for id, token in enumerate([*SPECIAL, *words])}
    tokenizer = tokenizers.Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return Tokenizer(tokenizer.to_str(), **ROLES)


def test_an_unknown_word_stays_unknown():
    """Of "abc" `ab` fits, and then nothing; without it `a` and `##bc` would spell the word."""
    tokenizer, corpus = word_piece("ab", "a", "##bc", "x"), ["abc a xbc"]
    assert tokenizer.encode(corpus)[0].tokens == ["[UNK]", "a", "x", "##bc"]
    _, trimmed = zoo.trim_vocabulary(encoder_of(tokenizer), tokenizer, corpus)
    assert trimmed.encode(corpus)[0].tokens == ["[UNK]", "a", "x", "##bc"]
    assert "ab" in trimmed.get_vocabulary()


@pytest.mark.parametrize(
    "corpus",
    [[7, 8], {7, 8}, (i for i in (7, 8)), [[7], [8, 7]], np.array([[7], [8]]), [np.int64(7), 8]],
    ids=["list", "set", "generator", "rows", "array", "numpy"],
)
def test_every_form_of_ids(corpus):
    tokenizer = train("WordPiece")
    small, _ = zoo.trim_vocabulary(encoder_of(tokenizer), tokenizer, corpus)
    assert small.vocabulary_size == len(SPECIAL) + 2


def test_every_form_of_texts():
    tokenizer = train("WordPiece")
    encoder, texts = encoder_of(tokenizer), TEXTS[:3]
    forms = [texts, set(texts), (text for text in texts), np.array(texts)]
    sizes = {zoo.trim_vocabulary(encoder, tokenizer, f)[0].vocabulary_size for f in forms}
    assert len(sizes) == 1


def test_a_long_text_does_not_make_all_texts_long():
    """An array of strings has the longest one's room for each: 320 MB here."""
    tokenizer = train("WordPiece")
    corpus = ["a cat"] * 2000 + ["x " * 20_000]
    tracemalloc.start()
    zoo.trim_vocabulary(encoder_of(tokenizer), tokenizer, corpus)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50 * 2**20


def test_tokens_that_only_the_post_processor_names():
    file = json.loads(train("WordPiece").to_json())
    file["added_tokens"] = []
    tokenizer = Tokenizer(json.dumps(file), pad_token="[PAD]")
    _, trimmed = zoo.trim_vocabulary(encoder_of(tokenizer), tokenizer, [7])
    assert trimmed.encode([""])[0].tokens == ["[CLS]", "[SEP]"]


@pytest.mark.parametrize(
    "task",
    [
        lambda e, p: TextClassifier(e, 2, p(TextClassifierPreprocessor), labels=["no", "yes"]),
        lambda e, p: TokenClassifier(e, 2, p(TokenClassifierPreprocessor)),
        lambda e, p: QuestionAnswering(e, p(QuestionAnsweringPreprocessor)),
    ],
    ids=["text_classifier", "token_classifier", "question_answering"],
)
def test_tasks(task):
    tokenizer = train("WordPiece")
    task = task(encoder_of(tokenizer), lambda cls: cls(tokenizer, sequence_length=48))
    small, _ = zoo.trim_vocabulary(task, None, TEXTS[:6])
    pair = isinstance(task, QuestionAnswering)
    x = (TEXTS[:3], TEXTS[3:6]) if pair else TEXTS[:6]
    outputs = [keras.tree.flatten(m.predict(x, verbose=0)) for m in (small, task)]
    for got, want in zip(*outputs, strict=True):
        np.testing.assert_array_equal(got, want)
    config = {k: v for k, v in task.get_config().items() if k in ("labels", "num_classes")}
    assert config.items() <= small.get_config().items()


@needs_weights
def test_minilm_in_small():
    embedder = zoo.from_hugging_face("minilm", task="embed")
    small, _ = zoo.trim_vocabulary(embedder, None, TEXTS)
    assert small.count_params() < 0.55 * embedder.count_params()
    np.testing.assert_array_equal(small.encode_text(TEXTS[:8]), embedder.encode_text(TEXTS[:8]))


def added(tokenizer, count):
    """A tokenizer with more tokens, which an encoder made for the old one does not have."""
    import tokenizers

    more = tokenizers.Tokenizer.from_str(tokenizer.to_json())
    more.add_special_tokens([f"[EXTRA{i}]" for i in range(count)])
    return Tokenizer(more.to_str(), **ROLES)


def test_what_cannot_be_trimmed():
    tokenizer = train("WordPiece")
    encoder = encoder_of(tokenizer)
    with pytest.raises(ValueError, match="`model` must be a TransformerEncoder.*type int"):
        zoo.trim_vocabulary(3, tokenizer, TEXTS)
    with pytest.raises(ValueError, match="`tokenizer` must be a keras_addnorm Tokenizer.*NoneType"):
        zoo.trim_vocabulary(encoder, None, TEXTS)
    for corpus in ("text", [], [1.5], [True]):
        with pytest.raises(ValueError, match="must be strings, or token ids.*Pass a list"):
            zoo.trim_vocabulary(encoder, tokenizer, corpus)
    with pytest.raises(ValueError, match="Token ids must be from 0 to.*Received: -1, 70000"):
        zoo.trim_vocabulary(encoder, tokenizer, [-1, 5, 70000])
    with pytest.raises(ValueError, match="tokenizer's ids.*to 702.*Received: 703. Pass"):
        zoo.trim_vocabulary(encoder, added(tokenizer, 4), TEXTS[:2])
    with_lora = encoder_of(tokenizer)
    with_lora.enable_lora(2)
    with pytest.raises(ValueError, match="no LoRA factors.*Save and load it"):
        zoo.trim_vocabulary(with_lora, tokenizer, TEXTS)
    encoder.quantize("int8")
    with pytest.raises(ValueError, match="must be in float.*Trim it, then"):
        zoo.trim_vocabulary(encoder, tokenizer, TEXTS)


def test_a_tokenizer_that_would_cut_texts_otherwise_is_refused(monkeypatch):
    tokenizer = train("WordPiece")
    monkeypatch.setattr(zoo.trim, "kept_ids", lambda *args: kept_ids(*args)[:60])
    with pytest.raises(ValueError, match="cannot be trimmed.*would become"):
        zoo.trim_vocabulary(encoder_of(tokenizer), tokenizer, TEXTS)
    assert json.loads(tokenizer.to_json())["model"]["type"] == "WordPiece"
