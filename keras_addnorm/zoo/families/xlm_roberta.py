"""XLM-RoBERTa: RoBERTa with another vocabulary.

Source: Conneau et al., arXiv:1911.02116; names as in transformers' `XLMRobertaModel`.
"""

import dataclasses

from keras_addnorm.zoo.families import roberta
from keras_addnorm.zoo.shared.bert_like import BASE, LARGE

_PRESETS = {
    "xlm_roberta_base": roberta.preset(
        *(250_002, BASE, 278_043_648, "1911.02116"),
        mit={
            "facebook": "FacebookAI/xlm-roberta-base",
            "e5": "intfloat/multilingual-e5-base",
            "bge_reranker": "BAAI/bge-reranker-base",
        },
    ),
    "xlm_roberta_large": roberta.preset(
        *(250_002, LARGE, 559_890_432, "1911.02116"),
        mit={
            "facebook": "FacebookAI/xlm-roberta-large",
            "e5": "intfloat/multilingual-e5-large",
            "bge_reranker": "BAAI/bge-reranker-large",
        },
    ),
    "xlm_roberta_large_8192": roberta.preset(
        *(250_002, LARGE, 567_754_752, "2402.03216"),
        positions=8194,
        apache={"bge_reranker_v2_m3": "BAAI/bge-reranker-v2-m3"},
    ),
}


FAMILY = dataclasses.replace(
    roberta.FAMILY,
    model_type="xlm-roberta",
    architecture="XLMRobertaModel",
    heads={f"XLM{name}": head for name, head in roberta.FAMILY.heads.items()},
    keras_hub=dataclasses.replace(roberta.FAMILY.keras_hub, backbone="XLMRobertaBackbone"),
    presets=_PRESETS,
)
