"""What `torch.library` was told of the ops."""

from typing import Any

import pytest
import torch
from tests.layers.oracle import close, random
from torch.library import opcheck

from normlab.kernels import formula
from normlab.kernels.view import batch_view, group_view, layer_view
from normlab.ops import batch_norm, group_norm, layer_norm, rms_norm

SHAPE, EPS = (3, 4, 5, 2), 1e-5
SETS = {"batch_norm": 1, "group_norm": 2, "layer_norm": 2, "rms_norm": 2}
VIEWS = {
    "batch_norm": lambda x: batch_view(x, 1),
    "group_norm": lambda x: group_view(x, 2),
    "layer_norm": lambda x: layer_view(x, 2),
    "rms_norm": lambda x: layer_view(x, 2, center=False),
}
LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "spread": lambda x: torch.stack([x, x], -1)[..., 0],
    "transposed": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
}
names = pytest.mark.parametrize("name", SETS)


def arguments(
    name: str, dtype: torch.dtype, layout: str, *, masked: bool, affine: bool, grad: bool = True
) -> list[Any]:
    last = name in ("layer_norm", "rms_norm")
    x = LAYOUTS[layout](random(*SHAPE, dtype=dtype)).requires_grad_(grad)
    shape = SHAPE[2:] if last else SHAPE[1:2]
    weight = random(*shape, seed=1, dtype=dtype).requires_grad_(grad) if affine else None
    bias = random(*shape, seed=2, dtype=dtype).requires_grad_(grad) if affine and name != "rms_norm" else None
    mask = (random(*SHAPE, seed=3) if last else random(SHAPE[0], 1, *SHAPE[2:], seed=3).expand(SHAPE)) > -0.5
    return [x, weight, bias, mask if masked else None, SETS[name], EPS]


def backward_arguments(name: str, given: list[Any]) -> list[Any]:
    x, weight, _, mask, sets, eps = given
    with torch.no_grad():
        _, mean, rstd, _ = getattr(torch.ops.normlab, name)(*given)
    dy = random(*SHAPE, seed=4, dtype=x.dtype).requires_grad_(x.requires_grad)
    return [dy, x, weight, mask, mean, rstd, sets, eps]


@names
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_schema_and_shapes(name: str, layout: str, dtype: torch.dtype) -> None:
    """With and without mask, with and without weight, forward and backward."""
    for masked, affine in ((False, True), (True, True), (True, False), (False, False)):
        given = arguments(name, dtype, layout, masked=masked, affine=affine, grad=False)
        for op, values in ((name, given), (f"{name}_backward", backward_arguments(name, given))):
            real = getattr(torch.ops.normlab, op)(*values)
            with torch._subclasses.FakeTensorMode() as mode:
                fake = getattr(torch.ops.normlab, op)(
                    *(mode.from_tensor(each) if isinstance(each, torch.Tensor) else each for each in values)
                )
            for mine, told in zip(real, fake, strict=True):
                assert (mine.shape, mine.dtype, mine.stride()) == (told.shape, told.dtype, told.stride())


@names
@pytest.mark.parametrize(
    ("masked", "layout"), [(False, "channels last"), (True, "contiguous")], ids=["whole", "masked"]
)
def test_opcheck(name: str, masked: bool, layout: str) -> None:
    """PyTorch's own tests of a registration; those of the tracer cost a second each."""
    given = arguments(name, torch.float64, layout, masked=masked, affine=True)
    opcheck(getattr(torch.ops.normlab, name).default, tuple(given))
    backward = tuple(backward_arguments(name, given))
    cheap = ("test_schema", "test_autograd_registration", "test_faketensor")
    opcheck(getattr(torch.ops.normlab, f"{name}_backward").default, backward, test_utils=cheap)


@names
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_vmap(name: str, masked: bool) -> None:
    """Over any of the arguments, forward and backward."""
    given = arguments(name, torch.float64, "contiguous", masked=masked, affine=True, grad=False)
    x, weight, bias, mask, sets, eps = given
    xs = torch.stack([x, x.flip(0) + 1, 2 * x], dim=1)
    weights = torch.stack([weight, -weight, 2 * weight])
    op, back = getattr(torch.ops.normlab, name), getattr(torch.ops.normlab, f"{name}_backward")
    batched = torch.vmap(lambda x, weight: op(x, weight, bias, mask, sets, eps), (1, 0))(xs, weights)
    dy = random(*SHAPE, seed=4)
    many = torch.vmap(lambda x, weight, mean, rstd: back(dy, x, weight, mask, mean, rstd, sets, eps), (1, 0, 0, 0))(
        xs, weights, batched[1], batched[2]
    )
    for number in range(3):
        one = op(xs[:, number], weights[number], bias, mask, sets, eps)
        for mine, theirs in zip(batched, one, strict=True):
            close(mine[number], theirs)
        found = back(dy, xs[:, number], weights[number], mask, one[1], one[2], sets, eps)
        for mine, theirs in zip(many, found, strict=True):
            close(mine[number], theirs)


@names
def test_derivatives_of_any_order(name: str) -> None:
    """Up to the third, as those of the formula, which PyTorch takes apart itself."""
    given = arguments(name, torch.float64, "contiguous", masked=True, affine=True)
    x, weight, bias, mask, _, eps = given
    dy, along = random(*SHAPE, seed=5).requires_grad_(), random(*SHAPE, seed=6)

    def orders(y: torch.Tensor) -> list[torch.Tensor]:
        first = torch.autograd.grad(y, [x, weight], dy, create_graph=True)
        second = torch.autograd.grad((first[0] * along).sum() + first[1].square().sum(), [x, weight, dy],
                                     create_graph=True)  # fmt: skip
        third = torch.autograd.grad(sum(each.square().sum() for each in second), [x, weight, dy])
        return [*first, *second, *third]

    mine = orders(getattr(torch.ops.normlab, name)(*given)[0])
    theirs = orders(formula.normalize(x, weight, bias, mask, VIEWS[name](x), eps).y)
    for one, other in zip(mine, theirs, strict=True):
        scale = max(1.0, float(other.detach().abs().max()))
        close(one / scale, other / scale)


def test_statistics_are_constants() -> None:
    x = random(4, 3).requires_grad_()
    _, moments = batch_norm(x)
    assert not moments.mean.requires_grad
    for each in torch.ops.normlab.batch_norm(x, None, None, None, 1, EPS)[1:]:
        assert not each.requires_grad


@pytest.mark.parametrize("backend", ["registered", "formula"])
def test_layout_of_the_output(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As PyTorch's, which keeps channels last; the formula is for transforms, that have no layout."""
    monkeypatch.setattr("normlab.kernels.pick.forced", backend)
    x = random(*SHAPE).contiguous(memory_format=torch.channels_last)
    for y in (batch_norm(x)[0], group_norm(x, 2), layer_norm(x, (5, 2)), rms_norm(x, (5, 2))):
        assert y.shape == x.shape
        if backend == "registered":
            assert y.stride() == x.stride()
