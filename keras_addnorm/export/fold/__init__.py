"""Constants of a model folded into its kernels, so that an exported graph has fewer operations.

`calls` takes a model apart and puts it together again; `rules` are what is done in between.
"""

from keras_addnorm.export.fold.rules import RULES, Folded, fold

__all__ = ["RULES", "Folded", "fold"]
