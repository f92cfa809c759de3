"""XLM-RoBERTa: RoBERTa's cases."""

from tests.zoo.cases import roberta

BASE = roberta.BASE
CASES = {name: (f"XLM{cls}", keys) for name, (cls, keys) in roberta.CASES.items()}
FIXTURES = ("plain", "tokens")
HUB = roberta.HUB
