"""Which kernel serves a tensor, and what is said where there is none."""

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.layers.oracle import random
from torch.utils._python_dispatch import TorchDispatchMode

from normlab.errors import InvalidInputError
from normlab.kernels import pick as choice
from normlab.kernels.activation import NOTHING, After
from normlab.kernels.cpu import batch_norm as launcher
from normlab.kernels.pick import backend, chosen, explained, pick, transformed, why_not_fused

LARGE = torch.zeros(16, 64, 32, 32)
FIX = '  fix: choose "auto", which takes PyTorch\'s kernel where there is no other.'


def test_without_anything_else() -> None:
    x, mask = torch.zeros(2, 3), torch.ones(2, dtype=torch.bool)
    seen = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.extend(
            [transformed(), pick("batch_norm", x, None), pick("layer_norm", x, None), pick("layer_norm", x, mask)]
        )
        return x

    look(x)
    torch.func.vmap(look)(x)
    assert seen == [False, "stock", "stock", "registered", True, "formula", "stock", "formula"]


def test_by_size() -> None:
    """From the crossover on, which depends on what there is to save."""
    for (given, more), (in_runs, in_rows) in launcher.WORTH.items():
        after = After("relu") if more else After()
        if in_runs == launcher.NEVER:
            assert pick("batch_norm", LARGE, None, 1, after, given) == "stock"
            continue
        for x in (torch.zeros(in_runs // 32, 4, 8), torch.zeros(in_rows // 4, 4)):
            assert x.numel() >= choice.LEAST["batch_norm"]
            assert pick("batch_norm", x, None, 1, after, given) == "fused"
            assert pick("batch_norm", x[:-1], None, 1, after, given) == "stock"


class Watching(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return func(*args, **kwargs or {})


class Own(torch.Tensor):
    pass


WHY_NOT: dict[str, tuple[Callable[[], dict[str, Any]], str]] = {
    "masked": (lambda: {"mask": torch.ones(16, dtype=torch.bool)}, "it has a mask"),
    "elsewhere": (lambda: {"x": LARGE.to("meta")}, "it lies on meta"),
    "a subclass": (
        lambda: {"x": LARGE.as_subclass(Own)}, "it is followed by a transform or a subclass of Tensor",
    ),
    "whole numbers": (lambda: {"x": LARGE.int()}, "it is of torch.int32"),
    "complex numbers": (lambda: {"x": LARGE.to(torch.complex64)}, "it is of torch.complex64"),
    "nothing": (lambda: {"x": LARGE[:0]}, "it is empty"),
    "one dimension": (
        lambda: {"x": LARGE.flatten()}, "its channels are neither second nor last, or it has gaps in memory",
    ),
    "gaps": (lambda: {"x": LARGE[:, :, ::2]}, "its channels are neither second nor last, or it has gaps in memory"),
    "channels within": (
        lambda: {"x": LARGE, "sets": 2}, "its channels are neither second nor last, or it has gaps in memory",
    ),
    "channels first": (
        lambda: {"x": LARGE, "sets": 0}, "its channels are neither second nor last, or it has gaps in memory",
    ),
    "expanded": (
        lambda: {"x": torch.zeros(1, 64, 1, 1).expand(16, 64, 32, 32)},
        "its channels are neither second nor last, or it has gaps in memory",
    ),
    "sparse": (lambda: {"x": LARGE.to_sparse()}, "its numbers do not lie in memory as they are"),
    "of oneDNN": (lambda: {"x": LARGE.to_mkldnn()}, "its numbers do not lie in memory as they are"),
    "negative by a flag": (lambda: {"x": torch._neg_view(LARGE)}, "its numbers do not lie in memory as they are"),
    "float64 and GELU": (
        lambda: {"x": LARGE.double(), "after": After("gelu")}, "gelu is computed to the precision of float32",
    ),
    "a residual of another shape": (lambda: {"after": After(residual=LARGE[:1])}, "the residual is not like it"),
    "a residual of another dtype": (lambda: {"after": After(residual=LARGE.half())}, "the residual is not like it"),
}  # fmt: skip


@pytest.mark.parametrize("name", WHY_NOT)
def test_why_not(name: str) -> None:
    """The reason, the message where fused was asked for, and what serves in its place."""
    make, reason = WHY_NOT[name]
    given: dict[str, Any] = {"x": LARGE, "mask": None, "sets": 1, "after": After()} | make()
    assert why_not_fused("batch_norm", **given) == reason
    assert pick("batch_norm", **given) == ("stock" if given["mask"] is None else "registered")
    with pytest.raises(InvalidInputError) as raised, backend("fused"):
        pick("batch_norm", **given)
    x = given["x"]
    shown = f"x {tuple(x.shape)} {str(x.dtype).removeprefix('torch.')} {x.device.type}"
    assert str(raised.value) == f"batch_norm: there is no fused kernel for this.\n  got: {reason}; {shown}\n{FIX}"
    assert chosen() == "auto"


def test_what_lies_as_a_kernel_takes_it() -> None:
    five = torch.zeros(2, 3, 4, 5, 6)
    for x, sets in (
        (LARGE, 1), (LARGE, -3), (LARGE, -1), (LARGE, 3), (LARGE.contiguous(memory_format=torch.channels_last), 1),
        (five, 1), (five.contiguous(memory_format=torch.channels_last_3d), 1), (torch.zeros(5, 3), 1),
        (torch.zeros(5, 3), -1), (torch.zeros(5, 3, 1), 1), (torch.zeros(1, 1), 1), (LARGE[3:5], 1),
        (LARGE.flatten()[1:7].view(1, 2, 3), 1), (torch.nn.Parameter(LARGE), 1),
    ):  # fmt: skip
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16):
            if x.is_contiguous() or dtype == torch.float32:
                assert why_not_fused("batch_norm", x.to(dtype), None, sets) == "", (x.shape, x.stride(), sets)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_what_is_followed_step_by_step() -> None:
    """By a transform, forward derivatives, a mode of dispatch, or a tracer: PyTorch's own kernel is what they know."""
    seen = {}

    def look(name: str) -> Callable[[torch.Tensor], torch.Tensor]:
        def remember(x: torch.Tensor) -> torch.Tensor:
            seen.setdefault(name, pick("batch_norm", x, None))  # what was traced is run once more, to be compared
            return x * 1

        return remember

    torch.func.vmap(look("vmap"))(LARGE[None])
    torch.func.grad(lambda x: look("grad")(x).sum())(LARGE)
    torch.func.jvp(look("jvp"), (LARGE,), (LARGE,))
    with torch.autograd.forward_ad.dual_level():
        look("dual level")(torch.autograd.forward_ad.make_dual(LARGE, LARGE))
    with Watching():
        look("mode")(LARGE)
    with pytest.warns(torch.jit.TracerWarning), torch.no_grad():
        torch.jit.trace(look("jit"), LARGE)
    torch.fx.symbolic_trace(look("fx"))
    torch.export.export(Looking(look("export")), (LARGE,))
    look("nothing")(LARGE)
    assert seen == {
        "vmap": "formula", "grad": "formula", "jvp": "formula", "dual level": "stock", "mode": "stock", "jit": "stock",
        "fx": "stock", "export": "stock", "nothing": "fused",
    }  # fmt: skip


class Looking(torch.nn.Module):
    def __init__(self, look: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.look = look

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.look(x)


def test_contexts() -> None:
    """The innermost one decides, whatever the size; each puts back what was before it, after an error too."""
    small = random(2, 3)
    assert (pick("batch_norm", LARGE, None), pick("batch_norm", small, None)) == ("fused", "stock")
    with backend("torch"):
        assert pick("batch_norm", LARGE, None) == "stock"
        with backend("fused"):
            assert pick("batch_norm", small, None) == "fused"
            with backend("auto"):
                assert pick("batch_norm", small, None) == "stock"
                assert pick("batch_norm", LARGE, None) == "fused"
            with pytest.raises(KeyError), backend("torch"):
                raise KeyError
            assert chosen() == "fused"
        assert chosen() == "torch"
    assert chosen() == "auto"


def test_no_such_backend() -> None:
    with pytest.raises(InvalidInputError) as raised, backend("fusd"):  # type: ignore[arg-type]
        pass
    text = "backend: the backend must be one of auto, torch, fused.\n  got: 'fusd'\n  fix: did you mean `fused`?"
    assert str(raised.value) == text
    assert chosen() == "auto"


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        ("torch", "torch stock"),
        ("numba", "NORMLAB_BACKEND: the backend must be one of auto, torch, fused.\n  got: 'numba'\n"
                  "  fix: choose one of: auto, torch, fused."),
    ],
    ids=["torch", "wrong"],
)  # fmt: skip
def test_the_environment(variable: str, expected: str) -> None:
    program = (
        "import torch\n"
        "from normlab.kernels.pick import chosen, pick\n"
        "print(chosen(), pick('batch_norm', torch.zeros(16, 64, 32, 32), None))"
    )
    ran = subprocess.run([sys.executable, "-c", program], env=os.environ | {"NORMLAB_BACKEND": variable},
                         capture_output=True, text=True, timeout=100, check=False)  # fmt: skip
    found = ran.stdout.strip() if ran.returncode == 0 else ran.stderr.strip().split("InvalidInputError: ")[-1]
    assert found == expected


def test_explained() -> None:
    small, least = LARGE[:1, :1], f"ours is faster from {launcher.WORTH[False, False][0]:,} on"
    assert explained("batch_norm", LARGE) == ("fused", f"of 1,048,576 values; {least}")
    assert explained("batch_norm", small) == ("stock", f"of 1,024 values; {least}")
    assert explained("batch_norm", LARGE, 2) == ("stock", WHY_NOT["gaps"][1])
    with backend("torch"):
        assert explained("batch_norm", LARGE) == ("stock", f"torch was asked for; of 1,048,576 values; {least}")


@pytest.mark.parametrize("op", sorted(choice.LEAST))
def test_nobody_is_turned_away_who_would_be_served(op: choice.Op) -> None:
    """Below what is looked at first no kernel is the faster one."""
    least = choice.LEAST[op]
    sets = {"group_norm": 32, "instance_norm": 64}.get(op, 1)
    kernels = choice._kernels(op)
    for shape in ((least // 64, 64), (least // 4096, 64, 64), (1, 64, least // 64), (least // 64, 64, 1, 1)):
        for after in (NOTHING, After("relu")):
            assert kernels.least(torch.empty(shape, device="meta"), sets, after, False) >= least
