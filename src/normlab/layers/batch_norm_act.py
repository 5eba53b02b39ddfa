"""Batch norm with what follows it: a residual that is added, and an activation."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from normlab import errors
from normlab.kernels.activation import ACTIVATIONS, Activation, After
from normlab.layers.batch_norm import BatchNormOptions
from normlab.layers.explicit import is_traced


class BatchNormActOptions(BatchNormOptions):
    """Batch norm, then `+ residual` if there is one, then the activation."""

    OPTIONS = (*BatchNormOptions.OPTIONS, "activation", "slope")
    activation: Activation = "relu"
    slope: float = 0.01

    def forward(  # type: ignore[override]
        self, input: Tensor, residual: Tensor | None = None, mask: Tensor | None = None
    ) -> Tensor:
        if is_traced(input):
            leaf: Tensor = self._as_leaf(input, residual, mask)
            return leaf
        return self._with_what_follows(input, mask, After(self.activation, self.slope, residual))

    def extra_repr(self) -> str:
        said = super().extra_repr()  # which has the options that were chosen
        return said if self.activation != type(self).activation else f"{said}, activation={self.activation}"

    def _contradictions(self, options: dict[str, Any]) -> Iterator[errors.Problem]:
        yield from super()._contradictions(options)
        name = options.get("activation", self.activation)
        if name not in ACTIVATIONS:
            rule = f"`activation` must be one of {', '.join(ACTIVATIONS)}."
            yield errors.Problem(rule, got=repr(name), fix=errors.did_you_mean(str(name), ACTIVATIONS))


class BatchNormAct1d(BatchNormActOptions, nn.BatchNorm1d):
    """`torch.nn.BatchNorm1d`, then a residual that is added, then an activation, in one kernel where there is one.

    Shape:
        (N, C) or (N, C, L), `residual` the same. → the same.

    Args:
        as `normlab.layers.BatchNorm1d`, and
        activation: `relu`, `leaky_relu`, `silu`, `gelu` or `none`.
        slope: of leaky ReLU below 0.

    Example:
        >>> import torch
        >>> layer = BatchNormAct1d(1, eps=0.5)
        >>> layer(torch.tensor([[1.0], [2.0], [3.0], [6.0]]), torch.tensor([[0.0], [1.0], [0.0], [0.0]])).flatten()
        tensor([0.0000, 0.5000, 0.0000, 1.5000], grad_fn=<ViewBackward0>)
    """


class BatchNormAct2d(BatchNormActOptions, nn.BatchNorm2d):
    """`torch.nn.BatchNorm2d` with what follows it; the arguments are those of `BatchNormAct1d`.

    Shape:
        (N, C, H, W), `residual` the same. → the same.
    """


class BatchNormAct3d(BatchNormActOptions, nn.BatchNorm3d):
    """`torch.nn.BatchNorm3d` with what follows it; the arguments are those of `BatchNormAct1d`.

    Shape:
        (N, C, D, H, W), `residual` the same. → the same.
    """
