"""What normalizes and what is committed, chosen apart; and what is refused."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.layers.oracle import close, random
from torch import nn

from normlab import layers
from normlab.errors import InvalidInputError

# mean 3, biased variance 3.5, unbiased 14/3; by the batch, and by running statistics of 2 and 3.5
VALUES, BY_BATCH, BY_RUNNING = [1.0, 2.0, 3.0, 6.0], [-1.0, -0.5, 0.0, 1.5], [-0.5, 0.0, 0.5, 2.0]
KINDS = {
    "batch": (lambda **options: layers.BatchNorm1d(1, eps=0.5, momentum=0.5, **options).double(), (4, 1)),
    "instance": (
        lambda **options: layers.InstanceNorm1d(
            1, eps=0.5, momentum=0.5, affine=True, track_running_stats=True, **options
        ).double(),
        (1, 1, 4),
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_combination(kind: str) -> None:
    build, shape = KINDS[kind]
    x, dy = torch.tensor(VALUES, dtype=torch.float64).view(shape), random(*shape)
    for normalize, when, training in itertools.product(
        ("mode", "batch", "running"), ("mode", "always", "never"), (0, 1)
    ):
        layer = build(normalize_with=normalize, commit_when=when).train(bool(training))
        layer.running_mean.fill_(2.0)
        layer.running_var.fill_(3.5)
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(dy)
        by_batch = training if normalize == "mode" else normalize == "batch"
        commits = training if when == "mode" else when == "always"
        close(y, torch.tensor(BY_BATCH if by_batch else BY_RUNNING).view(shape))
        x_hat, g = torch.tensor(BY_BATCH, dtype=torch.float64).view(shape), dy
        close(leaf.grad, (g - g.mean() - x_hat * (g * x_hat).mean()) / 2 if by_batch else g / 2)
        close(layer.weight.grad, (dy * y.detach()).sum()[None])
        close(layer.running_mean, [2.5 if commits else 2.0])
        close(layer.running_var, [(3.5 + 14 / 3) / 2 if commits else 3.5])
        assert int(layer.num_batches_tracked) == (commits and kind == "batch")


def test_without_running_statistics_the_batch_normalizes() -> None:
    layer = layers.BatchNorm1d(1, eps=0.5, affine=False, track_running_stats=False).eval()
    close(layer(torch.tensor(VALUES)[:, None]).flatten(), BY_BATCH)


def test_a_commit_before_backward_does_not_disturb_it() -> None:
    """In evaluation the running statistics are needed by backward; PyTorch takes those that the commit has written."""
    layer = layers.BatchNorm1d(2).double()
    x, dy = random(5, 2), random(5, 2, seed=1)
    leaf = x.clone().requires_grad_()
    y = layer.eval()(leaf)
    rstd = (layer.running_var + layer.eps).rsqrt()
    layer.train()(random(5, 2, seed=2, mean=9.0))
    y.backward(dy)
    close(leaf.grad, dy * rstd)


def test_options_can_be_set_and_set_back() -> None:
    layer = layers.BatchNorm1d(3)
    plain = repr(layer)
    layer.set_options(normalize_with="running", rule="debiased", axis=-1)
    assert repr(layer) == plain[:-1] + ", normalize_with=running, rule=debiased, axis=-1)"
    layer.set_options(normalize_with="mode", rule="ema", axis=1)
    assert repr(layer) == plain
    assert layer.axis == 1


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda: layers.BatchNorm2d(3, normalise_with="batch", commit_when="allways", rule="mean"),
            "BatchNorm2d: `normalise_with` is not an option.\n"
            "  fix: did you mean `normalize_with`?\n"
            "BatchNorm2d: `commit_when` must be one of mode, always, never.\n"
            "  got: 'allways'\n"
            "  fix: did you mean `always`?\n"
            "BatchNorm2d: `rule` must be one of ema, debiased, cumulative.\n"
            "  got: 'mean'\n"
            "  fix: choose one of: ema, debiased, cumulative.",
        ),
        (
            lambda: layers.InstanceNorm1d(3, axis=-1),
            "InstanceNorm1d: `axis` is not an option.\n"
            "  fix: choose one of: normalize_with, commit_when, rule.",
        ),
        (
            lambda: layers.BatchNorm1d(3, axis="last"),
            "BatchNorm1d: `axis` must be a whole number.\n  got: 'last'",
        ),
        (
            lambda: layers.BatchNorm1d(
                3, track_running_stats=False, normalize_with="running", commit_when="always"
            ),
            "BatchNorm1d: `normalize_with` cannot be running where there are no running statistics.\n"
            "  fix: build the layer with track_running_stats=True.\n"
            "BatchNorm1d: `commit_when` cannot be always where there are no running statistics.\n"
            "  fix: build the layer with track_running_stats=True.",
        ),
    ],
)  # fmt: skip
def test_options_that_are_refused(build: Callable[[], Any], text: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        build()
    assert str(raised.value) == text


@pytest.mark.parametrize(
    ("layer", "x", "text"),
    [
        (
            layers.BatchNorm1d(3),
            torch.zeros(1, 3),
            "BatchNorm1d: Expected more than 1 value per channel when training.\n"
            "  got: input (1, 3) float32 cpu\n"
            "  fix: pass more samples (`drop_last=True` for the last of a loader), or `eval()` if this is evaluation.",
        ),
        (
            layers.BatchNorm2d(3),
            torch.zeros(2, 4, 5, 5),
            "BatchNorm2d: `input` must have 3 channels in dimension 1.\n"
            "  got: input (2, 4, 5, 5) float32 cpu\n"
            "  fix: build the layer as BatchNorm2d(4).",
        ),
        (
            layers.BatchNorm1d(3, eps=0.0),
            torch.zeros(2, 3),
            "BatchNorm1d: eps must be positive in training, where a channel may have no spread.\n"
            "  got: eps = 0.0\n"
            "  fix: PyTorch's is 1e-5.",
        ),
        (
            layers.InstanceNorm2d(3),
            torch.zeros(2, 3, 1, 1),
            "InstanceNorm2d: Expected more than 1 spatial element when training.\n"
            "  got: input (2, 3, 1, 1) float32 cpu\n"
            "  fix: use layer or group norm where the maps are of one position.",
        ),
    ],
    ids=["one value", "channels", "eps", "one position"],
)
def test_inputs_that_are_refused(layer: nn.Module, x: torch.Tensor, text: str) -> None:
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    with pytest.raises(InvalidInputError) as raised:
        layer(x)
    assert str(raised.value) == text
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
