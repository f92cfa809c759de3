"""The tokenizer of a checkpoint."""

import json
import pathlib
import re

from keras_addnorm.models import Tokenizer
from keras_addnorm.models.tokenizer import FILE, MAX_BYTES, ROLES, errors_of_rust, parse
from keras_addnorm.zoo.errors import CheckpointError
from keras_addnorm.zoo.sources import read_object
from keras_addnorm.zoo.vocabulary_files import CLASSES, KINDS, add_template, read_text

# Settings that would change ids in a way that is not done here, and the values that do not.
NEUTRAL = {
    "padding_side": ("right",),
    "truncation_side": ("right",),
    "split_special_tokens": (False,),
    "do_basic_tokenize": (True,),
    "never_split": (None, []),
    "split_by_punct": (False,),
    "remove_space": (True,),
    "sp_model_kwargs": (None, {}),
}
# What tokenizer.json calls the settings of tokenizer_config.json.
NORMALIZER = {
    "do_lower_case": "lowercase",
    "strip_accents": "strip_accents",
    "tokenize_chinese_chars": "handle_chinese_chars",
}
FLAGS = ("lstrip", "rstrip", "normalized", "single_word", "special")


def tokenizer_of(folder, vocabulary_size):
    """Builds the `Tokenizer` of a checkpoint.

    From tokenizer.json where there is one; otherwise from vocab.txt, from vocab.json and
    merges.txt, or from a SentencePiece model, as transformers' converters do.

    Args:
        folder: the checkpoint.
        vocabulary_size: int, the rows of the encoder's table of token embeddings.

    Raises:
        CheckpointError: if a file is missing or broken, a setting cannot be honoured, or the
            vocabulary does not fit the table.
    """
    folder = pathlib.Path(folder)
    config = read_object(folder, "tokenizer_config.json")
    kind = KINDS.get(_class_name(folder, config))
    problems = [
        f"tokenizer setting {name} is supported only as {values[0]!r}, got {config[name]!r}"
        for name, values in NEUTRAL.items()
        if name in config and config[name] not in values
    ]
    declared = _declared_tokens(folder, config, problems)
    defaults = {} if kind is None else kind.tokens
    tokens = {**defaults, **{role: _content(token) for role, token in declared.items()}}
    tokens = {role: token for role, token in tokens.items() if token is not None}
    settings = _settings(config, kind, problems)
    if problems:
        raise CheckpointError(folder, problems)
    if (folder / FILE).is_file():
        tokenizer = _from_json(folder, settings)
        tokens = {  # Defaults are a guess; what is declared is not.
            role: token
            for role, token in tokens.items()
            if role in declared or tokenizer.token_to_id(token) is not None
        }
    else:
        tokenizer = _from_vocabulary(folder, config, kind, settings, tokens)
        problems += _missing_tokens(tokenizer, kind, tokens)
    if not problems:
        special = [declared.get(role, token) for role, token in tokens.items()]
        problems += _add_tokens(tokenizer, folder, config, special)
    if not problems and not (folder / FILE).is_file():
        add_template(tokenizer, kind, tokens)
    return _checked(folder, tokenizer, tokens, vocabulary_size, problems)


def _class_name(folder, config):
    """The tokenizer class of transformers, named by the checkpoint or told from the model type."""
    name = config.get("tokenizer_class")
    if name is None:
        name = CLASSES.get(str(read_object(folder, "config.json").get("model_type")))
    return str(name).removesuffix("Fast")


def _declared_tokens(folder, config, problems):
    """The special tokens by role that the checkpoint names: strings, dicts, or None for none."""
    declared = {**read_object(folder, "special_tokens_map.json"), **config}
    declared = {role: declared[role] for role in ROLES if role in declared}
    for role, token in list(declared.items()):
        if token is not None and not isinstance(_content(token), str):
            problems.append(f"special token {role} must be a string, got {token!r}")
            del declared[role]
    return declared


def _content(token):
    return token.get("content") if isinstance(token, dict) else token


def _settings(config, kind, problems):
    """The settings of a kind of tokenizer: true or false, or null where that is the default."""
    defaults = {} if kind is None else kind.settings
    settings = {name: config.get(name, default) for name, default in defaults.items()}
    problems += [
        f"tokenizer setting {name} must be true or false, got {value!r}"
        for name, value in settings.items()
        if not isinstance(value, (bool, type(defaults[name])))
    ]
    return settings


def _from_json(folder, settings):
    if (folder / FILE).stat().st_size > MAX_BYTES:
        raise CheckpointError(folder, [f"{FILE} is larger than {MAX_BYTES} bytes"])
    try:
        tokenizer = parse(read_text(folder, FILE))
    except ValueError as error:
        raise CheckpointError(folder, [str(error)]) from error
    problems = _contradictions(tokenizer, settings)
    if problems:
        raise CheckpointError(folder, problems)
    return tokenizer


