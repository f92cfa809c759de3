"""BERT's tokenizer as a TensorFlow graph of core ops."""

import json

import numpy as np

from keras_addnorm.export.text_graph.characters import (
    ALONE,
    CODE_POINTS,
    NOTHING,
    PAGE,
    SPACE,
    character_table,
)
from keras_addnorm.export.text_graph.trie import CONTINUED, FIRST, alphabet_of, make_trie

# Beyond the code points: the end of a text, the rest of an added token's text, an added token.
END, REST, ADDED = CODE_POINTS, CODE_POINTS + 1, CODE_POINTS + 2


class WordPieceGraph:
    """A `Tokenizer` of BERT's kind as a function of a string tensor; see `why_not`.

        ids = cls + greedy longest matches of each word's characters + sep

    All texts of a batch are one row of characters, and each step is done for all of them at once:
    code points are looked up in a table made from the normalizer, and from each character the
    longest token is found in a trie; words are then followed from match to match.

    Args:
        tokenizer: a `keras_addnorm.models.Tokenizer` with nothing that `why_not` names.
        max_length: int, ids of a text, special ones included; more are cut.

    Source: WordPiece: Schuster and Nakajima, 2012; the longest match first: Song et al.,
    arXiv:2012.15524.
    """

    def __init__(self, tokenizer, max_length):
        settings = json.loads(tokenizer.to_json())
        model = settings["model"]
        self.max_length, self.pad_id = max_length, tokenizer.pad_token_id
        self.max_characters = model["max_input_chars_per_word"]
        self.unknown = model["vocab"][model["unk_token"]]
        self.added = {t["content"]: t["id"] for t in settings["added_tokens"]}
        self.prefix, self.suffix = _around(tokenizer)
        numbers = alphabet_of(model["vocab"])
        self._trie = make_trie(model["vocab"], model["continuing_subword_prefix"], numbers)
        self._table = character_table(tokenizer.tokenizer.normalizer, numbers)

    def __call__(self, texts, length=None):
        """Ids of texts.

        Args:
            texts: string tensor `(batch,)`, UTF-8; bytes that are none count as U+FFFD, which the
                normalizer leaves out.
            length: int to pad to, or None for the longest text of the batch.

        Returns:
            Dict of int32 `token_ids`, `padding_mask`, `segment_ids`, each `(batch, length)`.
        """
        import tensorflow as tf

        rows = tf.strings.unicode_decode(texts, "UTF-8", errors="replace")
        batch = tf.shape(texts)[0]
        rows = tf.concat([rows, tf.fill([batch, 1], END)], axis=1)  # so that no word spans texts
        codes, added = self._mark_added(rows.values)
        characters, places = self._characters(codes)
        owners = tf.gather(rows.value_rowids(), places)
        codes_kept = tf.gather(added, places)
        ids, places = self._pieces(characters, codes_kept)
        tokens = tf.RaggedTensor.from_value_rowids(
            ids, tf.gather(owners, places), nrows=tf.cast(batch, "int64")
        )
        return self._pack(tokens, batch, length)

    def _mark_added(self, codes):
        """Code points with each added token's text as one code of its own; and its id, or -1."""
        import tensorflow as tf

        size = tf.size(codes)
        longest = max(map(len, self.added), default=0)
        padded = tf.pad(codes, [[0, longest]], constant_values=END)
        found, ids = codes, tf.fill([size], -1)
        for text, id in self.added.items():
            here = tf.ones([size], "bool")
            for offset, character in enumerate(text):
                here &= padded[offset : offset + size] == ord(character)
            for offset in range(1, len(text)):
                behind = tf.pad(here, [[offset, 0]])[:size]
                found = tf.where(behind, REST, found)
            found = tf.where(here, ADDED, found)
            ids = tf.where(here, id, ids)
        return found, ids

    def _characters(self, codes):
        """Numbers of characters in the order of the text, and the place that each comes from."""
        import tensorflow as tf

        table, width = self._table, self._table.pages.shape[2]
        special = np.full((1, PAGE, width), NOTHING, "int32")
        special[0, [END - CODE_POINTS, ADDED - CODE_POINTS], 0] = SPACE, ALONE
        pages = tf.constant(np.concatenate([table.pages, special]))
        page_of = tf.constant(np.append(table.page_of, len(table.pages)).astype("int32"))
        page = tf.gather(page_of, codes // PAGE)
        values = tf.gather_nd(pages, tf.stack([page, codes % PAGE], axis=1))
        kept = tf.where(values != NOTHING)  # `(characters, 2)`, in order
        return tf.gather_nd(values, kept), kept[:, 0]

    def _pieces(self, characters, added):
        """Ids of tokens, and the place in `characters` of the first character of each."""
        import tensorflow as tf

        is_space, is_alone = characters == SPACE, characters >= ALONE
        parts = is_space | is_alone
        starts = is_alone | tf.pad(parts, [[1, 0]], constant_values=True)[:-1]
        places = tf.where(~is_space)[:, 0]
        starts = tf.gather(starts, places)
        characters = tf.gather(characters, places) % ALONE
        added = tf.gather(added, places)
        first = tf.cast(tf.where(starts)[:, 0], "int32")  # of each word
        word = tf.cumsum(tf.cast(starts, "int32")) - 1
        past = tf.concat([first[1:], [tf.size(characters)]], axis=0)[: tf.size(first)]
        lengths, ids = self._longest(characters, starts, tf.gather(past, word))
        lengths, ids = tf.where(added >= 0, 1, lengths), tf.where(added >= 0, added, ids)
        usable = past - first <= self.max_characters
        reached, broken = _follow(first, past, usable, lengths)
        ids = tf.where(tf.gather(broken, word), self.unknown, ids)
        kept = tf.where(reached & (~tf.gather(broken, word) | starts))[:, 0]
        return tf.gather(ids, kept), tf.gather(places, kept)

    def _longest(self, characters, starts, past):
        """Length and id of the longest token at each character, not going beyond its word."""
        import tensorflow as tf

        trie = self._trie
        edges, children = tf.constant(trie.edges), tf.constant(trie.children)
        tokens = tf.constant(trie.tokens)

        def step(offset, places, nodes, lengths, ids):
            seen = tf.cast(tf.gather(characters, places + offset), "int64")
            wanted = tf.cast(nodes, "int64") * trie.alphabet + seen
            index = tf.minimum(tf.searchsorted(edges, wanted), len(trie.edges) - 1)
            there = tf.gather(edges, index) == wanted
            places = tf.boolean_mask(places, there)
            nodes = tf.gather(children, tf.boolean_mask(index, there))
            id = tf.gather(tokens, nodes)
            ends = tf.boolean_mask(places, id >= 0)[:, None]
            ids = tf.tensor_scatter_nd_update(ids, ends, tf.boolean_mask(id, id >= 0))
            lengths = tf.tensor_scatter_nd_update(
                lengths, ends, tf.fill([tf.shape(ends)[0]], offset + 1)
            )
            more = places + offset + 1 < tf.gather(past, places)
            places, nodes = tf.boolean_mask(places, more), tf.boolean_mask(nodes, more)
            return offset + 1, places, nodes, lengths, ids

        size = tf.size(characters)
        roots = tf.where(starts, FIRST, CONTINUED)
        state = (0, tf.range(size), roots, tf.zeros([size], "int32"), tf.fill([size], -1))
        some = tf.TensorShape([None])
        *_, lengths, ids = tf.while_loop(
            lambda offset, places, *rest: tf.size(places) > 0,
            step,
            state,
            shape_invariants=(tf.TensorShape([]), some, some, some, some),
        )
        return lengths, ids

    def _pack(self, tokens, batch, length):
        import tensorflow as tf

        room = self.max_length - len(self.prefix) - len(self.suffix)
        around = [tf.tile([ids], [batch, 1]) for ids in (self.prefix, self.suffix)]
        rows = tf.concat([around[0], tokens[:, :room], around[1]], axis=1)
        mask = tf.ones_like(rows).to_tensor(0, shape=[None, length])
        ids = rows.to_tensor(self.pad_id, shape=[None, length])
        return {"token_ids": ids, "padding_mask": mask, "segment_ids": tf.zeros_like(ids)}


def _follow(first, past, usable, lengths):
    """Goes through words from match to match, in all words at once.

    Args:
        first, past: the words' bounds.
        usable: whether a word is short enough.
        lengths: the longest match at each character, 0 where there is none.

    Returns:
        Which characters start a token, and which words are unknown.
    """
    import tensorflow as tf

    size, words = tf.size(lengths), tf.size(first)

    def step(places, active, reached, broken):
        reached = tf.tensor_scatter_nd_update(
            reached, places[:, None], tf.ones([tf.size(places)], "bool")
        )
        taken = tf.gather(lengths, places)
        stuck = tf.boolean_mask(active, taken == 0)[:, None]
        broken = tf.tensor_scatter_nd_update(broken, stuck, tf.ones([tf.shape(stuck)[0]], "bool"))
        places += taken
        more = (taken > 0) & (places < tf.gather(past, active))
        return tf.boolean_mask(places, more), tf.boolean_mask(active, more), reached, broken

    active = tf.boolean_mask(tf.range(words), usable)
    # A word that is too long is unknown from its first character on, and is not followed.
    reached = tf.tensor_scatter_nd_update(
        tf.zeros([size], "bool"), first[:, None], tf.ones([words], "bool")
    )
    state = (tf.boolean_mask(first, usable), active, reached, ~usable)
    some = tf.TensorShape([None])
    *_, reached, broken = tf.while_loop(
        lambda places, *rest: tf.size(places) > 0, step, state, shape_invariants=(some,) * 4
    )
    return reached, broken


def _around(tokenizer):
    """The special tokens before and behind a text, as lists of ids."""
    bare = tokenizer.encode(["a"], add_special_tokens=False)[0].ids
    ids = tokenizer.encode(["a"])[0].ids
    count = tokenizer.num_special_tokens()
    before = next(n for n in range(count + 1) if ids[n : n + len(bare)] == bare)
    return ids[:before], ids[before + len(bare) :]
