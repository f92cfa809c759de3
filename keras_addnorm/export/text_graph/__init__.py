"""Tokenizers as TensorFlow graphs of core ops, so that a SavedModel takes strings.

No custom ops: what loads a SavedModel loads these. The tables are read off the tokenizer itself,
code point by code point, so that ids are those of the `tokenizers` library.
"""

from keras_addnorm.export.text_graph.reasons import why_not
from keras_addnorm.export.text_graph.word_piece import WordPieceGraph

__all__ = ["WordPieceGraph", "why_not"]
