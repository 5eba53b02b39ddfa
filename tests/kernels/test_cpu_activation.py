"""What follows a norm in its kernel: its value and its derivative at every number, and in plain torch."""

from typing import Any

import pytest
import torch
from tests.layers.oracle import close, random
from tests.tolerances import FLOOR_ROUNDINGS, TIMES_TORCH
from torch.nn import functional

from normlab.kernels.activation import ACTIVATIONS, After, activate
from normlab.kernels.cpu.batch_norm import CODES, batch_norm_bwd, batch_norm_fwd

EPS = torch.finfo(torch.float32).eps
SLOPE = 0.2
IN_TORCH: dict[str, Any] = {
    "none": lambda z: z * 1,
    "relu": torch.relu,
    "leaky_relu": lambda z: functional.leaky_relu(z, SLOPE),
    "silu": functional.silu,
    "gelu": functional.gelu,
}
named = pytest.mark.parametrize("name", ACTIVATIONS)
# the norm before it changes nothing: mean 0, what that leaves out, 1 / √(var + eps), variance
NO_NORM = torch.tensor([0.0, 0.0, 1.0, 1.0]).view(4, 1)


def by_kernel(name: Any, z: torch.Tensor, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The activation of `z`, and what comes back through it."""
    x, after = z.view(1, 1, -1), After(name, SLOPE)
    y = batch_norm_fwd(x, None, None, 1, 1e-5, after, NO_NORM)[0]
    dx = batch_norm_bwd(dy.view(1, 1, -1), x, None, None, NO_NORM, 1, after, given=True)[0]
    return y.flatten(), dx.flatten()


def by_torch(name: str, z: torch.Tensor, dy: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    leaf = z.clone().requires_grad_()
    y = IN_TORCH[name](leaf)
    return y.detach(), torch.autograd.grad(y, leaf, dy)[0]


@named
def test_values_and_derivatives(name: str) -> None:
    """Each element at most twice as far from float64 as PyTorch, and some roundings of what it is made of.

    exp(u) of a u that is rounded is off by |u| roundings of itself, and u is up to z²/2: where that is much, in the
    tails, the result is next to 0 or to z.
    """
    z = torch.cat([torch.linspace(-12, 12, 4001), torch.linspace(-100, 100, 999), random(1000).float() * 1e-3])
    dy = random(len(z), seed=1, dtype=torch.float32)
    found, stock, exact = by_kernel(name, z, dy), by_torch(name, z, dy), by_torch(name, z.double(), dy.double())
    sizes = z.abs().clamp(min=1.0), dy.abs() * z.abs().clamp(min=1.0)
    for what, mine, theirs, truth, size in zip(("y", "dx"), found, stock, exact, sizes, strict=True):
        bound = TIMES_TORCH * (theirs - truth).abs() + FLOOR_ROUNDINGS * EPS * size
        worst = ((mine - truth).abs() / bound).argmax()
        assert (mine - truth).abs()[worst] <= bound[worst], f"{what} at {z[worst]}: {mine[worst]}, not {truth[worst]}"


@pytest.mark.parametrize("name", ["silu", "gelu"])
def test_small_values_are_right_in_their_own_size(name: str) -> None:
    """Left of 0 down to where the float32 of PyTorch's GELU has no digit left."""
    z = torch.linspace(-9, -0.01, 3001)
    found, _ = by_kernel(name, z, z)
    left = torch.sigmoid(z.double()) if name == "silu" else torch.erfc(-z.double() / 2**0.5) / 2
    exact = z.double() * left
    assert ((found - exact).abs() <= (FLOOR_ROUNDINGS + z * z) * EPS * exact.abs()).all()


@named
@pytest.mark.parametrize("z", [0.0, torch.inf, -torch.inf, torch.nan, 3e38, -3e38, 1e-40], ids=str)
def test_at_the_ends(name: str, z: float) -> None:
    """NaN stays NaN; ReLU and its like are PyTorch's to the bit, SiLU and GELU are finite wherever PyTorch's are."""
    at = torch.full((3,), z)
    found, stock = by_kernel(name, at, torch.ones(3)), by_torch(name, at, torch.ones(3))
    for mine, theirs in zip(found, stock, strict=True):
        if name in ("silu", "gelu"):
            assert bool(mine.isfinite().all()) or not bool(theirs.isfinite().any())
        elif at.isfinite().all() or (
            at.isnan().all() and name != "leaky_relu"
        ):  # whose slope at NaN is a matter of taste
            torch.testing.assert_close(mine, theirs, rtol=0, atol=0, equal_nan=True)
    if at.isnan().all():
        assert found[0].isnan().all()
        assert torch.equal(found[1].isnan(), stock[1].isnan())


@named
def test_in_plain_torch(name: Any) -> None:
    z, residual = random(5, 4), random(5, 4, seed=1)
    close(activate(z, name, SLOPE), IN_TORCH[name](z))
    close(After(name, SLOPE).of(z), IN_TORCH[name](z))
    close(After(name, SLOPE, residual).of(z), IN_TORCH[name](z + residual))


def test_names_and_numbers() -> None:
    """The launcher numbers them as the kernels do, which it does not import: that takes Numba."""
    from normlab.kernels.cpu.jitted import activation

    assert activation.CODES == CODES
    assert tuple(CODES) == ACTIVATIONS
