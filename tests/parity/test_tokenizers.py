"""Ids of tokenizers built from vocabulary files against transformers: `make parity`."""

import re
import types

import pytest

pytestmark = pytest.mark.parity
transformers = pytest.importorskip("transformers")

from keras_addnorm.models import TextClassifierPreprocessor  # noqa: E402
from keras_addnorm.zoo.preprocessing import write_preprocessor  # noqa: E402
from keras_addnorm.zoo.sources import resolve  # noqa: E402
from keras_addnorm.zoo.tokenizers import tokenizer_of  # noqa: E402
from tests.zoo import vocabularies  # noqa: E402
from tests.zoo.common import needs_weights  # noqa: E402
from tests.zoo.vocabularies import TEXTS  # noqa: E402

LENGTH = 24
MASK = {"content": "<mask>", "lstrip": True, "rstrip": False, "normalized": False}
CASES = {
    "bert": ("bert", {}),
    "bert, cased": ("bert", {"do_lower_case": False}),
    "bert, accents kept": ("bert", {"strip_accents": False}),
    "bert, CJK not split": ("bert", {"tokenize_chinese_chars": False}),
    "distilbert": ("distilbert", {}),
    "electra": ("electra", {}),
    "mobilebert": ("mobilebert", {}),
    "mpnet": ("mpnet", {}),
    "mpnet, cased": ("mpnet", {"do_lower_case": False}),
    "roberta": ("roberta", {}),
    "roberta, space before": ("roberta", {"add_prefix_space": True}),
    "roberta, mask takes the space": ("roberta", {"mask_token": {**MASK, "__type": "AddedToken"}}),
    "xlm-roberta": ("xlm-roberta", {}),
    "albert": ("albert", {}),
    "albert, cased": ("albert", {"do_lower_case": False, "keep_accents": True}),
    "esm": ("esm", {}),
}


def assert_same(ours, theirs, skip=None):
    """Ids of single texts, and ids and segments of pairs, cut to `LENGTH` or whole."""
    texts = [text for text in TEXTS if skip is None or not re.search(skip, text)]
    assert len(texts) > len(TEXTS) - 5
    for text in texts:
        assert ours.encode([text])[0].ids == theirs(text)["input_ids"], ascii(text)
    for a, b in zip(texts[:60], texts[3:], strict=False):
        cut = {"truncation": True, "max_length": LENGTH} if theirs.is_fast else {}
        expected = theirs([a], [b], **cut)  # transformers' own Python code cuts ties elsewhere.
        (encoding,) = ours.encode([a], [b], max_length=LENGTH if theirs.is_fast else None)
        assert [encoding.ids] == expected["input_ids"], ascii((a, b))
        if "token_type_ids" in expected:
            assert [encoding.type_ids] == expected["token_type_ids"]


@pytest.mark.parametrize("name", CASES)
def test_vocabulary_files(tmp_path, name):
    model_type, settings = CASES[name]
    folder = vocabularies.write(tmp_path, model_type, **settings)
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    # transformers 5 reads SentencePiece's scores as they are; ALBERT's published tokenizer.json
    # and the converter keep pieces like "9," from being chosen.
    assert_same(tokenizer_of(folder, 1000), theirs, r"\d," if model_type == "albert" else None)


