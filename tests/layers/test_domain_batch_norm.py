"""Running statistics for each domain."""

import copy
import pickle
from typing import Any

import pytest
import torch
from tests.layers.oracle import close, random, same, statistics
from torch import nn

from normlab import layers
from normlab.errors import InvalidInputError
from normlab.layers import accumulate, domain, stats_frozen

DOMAINS = ["real", "fake", "noise"]


def of(layer: nn.Module, name: str) -> dict[str, torch.Tensor]:
    """The statistics of one domain, by the names of PyTorch."""
    suffix = "" if name == DOMAINS[0] else f"_{name}"
    return {each: getattr(layer, each + suffix) for each in ("running_mean", "running_var", "num_batches_tracked")}


@pytest.mark.parametrize("rule", ["ema", "debiased", "cumulative"])
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
def test_as_a_layer_for_each(rule: str, masked: bool) -> None:
    """That share their weights: statistics, outputs in training and evaluation, gradients."""
    layer = layers.DomainBatchNorm1d(3, DOMAINS, rule=rule).double()
    alone = {name: layers.BatchNorm1d(3, rule=rule).double() for name in DOMAINS}
    for each in alone.values():
        each.weight, each.bias = layer.weight, layer.bias
    mask = random(4, 5, seed=8) > 0 if masked else None
    model = nn.Sequential(layer)
    for step, name in enumerate(["fake", "real", "fake", "fake", "noise"]):
        x = random(4, 3, 5, seed=step, mean=float(step))
        with domain(model, name):
            y = layer(x, mask)
        close(y, alone[name](x, mask))
    for name, each in alone.items():
        for statistic, value in of(layer, name).items():
            close(value, getattr(each, statistic))
        with domain(model, name):
            close(layer.eval()(x), each.eval()(x))
    assert layer.domain == "real"


def test_it_is_batch_norm_in_its_first_domain() -> None:
    layer, stock = layers.DomainBatchNorm2d(3, DOMAINS).double(), nn.BatchNorm2d(3).double()
    x = random(2, 3, 4, 4)
    close(layer(x), stock(x))
    close(layer.running_var, stock.running_var)
    assert layer.running_var_fake.tolist() == [1.0] * 3


@pytest.mark.parametrize("inside", [False, True], ids=["alone", "in a model"])
@pytest.mark.parametrize("old", [False, True], ids=["state", "state without a counter"])
def test_a_state_of_batch_norm_is_that_of_each_domain(inside: bool, old: bool) -> None:
    stock, layer = nn.BatchNorm1d(3), layers.DomainBatchNorm1d(3, DOMAINS)
    stock(random(4, 3, dtype=torch.float32, mean=5.0))
    state: Any = dict(nn.Sequential(stock).state_dict() if inside else stock.state_dict())
    if old:  # as torch 0.4 saved it
        state = {name: value for name, value in state.items() if "num" not in name}
        stock.num_batches_tracked.zero_()
    (nn.Sequential(layer) if inside else layer).load_state_dict(state)
    for name in DOMAINS:
        assert same(statistics(stock), of(layer, name))
    assert len({each.data_ptr() for each in (layer.running_mean, layer.running_mean_fake)}) == 2


def test_its_own_state_is_loaded_as_it_is() -> None:
    layer, other = (layers.DomainBatchNorm1d(3, DOMAINS) for _ in range(2))
    with domain(layer, "noise"):
        layer(random(4, 3, dtype=torch.float32))
    other.load_state_dict(layer.state_dict())
    assert same(statistics(layer), statistics(other))
    layer.reset_running_stats()
    assert same(statistics(layer), statistics(layers.DomainBatchNorm1d(3, DOMAINS)))


def test_scopes() -> None:
    """Nested, with an error, frozen, pooled; and for good."""
    layer = layers.DomainBatchNorm1d(3, DOMAINS)
    x = random(4, 3, dtype=torch.float32)

    def fail() -> None:
        with domain(layer, "fake"):
            with domain(layer, "noise"):
                assert layer.domain == "noise"
            assert layer.domain == "fake"
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert (layer.domain, layer.suffix) == ("real", "")
    before = statistics(layer)
    with stats_frozen(layer), domain(layer, "fake"):
        layer(x)
    assert same(before, statistics(layer))
    with domain(layer, "fake"), accumulate(layer, 2):
        layer(x[:2])
        layer(x[2:])
    layer.choose("noise")
    layer(x)
    torch.testing.assert_close(layer.running_mean_fake, layer.running_mean_noise)
    assert int(layer.num_batches_tracked_fake) == int(layer.num_batches_tracked_noise) == 1
    assert int(layer.num_batches_tracked) == 0


def test_copies() -> None:
    layer = layers.DomainBatchNorm1d(3, DOMAINS)
    layer.choose("noise")
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):  # noqa: S301  # our own bytes
        other(random(4, 3, dtype=torch.float32))
        assert int(other.num_batches_tracked_noise) == 1
    assert repr(layer) == (
        "DomainBatchNorm1d(3, eps=1e-05, momentum=0.1, affine=True, bias=True, track_running_stats=True, "
        "domains=('real', 'fake', 'noise'))"
    )


def test_half_leaves_the_statistics_of_every_domain_in_float32() -> None:
    layer = layers.DomainBatchNorm1d(3, DOMAINS).half()
    assert layer.weight.dtype == torch.float16
    assert {each.dtype for each in layer.buffers()} == {torch.float32, torch.int64}


def test_without_running_statistics() -> None:
    layer = layers.DomainBatchNorm1d(3, DOMAINS, track_running_stats=False)
    with domain(layer, "fake"):
        layer(random(4, 3, dtype=torch.float32))
    assert list(layer.buffers()) == []


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: layers.DomainBatchNorm1d(3, []), "`domains` must be different names, at least one.\n  got: []"),
        (
            lambda: layers.DomainBatchNorm1d(3, ["a", "a"]),
            "`domains` must be different names, at least one.\n  got: ['a', 'a']",
        ),
        (lambda: layers.DomainBatchNorm1d(3, "ab"), "`domains` must be different names, at least one.\n  got: 'ab'"),
        (
            lambda: layers.DomainBatchNorm1d(3, ["a", "b.c"]),
            "`domains` must be names as variables have them.\n  got: ['a', 'b.c']",
        ),
        (
            lambda: layers.DomainBatchNorm1d(3, DOMAINS).choose("fakes"),
            "`domain` must be one of the layer's.\n  got: 'fakes'\n  fix: did you mean `fake`?",
        ),
    ],
)
def test_what_is_refused(call: object, text: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        call()
    assert str(raised.value) == f"DomainBatchNorm1d: {text}"


def test_a_domain_that_only_some_have() -> None:
    model = nn.Sequential(layers.DomainBatchNorm1d(3, ["a", "b"]), layers.DomainBatchNorm1d(3, ["a"]))
    with pytest.raises(InvalidInputError), domain(model, "b"):
        pass
    assert [each.domain for each in model] == ["a", "a"]
