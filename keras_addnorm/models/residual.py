"""The residual schemes, as data: what a joint hands on, and with what scale."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Residual:
    """One residual scheme of an encoder.

    Attributes:
        carries: `"normed"`, if the next joint adds to the normalized sum (post-norm), or
            `"total"`, if it adds to the bare sum while only sublayers see the normalized one.
        source: the paper.
    """

    carries: str
    source: str


RESIDUALS = {
    "post_norm": Residual(carries="normed", source="Vaswani et al., arXiv:1706.03762"),
    "pre_norm": Residual(carries="total", source="Xiong et al., arXiv:2002.04745"),
}
