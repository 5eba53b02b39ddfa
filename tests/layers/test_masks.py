"""Padding changes nothing."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.layers.masked_layers import MASKED, POSITIONS, SHAPE, Masked
from tests.layers.oracle import close, learned, passed, random, same, statistics
from tests.tolerances import TORCH, beside_torch
from torch import nn

from normlab import layers, reference
from normlab.errors import InvalidInputError
from normlab.layers import functional_call

every = pytest.mark.parametrize("entry", MASKED, ids=lambda entry: entry.name)


@every
@pytest.mark.parametrize("backend", ["registered", "formula"])
@pytest.mark.parametrize("mean", [0.0, 1e3], ids=["unit", "large mean"])
def test_against_the_reference(entry: Masked, mean: float, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("normlab.kernels.pick.forced", backend)
    layer = entry.built()
    x, dy = random(*SHAPE, mean=mean), random(*SHAPE, seed=1)
    found = passed(layer, x, dy, mask=entry.mask)
    tolerance = TORCH * max(1.0, mean)  # numbers so many times their deviation have lost as many digits
    for mine, theirs in zip(found, entry.expected(layer, x, dy, entry.mask), strict=True):
        close(mine, theirs, tolerance)


@every
def test_junk_in_the_padding(entry: Masked) -> None:
    """NaN, infinite and enormous padding takes no part, nor does a gradient that is such."""
    layer = entry.built()
    junk = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e200], dtype=torch.float64).repeat(30).view(SHAPE)
    spoilt = ~entry.real & (torch.arange(120).view(SHAPE) % 3 > 0)
    x, dy = random(*SHAPE).where(~spoilt, junk), random(*SHAPE, seed=1).where(~spoilt.roll(1, -1) | entry.real, junk)
    found = passed(layer, x, dy, mask=entry.mask)
    for mine, theirs in zip(found, entry.expected(layer, x, dy, entry.mask), strict=True):
        close(mine, theirs)
    assert not found[0][spoilt].any()
    assert all(bool(each.isfinite().all()) for each in [*found, *statistics(layer).values()])


def broadcastable(real: torch.Tensor) -> list[torch.Tensor]:
    """Masks of fewer elements; each stands for a larger one."""
    return [real, real[:1], real[..., :1], real[1], real[0, ..., :1]]


@every
def test_masks_are_broadcast(entry: Masked) -> None:
    layer, x, dy = entry.built(), random(*SHAPE), random(*SHAPE, seed=1)
    for mask in broadcastable(entry.mask):
        whole = mask.expand(entry.mask.shape).contiguous()
        for mine, theirs in zip(passed(layer, x, dy, mask=mask), passed(layer, x, dy, mask=whole), strict=True):
            assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    "make",
    [lambda: layers.BatchNorm1d(3), lambda: layers.InstanceNorm1d(3, track_running_stats=True),
     lambda: layers.GroupNorm(3, 3), lambda: layers.BatchRenorm1d(3, schedule=(0, 0, 0)),
     lambda: layers.GhostBatchNorm1d(3, virtual_batch=2)],
    ids=["batch", "instance", "group", "renorm", "ghost"],
)  # fmt: skip
@settings(deadline=None, max_examples=25)
@given(data=st.data())
def test_padding_of_any_length_and_value(make: Callable[[], nn.Module], data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 4), min_size=2, max_size=4).filter(lambda each: sum(each) > 1))
    more, seed = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 99))
    value = data.draw(st.floats(allow_nan=True, width=64))
    real = torch.arange(4) < torch.tensor(lengths)[:, None]
    x, dy = random(len(lengths), 3, 4, seed=seed), random(len(lengths), 3, 4, seed=seed + 1) * real[:, None]
    longer = x.where(real[:, None], value), dy, real
    if more:
        longer = tuple(
            nn.functional.pad(each, (0, more), value=fill)
            for each, fill in zip(longer, (value, 0.0, False), strict=True)
        )
    short, long = make().double(), make().double()
    one, other = passed(short, x, dy, mask=real), passed(long, longer[0], longer[1], mask=longer[2])
    for mine, theirs in zip(one[:2], other[:2], strict=True):
        close(mine.movedim(1, 2)[real], theirs[..., :4].movedim(1, 2)[real])
    for mine, theirs in zip(one[2:], other[2:], strict=True):
        close(mine, theirs)
    for name, mine in statistics(short).items():
        close(mine, statistics(long)[name])


@settings(deadline=None, max_examples=25)
@given(st.floats(allow_nan=True), st.integers(0, 99))
def test_padding_of_elements_may_have_any_value(value: float, seed: int) -> None:
    for entry in MASKED[-3:]:
        layer, x, dy = entry.built(), random(*SHAPE, seed=seed), random(*SHAPE, seed=seed + 1) * entry.real
        one, other = (passed(layer, each, dy, mask=entry.mask) for each in (x, x.where(entry.real, value)))
        for mine, theirs in zip(one, other, strict=True):
            if mine.shape == x.shape:
                mine, theirs = mine[entry.real], theirs[entry.real]
            assert torch.equal(mine, theirs)


TRIMMED: dict[str, tuple[Callable[[], nn.Module], Callable[[], nn.Module]]] = {
    "batch": (lambda: layers.BatchNorm1d(3), lambda: nn.BatchNorm1d(3)),
    "instance": (lambda: layers.InstanceNorm1d(3, affine=True), lambda: nn.InstanceNorm1d(3, affine=True)),
    "group": (lambda: layers.GroupNorm(1, 3), lambda: nn.GroupNorm(1, 3)),
    "layer": (lambda: layers.LayerNorm(9), lambda: nn.LayerNorm(6)),
    "rms": (lambda: layers.RMSNorm(9), lambda: nn.RMSNorm(6)),
}


@pytest.mark.parametrize("name", TRIMMED)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("mean", [0.0, 1e3], ids=["unit", "large mean"])
def test_as_precise_as_torch_without_the_padding(name: str, dtype: torch.dtype, mean: float) -> None:
    """Where all samples are of one length, PyTorch can do it as well: on what is left when they are cut."""
    ours, stock = (make() for make in TRIMMED[name])
    exact = copy.deepcopy(stock).double()
    x, dy = random(5, 3, 9, mean=mean, dtype=dtype), random(5, 3, 9, seed=1, dtype=dtype)
    dy[..., 6:] = 0
    cut = [passed(layer.to(kind), x[..., :6].to(kind), dy[..., :6].to(kind))
           for layer, kind in ((stock, dtype), (exact, torch.float64))]  # fmt: skip
    found = passed(ours.to(dtype), x, dy, mask=torch.arange(9) < 6)
    for what, mine, theirs, truth in zip(("y", "dx", "dweight", "dbias"), found, *cut, strict=False):
        mine = mine[..., :6] if mine.shape[-1] == 9 else mine
        beside_torch(mine, theirs, truth, what, condition=max(1.0, mean))


def test_running_statistics_are_unbiased_by_what_is_real() -> None:
    layer = layers.BatchNorm2d(3, momentum=1.0).double()
    x, real = random(2, 3, 2, 4), random(2, 2, 4, seed=1) > 0
    layer(x, real)
    values = x.movedim(1, -1)[real]
    close(layer.running_mean, values.mean(0))
    close(layer.running_var, values.var(0))


def test_samples_and_batches_without_anything_real() -> None:
    """The bias comes out, nothing flows back, nothing is committed."""
    for entry in MASKED:
        layer = entry.built()
        x, dy, before = random(*SHAPE), random(*SHAPE, seed=1), statistics(layer)
        y, dx, *_ = passed(layer, x, dy, mask=torch.zeros_like(entry.mask))
        bias = getattr(layer, "bias", None)
        if bias is None:
            bias = torch.zeros(())
        elif isinstance(layer, nn.BatchNorm1d | nn.InstanceNorm1d | nn.GroupNorm):
            bias = bias[:, None]
        close(y, bias.expand(SHAPE))
        assert not dx.any()
        assert same(before, statistics(layer))


@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_in_evaluation(kind: str) -> None:
    """The running statistics normalize; junk still comes out as 0, and spoils no gradient."""
    entry = next(each for each in MASKED if each.name == kind)
    layer = entry.built()
    layer(random(*SHAPE, seed=5), mask=entry.mask)
    layer.eval()
    x, dy = random(*SHAPE), random(*SHAPE, seed=1)
    x[~entry.real] = torch.nan
    running = {"running_mean": layer.running_mean.numpy(), "running_var": layer.running_var.numpy(), "training": False}
    weights = [each.detach().numpy() for each in layer.parameters()]
    mask = entry.mask.numpy()
    expected = [
        reference.batch_norm(x.numpy(), *weights, mask=mask, **running),
        *reference.batch_norm_vjp(dy.numpy(), x.numpy(), *weights, mask=mask, **running),
    ]
    before = statistics(layer)
    for mine, theirs in zip(passed(layer, x, dy, mask=entry.mask), expected, strict=True):
        close(mine, theirs)
    assert same(before, statistics(layer))


def test_the_running_statistics_normalize_and_take_what_is_real() -> None:
    layer = layers.BatchNorm1d(3, momentum=1.0, normalize_with="running").double()
    x, real = random(4, 3, 5), POSITIONS
    layer(x, real)
    values = x.movedim(1, 2)[real]
    close(layer.running_mean, values.mean(0))
    close(layer.running_var, values.var(0))
    before = statistics(layer)
    layer(x, torch.zeros_like(real))
    assert same(before, statistics(layer))


@every
def test_under_vmap_and_grad(entry: Masked) -> None:
    """Of models side by side: each batch has its own mask."""
    layer = entry.built()
    xs, dys = random(3, *SHAPE), random(3, *SHAPE, seed=1)
    masks = torch.stack([entry.mask, entry.mask.flip(0), entry.mask.flip(-1)])

    def weighed(x: torch.Tensor, dy: torch.Tensor, mask: torch.Tensor) -> Any:
        y, new = functional_call(layer, {}, (x,), {"mask": mask})
        return (y * dy).sum(), (y, new)

    dxs, (ys, news) = torch.func.vmap(torch.func.grad(weighed, has_aux=True))(xs, dys, masks)
    for number in range(3):
        twin = entry.built()
        y, dx, *_ = passed(twin, xs[number], dys[number], mask=masks[number])
        close(ys[number], y)
        close(dxs[number], dx)
        for name, value in news.items():
            close(value[number], statistics(twin)[name])


WRONG = {
    "batch": (layers.BatchNorm1d(6), "batch_norm", "(4, 5), the shape of `x` without its channels."),
    "instance": (layers.InstanceNorm1d(6), "group_norm", "(4, 5), the shape of `x` without its channels."),
    "group": (layers.GroupNorm(2, 6), "group_norm", "(4, 5), the shape of `x` without its channels."),
    "layer": (layers.LayerNorm(5), "layer_norm", "(4, 6, 5), the shape of `x`."),
    "rms": (layers.RMSNorm(5), "rms_norm", "(4, 6, 5), the shape of `x`."),
    "ghost": (layers.GhostBatchNorm1d(6, 2), "GhostBatchNorm1d", "(4, 5), the shape of `x` without its channels."),
    "evaluation": (layers.BatchNorm1d(6).eval(), "batch_norm", "(4, 5), the shape of `x` without its channels."),
}


@pytest.mark.parametrize("name", WRONG)
def test_masks_that_are_refused(name: str) -> None:
    layer, where, rest = WRONG[name]
    with pytest.raises(InvalidInputError) as raised:
        layer(torch.zeros(SHAPE), mask=torch.ones(3, 5))
    assert str(raised.value) == (
        f"{where}: `mask` must be boolean.\n"
        "  got: mask (3, 5) float32 cpu\n"
        "  fix: pass mask.bool(), True where a value is real.\n"
        f"{where}: `mask` must be broadcastable to {rest}\n"
        "  got: mask (3, 5) float32 cpu; x (4, 6, 5) float32 cpu"
    )


def test_instance_norm_of_one_sample() -> None:
    layer = learned(layers.InstanceNorm1d(6, affine=True).double())
    x = random(6, 5)
    close(layer(x, POSITIONS[1]), layer(x[None], POSITIONS[1:2])[0])
    assert layer(x).shape == (6, 5)


def test_what_is_no_tensor_and_what_is_by_sample_is_told_apart() -> None:
    layer = layers.BatchNorm2d(3)
    x = torch.randn(4, 3, 2, 2)
    with pytest.raises(InvalidInputError) as raised:
        layer(x, mask=[True])
    assert str(raised.value) == (
        "batch_norm: `mask` must be a tensor.\n  got: list\n  fix: pass torch.as_tensor(mask)."
    )
    with pytest.raises(InvalidInputError) as raised:
        layer(x, mask=torch.ones(4, dtype=torch.bool))
    assert str(raised.value) == (
        "batch_norm: `mask` must be broadcastable to (4, 2, 2), the shape of `x` without its channels.\n"
        "  got: mask (4) bool cpu; x (4, 3, 2, 2) float32 cpu\n"
        "  fix: for one entry a sample, pass mask[:, None, None]."
    ).replace("(4) bool", "(4,) bool")


def test_exported_with_a_mask_no_op_of_ours_is_left() -> None:
    layer = layers.LayerNorm(6)
    x, mask = torch.randn(3, 6), torch.rand(3, 6) > 0.3
    exported = torch.export.export(layer, (x, mask))
    assert "normlab" not in str(exported.graph)
    torch.testing.assert_close(exported.module()(x, mask), layer(x, mask))
