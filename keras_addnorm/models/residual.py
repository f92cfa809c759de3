"""The residual schemes, as data: what a joint hands on, and with what scale."""

import dataclasses
from collections.abc import Callable


def _one(num_layers):
    return 1.0


@dataclasses.dataclass(frozen=True)
class Residual:
    """One residual scheme of an encoder. A new scheme is one entry of `RESIDUALS`.

    Attributes:
        carries: `"normed"`, if the next joint adds to the normalized sum (post-norm), or
            `"total"`, if it adds to the bare sum while only sublayers see the normalized one.
        source: the paper.
        norm: the norm of the joints, where the encoder is not given one.
        residual_scale: function of the number of layers N: what multiplies the stream.
        kernel_gain: function of N: what multiplies the initial value, output and feed-forward
            kernels, but not those of query and key.
        branch_scale: where the trained scale of the branch starts, or None for no scale.
        branch_scale_axis: None for one scalar, -1 for one scale a feature.
        branch_norm: whether the branch is normalized too before it is added.
    """

    carries: str
    source: str
    norm: str = "layer_norm"
    residual_scale: Callable[[int], float] = _one
    kernel_gain: Callable[[int], float] = _one
    branch_scale: float | None = None
    branch_scale_axis: int | None = None
    branch_norm: bool = False


RESIDUALS = {
    "post_norm": Residual("normed", "Vaswani et al., arXiv:1706.03762"),
    "pre_norm": Residual("total", "Xiong et al., arXiv:2002.04745"),
    "deep_norm": Residual(
        "normed",
        "Wang et al., arXiv:2203.00555",
        residual_scale=lambda num_layers: (2 * num_layers) ** 0.25,
        kernel_gain=lambda num_layers: (8 * num_layers) ** -0.25,
    ),
    "re_zero": Residual(
        "total", "Bachlechner et al., arXiv:2003.04887", norm="none", branch_scale=0.0
    ),
    "layer_scale": Residual(
        "total", "Touvron et al., arXiv:2103.17239", branch_scale=1e-5, branch_scale_axis=-1
    ),
    "sandwich_norm": Residual("total", "Ding et al., arXiv:2105.13290", branch_norm=True),
}
