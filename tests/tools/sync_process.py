"""What each of two processes does in the tests of synchronized batch norm; the results go to files."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from normlab.tools.sync import sync_

# samples of each process, and their height: unequal, of unequal size, and one without any
SPLITS = {"equal": ((4, 3), (4, 3)), "ragged": ((5, 3), (2, 3)), "sizes": ((3, 4), (3, 2)), "empty": ((6, 3), (0, 3))}
CHANNELS = 3


class Doubled(nn.BatchNorm2d):
    """A subclass with a forward of its own, which must not get lost."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(input)


def batches(split: str, dtype: torch.dtype, mean: float = 0.0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(len(split))
    return [
        mean + torch.randn(samples, CHANNELS, height, 3, generator=generator, dtype=torch.float64).mul(0.5).to(dtype)
        for samples, height in SPLITS[split]
    ]


def upstream(xs: list[torch.Tensor]) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(99)
    return [torch.randn(x.shape, generator=generator, dtype=torch.float64).to(x.dtype) for x in xs]


def layer(dtype: torch.dtype, kind: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> nn.BatchNorm2d:
    made = kind(CHANNELS, dtype=dtype)
    with torch.no_grad():
        made.weight.copy_(torch.tensor([0.5, -2.0, 3.0]))
        made.bias.copy_(torch.tensor([1.0, 0.0, -1.0]))
    return made


def cases() -> dict[str, tuple[str, torch.dtype, float]]:
    dtypes = {"32": torch.float32, "64": torch.float64}
    small = {f"{split}-{name}": (split, dtype, 0.0) for split in SPLITS for name, dtype in dtypes.items()}
    return small | {"mean-64": ("ragged", torch.float64, 1e3), "subclass-64": ("ragged", torch.float64, 0.0)}


def run(rank: int, case: str) -> dict[str, Any]:
    split, dtype, mean = cases()[case]
    model = nn.Sequential(layer(dtype, Doubled if case.startswith("subclass") else nn.BatchNorm2d))
    sync_(model)
    xs = batches(split, dtype, mean)
    x = xs[rank].clone().requires_grad_()
    y = model(x)
    y.backward(upstream(xs)[rank])
    norm = model[0]
    return {
        "y": y.detach(), "dx": x.grad, "dweight": norm.weight.grad, "dbias": norm.bias.grad,
        "mean": norm.running_mean, "var": norm.running_var, "commits": norm.num_batches_tracked,
        "type": isinstance(norm, Doubled),
    }  # fmt: skip


def through_ddp(rank: int) -> dict[str, Any]:
    """A whole step under `DistributedDataParallel`, whose gradients are averages over the processes."""
    model = nn.Sequential(nn.Conv2d(CHANNELS, CHANNELS, 1), layer(torch.float64), nn.ReLU()).double()
    with torch.no_grad():
        for each in model[0].parameters():
            each.copy_(torch.linspace(-1, 1, each.numel()).view_as(each))
    sync_(model)
    wrapped = nn.parallel.DistributedDataParallel(model)
    xs = batches("equal", torch.float64)
    wrapped(xs[rank]).backward(upstream(xs)[rank])
    return {name: each.grad for name, each in model.named_parameters()}


def one_value(rank: int) -> str:
    try:
        sync_(model := nn.BatchNorm1d(2))
        model(torch.zeros(1 - rank, 2))
    except ValueError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    rank, folder = int(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder / 'meet'}", rank=rank, world_size=2)
    found: dict[str, Any] = {case: run(rank, case) for case in cases()}
    found |= {"ddp": through_ddp(rank), "one value": one_value(rank)}
    torch.save(found, folder / f"{rank}.pt")
    dist.destroy_process_group()
