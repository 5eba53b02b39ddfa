"""Every layer beside the one of PyTorch that it stands in for, with inputs that fit."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from normlab import layers
from normlab.kernels import pick
from normlab.kernels.cpu import batch_norm


@dataclass(frozen=True)
class Entry:
    """A layer, how it is built, and the shape of what it takes."""

    name: str
    ours: Callable[..., nn.Module]
    stock: Callable[..., nn.Module]
    args: tuple[Any, ...]
    shape: tuple[int, ...]
    kwargs: tuple[tuple[str, Any], ...] = ()

    def built(self, which: Callable[..., nn.Module], **more: Any) -> nn.Module:
        """One of the two, with weights that are not 1 and 0."""
        layer = which(*self.args, **dict(self.kwargs), **more)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for each in layer.parameters():
                each.copy_(torch.randn(each.shape, generator=generator, dtype=torch.float64).to(each.dtype))
        return layer

    def pair(self, **more: Any) -> tuple[nn.Module, nn.Module]:
        return self.built(self.ours, **more), self.built(self.stock, **more)

    def x(self, seed: int = 0, dtype: torch.dtype = torch.float32, mean: float = 0.0) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return (mean + torch.randn(self.shape, generator=generator, dtype=torch.float64)).to(dtype)

    @property
    def tracks(self) -> bool:
        return getattr(self.built(self.stock), "running_mean", None) is not None

    @property
    def is_a(self) -> type[nn.Module]:
        """The class of PyTorch that it is one of."""
        return getattr(nn, self.stock.__name__.replace("Act", ""))


def _entry(name: str, args: tuple[Any, ...], shape: tuple[int, ...], note: str = "", **kwargs: Any) -> Entry:
    return Entry(name + note, getattr(layers, name), getattr(nn, name), args, shape, tuple(kwargs.items()))


def _with_act(name: str, args: tuple[Any, ...], shape: tuple[int, ...], **kwargs: Any) -> Entry:
    """Beside the two layers of PyTorch, ReLU behind the norm, in one."""
    stock: type[nn.Module] = getattr(nn, name.replace("Act", ""))

    class Followed(stock):  # type: ignore[misc, valid-type]
        def forward(self, input: torch.Tensor) -> torch.Tensor:
            return functional.relu(super().forward(input))

        def extra_repr(self) -> str:
            return f"{super().extra_repr()}, activation=relu"

    Followed.__name__ = name
    return Entry(name, getattr(layers, name), Followed, args, shape, tuple(kwargs.items()))


CATALOGUE = (
    _entry("BatchNorm1d", (5,), (7, 5)),
    _entry("BatchNorm1d", (5,), (4, 5, 3), " of positions"),
    _entry("BatchNorm1d", (5,), (7, 5), " plain", affine=False, track_running_stats=False),
    _entry("BatchNorm1d", (5,), (7, 5), " cumulative", momentum=None),
    _entry("BatchNorm2d", (5,), (3, 5, 4, 3)),
    _entry("BatchNorm2d", (5,), (3, 5, 4, 3), " without bias", bias=False),
    _entry("BatchNorm3d", (3,), (2, 3, 2, 3, 4)),
    _with_act("BatchNormAct1d", (5,), (4, 5, 3)),
    _with_act("BatchNormAct2d", (5,), (3, 5, 4, 3)),
    _with_act("BatchNormAct3d", (3,), (2, 3, 2, 3, 4), momentum=None),
    _entry("LayerNorm", (6,), (4, 3, 6)),
    _entry("LayerNorm", ((3, 4),), (5, 3, 4), " of two dimensions"),
    _entry("LayerNorm", (6,), (4, 6), " without bias", bias=False),
    _entry("LayerNorm", (6,), (4, 6), " plain", elementwise_affine=False),
    _entry("GroupNorm", (2, 6), (3, 6, 5)),
    _entry("GroupNorm", (3, 6), (2, 6, 4, 3), " of pictures"),
    _entry("InstanceNorm1d", (5,), (3, 5, 7)),
    _entry("InstanceNorm1d", (5,), (3, 5, 7), " tracked", affine=True, track_running_stats=True),
    _entry("InstanceNorm2d", (3,), (3, 3, 4, 5), " affine", affine=True),
    _entry("InstanceNorm3d", (3,), (2, 3, 2, 3, 4), " affine", affine=True),
    _entry("RMSNorm", (6,), (4, 3, 6)),
    _entry("RMSNorm", ((3, 4),), (5, 3, 4), " of two dimensions", eps=1e-6),
)


def kernels_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has our kernels for batch norm serve however small a tensor, where there is one; that of few positions has the
    same numbers behind it, and is left to its own tests."""
    monkeypatch.setitem(pick.LEAST, "batch_norm", 0)
    monkeypatch.setattr(batch_norm, "least", lambda *given: 0)
    monkeypatch.setattr(batch_norm, "SHORT", 0)
    monkeypatch.setattr(batch_norm, "LONG", 0)