@pytest.mark.parametrize("settings", [{}, {"do_lower_case": True}], ids=str)
def test_deberta_is_what_the_converter_makes(tmp_path, settings):
    """transformers 5 drops SentencePiece's normalization of DeBERTa; its converter keeps it."""
    from transformers.convert_slow_tokenizer import DebertaV2Converter

    folder = vocabularies.write(tmp_path, "deberta-v2", **settings)
    ours = tokenizer_of(folder, 810)
    slow = types.SimpleNamespace(
        vocab_file=str(folder / "spm.model"),
        convert_tokens_to_ids=ours.token_to_id,
        do_lower_case=settings.get("do_lower_case", False),
        split_by_punct=False,
    )
    converted = transformers.PreTrainedTokenizerFast(
        tokenizer_object=DebertaV2Converter(slow).converted(),
        **{role: getattr(ours, role) for role in ("pad_token", "unk_token", "mask_token")},
    )
    # It strips spaces before SentencePiece's rules, which make new ones of some characters.
    assert_same(ours, converted, skip="[\u061c\u200b\u2581\ufffd]$")


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta"])
def test_a_tokenizer_json(tmp_path, name):
    folder = vocabularies.write(tmp_path / "files", name)
    transformers.AutoTokenizer.from_pretrained(folder).save_pretrained(tmp_path / "json")
    assert (tmp_path / "json" / "tokenizer.json").is_file()
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "json")
    assert_same(tokenizer_of(tmp_path / "json", 1000), theirs)


def test_a_tokenizer_as_modern_bert_has_it(tmp_path):
    from tokenizers import AddedToken, processors

    from tests.zoo.test_tokenizer import byte_level

    raw = byte_level()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    raw.add_special_tokens([*special, AddedToken("[MASK]", lstrip=True, special=True)])
    raw.add_tokens(["|||EMAIL_ADDRESS|||", "  "])
    ids = [(token, raw.token_to_id(token)) for token in special]
    raw.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
    )
    roles = {f"{token[1:-1].lower()}_token": token for token in (*special, "[MASK]")}
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, **roles)
    theirs.save_pretrained(tmp_path)
    ours = tokenizer_of(tmp_path, 700)
    assert_same(ours, transformers.AutoTokenizer.from_pretrained(tmp_path))
    assert ours.pad_token_id == theirs.pad_token_id and ours.cls_token == "[CLS]"


@pytest.mark.parametrize("name", ["bert", "roberta", "mpnet", "deberta-v2", "esm"])
def test_what_is_written_is_loaded_by_transformers(tmp_path, name):
    ours = tokenizer_of(vocabularies.write(tmp_path / "files", name), 1000)
    (tmp_path / "back").mkdir()
    write_preprocessor(tmp_path / "back", TextClassifierPreprocessor(ours, sequence_length=LENGTH))
    (tmp_path / "back" / "config.json").write_text(f'{{"model_type": "{name}"}}')
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "back")
    assert_same(ours, theirs)
    assert theirs.model_max_length == LENGTH and theirs.pad_token_id == ours.pad_token_id


@needs_weights
def test_minilm():
    folder = resolve("minilm")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    assert_same(tokenizer_of(folder, 30522), theirs)


def test_words_are_split_and_answers_found_as_transformers_does(tmp_path):
    from keras_addnorm.models import QuestionAnsweringPreprocessor, TokenClassifierPreprocessor

    folder = vocabularies.write(tmp_path, "bert")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer = tokenizer_of(folder, 900)
    words = [text.split() for text in TEXTS if text.split()]
    expected = theirs(
        words, is_split_into_words=True, truncation=True, padding="max_length", max_length=LENGTH
    )
    preprocessor = TokenClassifierPreprocessor(tokenizer, LENGTH)
    assert preprocessor(words)["token_ids"].numpy().tolist() == expected["input_ids"]
    for row, ids in enumerate(preprocessor.word_ids(words)):
        assert [None if id < 0 else id for id in ids] == expected.word_ids(row)
    questions, contexts = ["who is it?"] * len(TEXTS), TEXTS
    expected = theirs(
        questions, contexts, truncation="only_second", padding="max_length", max_length=LENGTH,
        return_offsets_mapping=True,
    )  # fmt: skip
    preprocessor = QuestionAnsweringPreprocessor(tokenizer, LENGTH)
    x = (questions, contexts)
    assert preprocessor(x)["token_ids"].numpy().tolist() == expected["input_ids"]
    for row, offsets in enumerate(preprocessor.offsets(x)):
        spans = zip(expected.sequence_ids(row), expected["offset_mapping"][row], strict=True)
        assert [tuple(o) for o in offsets] == [s if id == 1 else (-1, -1) for id, s in spans]
