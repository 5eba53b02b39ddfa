"""What is measured: a norm on a shape, in a dtype and a layout, and what follows it."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Self

from benchmarks import shapes
from benchmarks.shapes import Shape

Norm = Literal["batch", "layer", "group", "instance", "rms"]
After = Literal["", "relu", "add, relu"]
Layout = Literal["contiguous", "channels last"]
DTypeName = Literal["float32", "bfloat16", "float16", "float64"]
SIZES: dict[DTypeName, int] = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}
# How often more if all is read twice: x forward, and both x and dy backward.
READ_AGAIN = {"forward": 1, "both": 3}
QUICK, QUICK_SIZE = 3, 20_000_000  # shapes of each group in a quick run, and the bytes that they may have


@dataclass(frozen=True)
class Case:
    """One line of a table. `of` says whose shape it is; `peers` whether `torch.compile` and oneDNN are measured too."""

    of: str
    norm: Norm
    shape: Shape
    after: After = ""
    dtype: DTypeName = "float32"
    layout: Layout = "contiguous"
    groups: int = 0
    peers: bool = False

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> Self:
        return cls(**row | {"shape": tuple(row["shape"])})

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * SIZES[self.dtype]

    @property
    def least_streams(self) -> dict[str, int]:
        """How often the tensor must at least be read or written, if each value is read once while it is needed.

        Forward x and y; backward dy, x and dx. A residual is read, and read again or kept as a sign; its gradient is
        written.
        """
        return {"forward": 3, "both": 8} if self.after.startswith("add") else {"forward": 2, "both": 5}

    def title(self) -> str:
        """The group that it belongs to, in words."""
        name = {"batch": "batch norm", "rms": "RMS norm"}.get(self.norm, f"{self.norm} norm")
        after = {"": "", "relu": " + ReLU", "add, relu": " + residual + ReLU"}[self.after]
        layout = ", channels last" if self.layout == "channels last" else ""
        return f"{name}{after}, {self.of}{layout}, {self.dtype}"


def groups() -> Iterator[tuple[Case, ...]]:
    """The tables of the full run, one after another."""
    resnet, densenet = shapes.resnet50(), shapes.densenet121()
    dtypes: tuple[DTypeName, ...] = ("float32", "bfloat16")
    for dtype in dtypes:
        yield _cases("ResNet-50", "batch", resnet, after="relu", dtype=dtype, peers=dtype == "float32")
        yield _cases("ResNet-50", "batch", resnet, after="relu", dtype=dtype, layout="channels last")
    yield _cases("ResNet-50", "batch", resnet[::4], after="relu", dtype="float16")
    yield _cases("ResNet-50", "batch", resnet[1::4], after="relu", dtype="float64")
    yield _cases("DenseNet-121", "batch", densenet, after="relu")
    yield _cases("DenseNet-121", "batch", densenet[::8], after="relu", layout="channels last")
    yield _cases("ResNet-50", "batch", resnet[::2])
    for layout in ("contiguous", "channels last"):
        yield _cases("ResNet-50", "batch", shapes.resnet50_sums(), after="add, relu", layout=layout)
    for dtype in dtypes:
        yield _cases("ViT-B/16", "layer", shapes.VIT_B, dtype=dtype)
        yield _cases("Llama-like", "layer", shapes.LLAMA, dtype=dtype)
        yield _cases("Llama-like", "rms", shapes.LLAMA, dtype=dtype)
    yield _cases("diffusion U-Net", "group", shapes.DIFFUSION, groups=shapes.DIFFUSION_GROUPS)
    yield _cases("diffusion U-Net", "group", shapes.DIFFUSION[::3], groups=shapes.DIFFUSION_GROUPS, dtype="bfloat16")
    yield _cases("style transfer and nnU-Net", "instance", shapes.INSTANCE)
    yield _cases("the lab", "batch", shapes.LAB_UNITS)
    yield _cases("the lab", "batch", (*shapes.LAB_UNITS[:3], *shapes.LAB_IMAGES), after="relu")
    for norm in ("layer", "rms"):
        yield _cases("the lab", norm, shapes.LAB_UNITS)
    yield _cases("the lab", "group", shapes.LAB_IMAGES, groups=4)


def plan(quick: bool) -> tuple[Case, ...]:
    """Every case; of each group at most three, and none that is large, if it must be quick."""
    return tuple(case for group in groups() for case in (_spread(group) if quick else group))


def _cases(of: str, norm: Norm, those: Sequence[Shape], **rest: Any) -> tuple[Case, ...]:
    return tuple(Case(of, norm, shape, **rest) for shape in those)


def _spread(group: Sequence[Case]) -> Sequence[Case]:
    """The first, the last and what lies in the middle, of those that are not too large."""
    small = [case for case in group if case.size <= QUICK_SIZE]
    if len(small) <= QUICK:
        return small
    return [small[round(at * (len(small) - 1) / (QUICK - 1))] for at in range(QUICK)]
