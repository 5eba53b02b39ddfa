"""Inside of `stats_frozen` no running statistics move, whoever wrote the layer."""

import copy
import pickle

import pytest
import torch
from tests.layers.layers_of_others import MAKERS, Own
from tests.layers.oracle import random, same, statistics
from torch import nn
from torch.utils.checkpoint import checkpoint

from normlab import layers
from normlab.errors import InvalidInputError
from normlab.layers import accumulate, stats_frozen
from normlab.tools.freeze import freeze_

X = random(4, 3, dtype=torch.float32, mean=2.0)
makers = pytest.mark.parametrize("name", MAKERS)


@makers
def test_nothing_moves_and_the_batch_normalizes(name: str) -> None:
    layer, twin = MAKERS[name](), MAKERS[name]()
    model = nn.Sequential(nn.Identity(), layer)
    before, its_class, its_names = statistics(layer), type(layer), set(vars(layer)) - {"taker"}
    with stats_frozen(model):
        for _ in range(2):
            assert torch.equal(model(X), MAKERS[name]()(X))
        assert list(layer.state_dict()) == list(twin.state_dict())
        if name not in ("own instance norm", "alien"):  # which are put back at the end
            assert same(twin.state_dict(), layer.state_dict())
    assert same(before, statistics(layer))
    assert type(layer) is its_class
    assert set(vars(layer)) - {"taker"} == its_names
    model(X)
    twin(X)
    assert same(statistics(twin), statistics(layer))
    assert not same(before, statistics(layer))


def test_of_instance_norm() -> None:
    x = random(2, 3, 5, dtype=torch.float32)
    for kind in (nn.InstanceNorm1d, layers.InstanceNorm1d):
        layer = kind(3, track_running_stats=True)
        before = statistics(layer)
        expected = kind(3, track_running_stats=True)(x)
        with stats_frozen(layer):
            assert torch.equal(layer(x), expected)
        assert same(before, statistics(layer))
        layer(x)
        assert not same(before, statistics(layer))


@makers
def test_the_mode_is_the_model_s_own_affair(name: str) -> None:
    layer = MAKERS[name]()
    layer(X)
    twin = MAKERS[name]()
    twin.load_state_dict(layer.state_dict())
    before, by_running = statistics(layer), twin.eval()(X)
    with stats_frozen(layer):
        layer.eval()
        if name not in ("own instance norm", "alien"):  # which ask for no mode
            assert torch.equal(layer(X), by_running)
        layer.train()
        layer(X)
    assert layer.training
    assert same(before, statistics(layer))


@makers
def test_an_error_leaves_nothing_behind(name: str) -> None:
    layer = MAKERS[name]()
    before, its_class = statistics(layer), type(layer)

    def fail() -> None:
        with stats_frozen(layer), stats_frozen(layer):
            layer(X)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert same(before, statistics(layer))
    assert type(layer) is its_class
    layer(X)
    assert not same(before, statistics(layer))


def test_nested() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3), layers.BatchNorm1d(3), Own(3))
    before = statistics(model)
    with stats_frozen(model):
        with stats_frozen(model):
            model(X)
        model(X)
        with accumulate(model, 2):  # what it pools goes to the scope around it
            model(X)
            model(X)
            model(X)
    assert same(before, statistics(model))


def test_no_grad_does_not_stop_them() -> None:
    """Which is what the scope is for."""
    for layer in (nn.BatchNorm1d(3), layers.BatchNorm1d(3)):
        with torch.no_grad():
            layer(X)
        assert int(layer.num_batches_tracked) == 1


@pytest.mark.parametrize("kind", [nn.BatchNorm1d, layers.BatchNorm1d])
def test_the_buffers_are_not_touched(kind: type[nn.Module]) -> None:
    """Not even to write the same: autograd would refuse a backward that needs them."""
    layer = kind(3)
    versions = [each._version for each in layer.buffers()]
    y = layer.eval()(X.clone().requires_grad_())
    with stats_frozen(layer):
        layer.train()(X)
    assert [each._version for each in layer.buffers()] == versions
    y.sum().backward()


def test_a_copy_made_inside_is_not_frozen() -> None:
    layer = layers.BatchNorm1d(3)
    with stats_frozen(layer):
        copies = copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))  # noqa: S301  # our own bytes
    for each in copies:
        each(X)
        assert int(each.num_batches_tracked) == 1


@pytest.mark.parametrize("reentrant", [True, False])
def test_a_forward_repeated_after_the_scope_is_frozen_as_well(reentrant: bool) -> None:
    layer = nn.Sequential(layers.BatchNorm1d(3), nn.Linear(3, 3))
    before = statistics(layer)
    with stats_frozen(layer):
        y = checkpoint(layer, X.clone().requires_grad_(), use_reentrant=reentrant)
    y.sum().backward()
    assert same(before, statistics(layer))


def test_under_compile() -> None:
    layer = layers.BatchNorm1d(3)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    compiled(X)
    before = statistics(layer)
    with stats_frozen(compiled):
        torch.testing.assert_close(compiled(X), layers.BatchNorm1d(3)(X))
    assert same(before, statistics(layer))
    compiled(X)
    assert int(layer.num_batches_tracked) == 2


def test_tools_are_refused_inside() -> None:
    """They would be undone at the end of the block, when the layers are given back what they were."""
    model = nn.Sequential(nn.BatchNorm1d(3))
    with stats_frozen(model), pytest.raises(InvalidInputError) as raised:
        freeze_(model)
    assert str(raised.value) == (
        "normlab.tools: a tool cannot change a model inside of `stats_frozen`, `accumulate` or `functional_call`.\n"
        "  fix: call it before: at the end of such a block the layers are given back what they were."
    )
    assert type(model[0]) is nn.BatchNorm1d
    assert "for_a_while" not in vars(model[0])
    assert len(freeze_(model).touched) == 1
