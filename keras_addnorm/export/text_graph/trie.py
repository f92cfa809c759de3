"""The tokens of a WordPiece vocabulary as a tree of characters, in arrays."""

import dataclasses

import numpy as np

FIRST, CONTINUED = 0, 1  # the roots: of tokens that start words, and of those that go on


@dataclasses.dataclass(frozen=True)
class Trie:
    """A tree whose edges are `node * alphabet + number of the character`, in ascending order.

    Attributes:
        edges: int64 `(edges,)`.
        children: int32 `(edges,)`, the node that each edge leads to.
        tokens: int32 `(nodes,)`, the id of the token that ends at a node, or -1.
        alphabet: int, above all numbers of characters.
        depth: int, characters of the longest token.
    """

    edges: np.ndarray
    children: np.ndarray
    tokens: np.ndarray
    alphabet: int
    depth: int


def make_trie(vocabulary, prefix, numbers):
    """The trie of a vocabulary.

    Args:
        vocabulary: dict of ids by token.
        prefix: what tokens start with that go on a word, such as `"##"`.
        numbers: dict of numbers from 1 on by character.
    """
    alphabet = len(numbers) + 1
    edges, tokens, depth = {}, [-1, -1], 0
    for token, id in vocabulary.items():
        continued = bool(prefix) and token.startswith(prefix) and len(token) > len(prefix)
        for node, text in [(FIRST, token)] + [(CONTINUED, token[len(prefix) :])] * continued:
            for character in text:
                edge = node * alphabet + numbers[character]
                if edge not in edges:
                    edges[edge] = len(tokens)
                    tokens.append(-1)
                node = edges[edge]
            tokens[node] = id
            depth = max(depth, len(text))
    order = sorted(edges)
    return Trie(
        np.array(order, "int64"),
        np.array([edges[edge] for edge in order], "int32"),
        np.array(tokens, "int32"),
        alphabet,
        depth,
    )


def alphabet_of(vocabulary):
    """Numbers from 1 on of the characters that are in tokens, as a dict."""
    characters = sorted({character for token in vocabulary for character in token})
    return {character: number for number, character in enumerate(characters, start=1)}
