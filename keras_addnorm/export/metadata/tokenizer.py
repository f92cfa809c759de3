"""What MediaPipe's tokenizer can do, and the vocabulary that makes it do what a model's does.

It lower-cases A to Z, splits at ASCII white space, punctuation and CJK characters, and looks word
pieces up in a file with a line each; `[CLS]`, `[SEP]` and `[UNK]` are known to it by these names.

Source: `bert_preprocessor_calculator.cc`, `bert_tokenizer.h` and `vocab_utils.cc` of MediaPipe.
"""

import json

from keras_addnorm.export.errors import ExportError

ROLES = ("[CLS]", "[SEP]", "[UNK]")


def media_pipe_vocabulary(tokenizer):
    """The vocabulary with which MediaPipe's `BertTokenizer` does the work of a tokenizer.

    Words are those of the tokenizer, in the order of ids. Where its special tokens have other names
    than MediaPipe's (`<s>` and `</s>` of MPNet), they change names with those that are called so,
    which no text can contain: MediaPipe and BERT both split at brackets. A line that MediaPipe
    would drop, and so shift all ids behind it, holds a placeholder.

    Args:
        tokenizer: a `Tokenizer`.

    Returns:
        List of strings.

    Raises:
        ExportError: saying everything that MediaPipe cannot do.
    """
    state = json.loads(tokenizer.to_json())
    words = tokenizer.get_vocabulary()
    problems = [*_problems(state)]
    special = [e.ids for e in tokenizer.encode(["", "a"])]
    if [len(special[0]), special[1][:1] + special[1][-1:]] != [2, special[0]]:
        problems.append(
            f"it adds {len(special[0])} special tokens, where MediaPipe adds one at each end"
        )
    if problems:
        raise ExportError(
            "MediaPipe tokenizes as BERT does: WordPiece, lower case, [CLS] and [SEP] around a "
            f"text. Received: a tokenizer that it cannot stand in for: {'; '.join(problems)}. "
            "Leave `metadata` out, and use the tokenizer.json beside the model, or another model."
        )
    ids = [*special[0], words.index(state["model"]["unk_token"])]
    for name, id in zip(ROLES, ids, strict=True):
        if name in words:
            words[words.index(name)] = words[id]
        words[id] = name
    return [
        f"[no token {id}]" if not word or "\n" in word or word.endswith("\r") else word
        for id, word in enumerate(words)
    ]


def _problems(state):
    """What of the parts of a tokenizer.json MediaPipe cannot do."""
    model, normalizer = state["model"], state["normalizer"] or {}
    pieces = {
        "continuing_subword_prefix": "##",
        "max_input_chars_per_word": 100,
    }
    if model["type"] != "WordPiece":
        yield f"its model is {model['type']}, not WordPiece"
    else:
        for name, value in pieces.items():
            if model[name] != value:
                yield f"its {name} is {model[name]!r}, not {value!r}"
    if normalizer.get("type") != "BertNormalizer":
        yield f"its normalizer is {normalizer.get('type')}, not BertNormalizer"
    else:
        if not normalizer["lowercase"]:
            yield "it keeps capitals, which MediaPipe lower-cases always"
        if not normalizer["handle_chinese_chars"]:
            yield "it keeps Chinese characters together, which MediaPipe splits always"
    if (state["pre_tokenizer"] or {}).get("type") != "BertPreTokenizer":
        yield f"its pre-tokenizer is {(state['pre_tokenizer'] or {}).get('type')}, not BERT's"
    added = [token["content"] for token in state["added_tokens"] if not token["special"]]
    if added:
        yield f"it has added tokens, such as {added[0]!r}, which MediaPipe knows nothing of"
