"""XLM-RoBERTa: RoBERTa with another vocabulary.

Source: Conneau et al., arXiv:1911.02116; names as in transformers' `XLMRobertaModel`.
"""

import dataclasses

from keras_addnorm.zoo.families import roberta

FAMILY = dataclasses.replace(
    roberta.FAMILY,
    model_type="xlm-roberta",
    architecture="XLMRobertaModel",
    keras_hub=dataclasses.replace(roberta.FAMILY.keras_hub, backbone="XLMRobertaBackbone"),
)
