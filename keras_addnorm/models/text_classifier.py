"""Classes of whole texts."""

import keras
from keras_hub import models as hub

from keras_addnorm.layers.pooling import POOLINGS
from keras_addnorm.models.classifier import Classifier
from keras_addnorm.models.pooling import pool_features
from keras_addnorm.models.text_classifier_preprocessor import TextClassifierPreprocessor

TEXT_POOLINGS = {name: {"pooling": name} for name in POOLINGS}


@keras.saving.register_keras_serializable(package="keras_addnorm")
class TextClassifier(Classifier, hub.TextClassifier):
    """Encoder, pooling over unpadded positions, and a head with an output for each class.

        output = activation(head(pooling(encoder(token_ids, padding_mask))))

    A KerasHub `TextClassifier` task: with a preprocessor, `predict`, `fit` and `classify` take
    strings, or pairs of strings. The heads of published checkpoints:

    | checkpoint | `pooling` | `head_options` (with `hidden_dim`) |
    |---|---|---|
    | BERT, ALBERT, MobileBERT, NomicBERT | pooler | none |
    | DistilBERT | cls | activation relu |
    | RoBERTa, XLM-R, MPNet, ESM-2 | cls | activation tanh, input_dropout |
    | ELECTRA, DeBERTa | cls | activation gelu, input_dropout |
    | ModernBERT | cls or mean | activation gelu, norm layer_norm_no_bias, use_bias ["output"] |

    Args:
        backbone: the encoder, a `TransformerEncoder`.
        num_classes: int, number of classes.
        preprocessor: a `TextClassifierPreprocessor`, or None for a model of token ids.
        pooling: `"cls"` (the first position), `"mean"`, `"max"`, `"last"`, `"weighted_mean"`, or
            `"pooler"`, the encoder's own; or a list of such names, whose vectors are joined.
        activation: `None` for logits, `"softmax"`, or `"sigmoid"` where a text may have several
            classes.
        dropout: float in [0, 1), dropout rate before the last layer while training.
        labels: list of strings, the names of the classes. Default: they are numbered.
        head_options: dict of further arguments of `Head`, such as `hidden_dim`.
        head_dtype: dtype policy of the head. Default: the backbone's.

    Inputs (a dict):
        Those of the backbone.

    Output shape:
        `(batch, num_classes)`; float32 in mixed precision.

    Raises:
        ValueError: on an invalid argument.

    Example:

    ```python
    encoder = TransformerEncoder(vocabulary_size=30522, embedding_norm=True, pooler="tanh")
    task = TextClassifier(encoder, 2, pooling="pooler", labels=["negative", "positive"])
    task.classify({"token_ids": ids, "padding_mask": mask})  # [[("positive", 0.73)], ...]
    ```

    Source: Devlin et al., arXiv:1810.04805, section 4.1.
    """

    preprocessor_cls = TextClassifierPreprocessor

    def __init__(
        self,
        backbone,
        num_classes,
        preprocessor=None,
        pooling="cls",
        activation=None,
        dropout=0.1,
        labels=None,
        head_options=None,
        head_dtype=None,
        **kwargs,
    ):
        self._check_arguments(backbone, kwargs)
        self.backbone = backbone
        self.preprocessor = preprocessor
        features = pool_features("TextClassifier", backbone, pooling, TEXT_POOLINGS)
        outputs = self._class_outputs(
            features, num_classes, activation, dropout, labels, head_options, head_dtype
        )
        super().__init__(inputs=backbone.input, outputs=outputs, **kwargs)
        self.pooling = pooling

    def get_config(self):
        pooling = self.pooling if isinstance(self.pooling, str) else list(self.pooling)
        return {**super().get_config(), "pooling": pooling}