def _contradictions(tokenizer, settings):
    """Settings of a BERT tokenizer that tokenizer.json does not have: transformers takes these."""
    normalizer = tokenizer.normalizer and json.loads(tokenizer.normalizer.__getstate__())
    if not normalizer or normalizer["type"] != "BertNormalizer":
        return []
    if not NORMALIZER.keys() <= settings.keys():
        return []
    theirs = {name: normalizer[key] for name, key in NORMALIZER.items()}
    ours, theirs = _accents_like_case(settings), _accents_like_case(theirs)
    return [
        f"tokenizer_config.json sets {name} to {ours[name]}, {FILE} to {theirs[name]}"
        for name in NORMALIZER
        if ours[name] != theirs[name]
    ]


def _accents_like_case(settings):
    """Accents are stripped where text is lowercased, if nothing else is said."""
    accents = settings["strip_accents"]
    return {**settings, "strip_accents": settings["do_lower_case"] if accents is None else accents}


def _from_vocabulary(folder, config, kind, settings, tokens):
    if kind is None:
        name = config.get("tokenizer_class")
        raise CheckpointError(
            folder, [f"there is no {FILE}, and tokenizer class {name!r} cannot be built without"]
        )
    missing = [name for name in kind.files if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            folder,
            [f"there is neither {FILE} nor {' and '.join(missing)}, so text cannot be tokenized"],
        )
    unnamed = [
        f"special token {role} must be a string" for role in kind.tokens.keys() - tokens.keys()
    ]
    if unnamed:
        raise CheckpointError(folder, sorted(unnamed))
    try:
        with errors_of_rust(" or ".join(kind.files), (CheckpointError,)):
            return kind.build(folder, settings, tokens)
    except CheckpointError:
        raise
    except ValueError as error:
        raise CheckpointError(folder, [str(error)]) from error


def _missing_tokens(tokenizer, kind, tokens):
    """A mask token can be appended, as to DeBERTa's; the others the model was trained with."""
    names = " and ".join(kind.files)
    needed = dict.fromkeys(token for role, token in tokens.items() if role != "mask_token")
    return [f"{names} has no {token}" for token in needed if tokenizer.token_to_id(token) is None]


def _add_tokens(tokenizer, folder, config, special):
    """Makes the added and special tokens of the checkpoint's files tokens of the tokenizer.

    Returns:
        Problems: tokens that are not strings, or that would get other ids than the files say.
    """
    added, ids, problems = _listed_tokens(folder, config)
    added += special
    problems += [
        f"added tokens must be strings, got {token!r}"
        for token in added
        if not isinstance(_content(token), str)
    ]
    if problems:
        return problems
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    new = {_content(token): token for token in reversed(added)}  # The first of several counts.
    in_order = sorted(new, key=lambda token: ids.get(token, 2**32))
    tokenizer.add_tokens([_added_token(new[token]) for token in in_order if token not in known])
    return [
        f"added token {token!r} has id {tokenizer.token_to_id(token)}, the files say {id}"
        for token, id in ids.items()
        if tokenizer.token_to_id(token) != id
    ]


def _listed_tokens(folder, config):
    """Added tokens that the files list, the ids that they name, and problems."""
    decoder, names = (
        config.get("added_tokens_decoder") or {},
        read_object(folder, "added_tokens.json"),
    )
    is_dict = isinstance(decoder, dict)
    pairs = [(_content(token), id) for id, token in decoder.items()] if is_dict else [(None, None)]
    pairs += names.items()
    if not all(isinstance(t, str) and re.fullmatch("[0-9]{1,9}", str(id)) for t, id in pairs):
        return [], {}, ["added tokens must be strings with whole numbers as ids"]
    further = [config.get(f"{name}_special_tokens") for name in ("additional", "extra")]
    further = [token for tokens in further if isinstance(tokens, list) for token in tokens]
    return [*decoder.values(), *further, *names], {token: int(id) for token, id in pairs}, []


def _added_token(token):
    from tokenizers import AddedToken

    if isinstance(token, str):
        return AddedToken(token, normalized=False, special=True)
    flags = {name: bool(token[name]) for name in FLAGS if name in token}
    return AddedToken(token["content"], **{"normalized": False, "special": True, **flags})


def _checked(folder, tokenizer, tokens, vocabulary_size, problems):
    """The `Tokenizer`, if nothing is wrong with it."""
    if "pad_token" not in tokens:
        problems.append("no pad_token is named in tokenizer_config.json or special_tokens_map.json")
    size = max(tokenizer.get_vocab().values(), default=-1) + 1
    if size > vocabulary_size:
        problems.append(
            f"the tokenizer has {size} tokens, the embedding only {vocabulary_size} rows"
        )
    if problems:
        raise CheckpointError(folder, problems)
    try:
        return Tokenizer.from_tokenizers(tokenizer, **tokens)
    except ValueError as error:
        raise CheckpointError(folder, [str(error)]) from error
