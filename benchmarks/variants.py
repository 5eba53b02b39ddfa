"""What computes a case: ours, PyTorch's layers as they are, in place, compiled, oneDNN's; and what computes nothing."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.bounds import Called
from benchmarks.cases import Case
from benchmarks.interleaved import Call
from normlab import layers

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


@dataclass(frozen=True)
class Inputs:
    """What every variant of a case is given: the same values, the same gradient from above."""

    x: Tensor
    dy: Tensor
    residual: Tensor | None = None

    @classmethod
    def of(cls, case: Case) -> "Inputs":
        source = torch.Generator().manual_seed(0)

        def drawn() -> Tensor:
            values = torch.randn(case.shape, generator=source).to(getattr(torch, case.dtype))
            return values.to(memory_format=FORMATS[values.ndim]) if case.layout == "channels last" else values

        residual = drawn().requires_grad_() if case.after.startswith("add") else None
        return cls(drawn().requires_grad_(), drawn(), residual)

    @property
    def given(self) -> tuple[Tensor, ...]:
        return (self.x,) if self.residual is None else (self.x, self.residual)

    def leaves(self, layer: nn.Module) -> tuple[Tensor, ...]:
        """What gradients are taken for."""
        return (*self.given, *layer.parameters())

    def moved(self, to: Callable[[Tensor], Tensor]) -> "Inputs":
        return Inputs(to(self.x).requires_grad_(), to(self.dy))


class Stock(nn.Module):
    """PyTorch's norm, then `+ residual` if there is one, then ReLU if there is one."""

    def __init__(self, norm: nn.Module, relu: bool, in_place: bool = False) -> None:
        super().__init__()
        self.norm, self.relu, self.in_place = norm, relu, in_place

    def forward(self, x: Tensor, residual: Tensor | None = None) -> Tensor:
        y = self.norm(x)
        if residual is not None:
            y = y.add_(residual) if self.in_place else y + residual
        return functional.relu(y, inplace=self.in_place) if self.relu else y


def variants(case: Case, *, peers: bool, compiled: bool) -> dict[str, dict[str, Call]]:
    """For each variant its forward in train mode, and `both`: forward and backward; of the plain copies the forward.

    `call` is a layer that does nothing, beside batch norm and ReLU. `copy` writes into memory that is there: half of it
    is a stream. `clone` asks for memory first, as a forward does.

    Args:
        case: what is computed.
        peers: whether eager in place is among them, on ResNet-50, and oneDNN's kernels where they serve the case.
        compiled: whether `torch.compile` is; it takes seconds for each case.
    """
    inputs = Inputs.of(case)
    stock, ours = layers_of(case)
    found = {"ours": calls_of(ours, inputs), "eager": calls_of(stock, inputs)}
    if peers and stock.relu and case.of == "ResNet-50" and case.dtype == "float32":
        found["in place"] = calls_of(Stock(copy.deepcopy(stock.norm), relu=True, in_place=True), inputs)
    if compiled:
        torch._dynamo.reset()  # it keeps eight shapes of a function and then gives up
        own = copy.deepcopy(stock)
        found["compile"] = calls_of(own, inputs, torch.compile(own, dynamic=False))
    if peers and case.peers:
        found["oneDNN"] = calls_of(copy.deepcopy(stock), inputs.moved(_to_onednn))
        found["oneDNN blocked"] = calls_of(copy.deepcopy(stock), inputs.moved(_blocked))
    if case.norm == "batch" and case.after == "relu":
        found["call"] = calls_of(Called(case.shape[1]), inputs)
    x = inputs.x.detach()
    target = torch.empty_like(x)
    return found | {"copy": {"forward": lambda: target.copy_(x)}, "clone": {"forward": x.clone}}


def calls_of(layer: nn.Module, inputs: Inputs, called: Callable[..., Tensor] | None = None) -> dict[str, Call]:
    """The two directions of a layer, or of what was made from it."""
    run = layer if called is None else called  # a compiled one has a length of its own
    given, leaves = inputs.given, inputs.leaves(layer)
    return {
        "forward": lambda: run(*given),
        "both": lambda: torch.autograd.grad(run(*given), leaves, inputs.dy),
    }


def kernel(ways: Mapping[str, Call], stock: Mapping[str, Call]) -> str:
    """Whose kernel serves our layer: `ours` or `PyTorch's`, by what its backward will run."""
    further = _backward(ways["forward"]()) - _backward(stock["forward"]())
    return "ours" if any("Fused" in name or "normlab" in name for name in further) else "PyTorch's"


def _backward(y: Any) -> set[str]:
    names, waiting = set(), [y.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None:
            names.add(node.name())
            waiting += [before for before, _ in node.next_functions]
    return names


def layers_of(case: Case) -> tuple[Stock, nn.Module]:
    """PyTorch's layer with what follows it, and ours, with the same weights."""
    return Stock(_norm(nn, case), relu="relu" in case.after), _norm(layers, case, fused="Act" if case.after else "")


def _norm(family: Any, case: Case, fused: str = "") -> nn.Module:
    """The layer of `torch.nn` or of `normlab.layers`, with parameters that are not 1 and 0.

    They have the dtype of the input, but for batch norm in half precision, which keeps them and its running statistics
    in float32, as under autocast.
    """
    shape, channels, dimensions = case.shape, case.shape[1], max(1, len(case.shape) - 2)
    layer: nn.Module
    if case.norm == "batch":
        layer = getattr(family, f"BatchNorm{fused}{dimensions}d")(channels)
    elif case.norm == "instance":
        layer = getattr(family, f"InstanceNorm{dimensions}d")(channels, affine=True)
    elif case.norm == "group":
        layer = family.GroupNorm(case.groups, channels)
    else:
        layer = (family.LayerNorm if case.norm == "layer" else family.RMSNorm)(shape[-1])
    source = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(0.5 + torch.rand(parameter.shape, generator=source))
    half = case.norm == "batch" and case.dtype in ("bfloat16", "float16")
    return layer if half else layer.to(getattr(torch, case.dtype))


def _to_onednn(x: Tensor) -> Tensor:
    return x.detach().to_mkldnn()


def _blocked(x: Tensor) -> Tensor:
    """As a convolution of oneDNN leaves its output, channels by the sixteen: through one that changes nothing."""
    channels = x.shape[1]
    same = torch.eye(channels).reshape(channels, channels, 1, 1)
    with torch.no_grad():
        return torch.mkldnn_convolution(_to_onednn(x), same, None, (0, 0), (1, 1), (1, 1), 1)
