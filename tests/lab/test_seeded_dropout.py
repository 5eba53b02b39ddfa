"""Dropout whose masks are those of the reference."""

import itertools
from typing import Any

import numpy as np
import torch
from tests.lab.networks import CLOSE, built, tiny
from torch import nn
from torch.nn import functional

from normlab.lab.config import Model, RunConfig
from normlab.lab.data import digits
from normlab.lab.models import build_model
from normlab.lab.models.seeded_dropout import SeededDropout
from normlab.lab.preserve import preserved
from normlab.lab.streams import stream_seed
from normlab.reference import FullyConnected, dropout_seed, loss_and_gradients


def dropped(kind: str = "mlp", **settings: Any) -> nn.Module:
    return built(tiny(kind, model={"dropout": 0.25}, **settings))


def masks(model: nn.Module, steps: int, shape: tuple[int, ...] = (5, 7)) -> list[torch.Tensor]:
    """Of every dropout layer in turn, in so many steps."""
    found = [module for module in model.modules() if isinstance(module, SeededDropout)]
    assert found
    return [layer(torch.ones(shape)) for _ in range(steps) for layer in found]


def test_a_mask_is_that_of_the_reference() -> None:
    model = dropped(seed=3)
    seed = stream_seed(3, "dropout")
    found = masks(model, 2)
    order = [(step, f"layer{layer}.dropout") for step in (0, 1) for layer in (1, 2)]
    for mask, (step, name) in zip(found, order, strict=True):
        kept = np.random.default_rng(dropout_seed(seed, step, name)).random((5, 7)) >= 0.25
        assert np.array_equal(mask.numpy(), np.where(kept, np.float32(1 / 0.75), np.float32(0)))
    assert not any(torch.equal(*pair) for pair in itertools.combinations(found, 2))


def test_a_step_with_dropout_is_that_of_the_reference() -> None:
    data = digits(0)
    config = RunConfig(
        model=Model(depth=2, width=8, activation="relu", dropout=0.5), norm="batch", seed=3, dtype="float64"
    )
    model = build_model(config, data)
    state = model.state_dict()
    net = FullyConnected(64, (8, 8), 10, norm="batch", dropout=0.5)
    parameters = {name: state[name].numpy().copy() for name in net.parameter_shapes}
    running = {name: state[name].numpy().copy() for name in net.running_shapes}
    x, labels = data.x_train[:20].astype(np.float64), data.y_train[:20]
    for step in (0, 1):
        loss, gradients, running = loss_and_gradients(
            net, parameters, x.reshape(20, 64), labels, running=running, seed=stream_seed(3, "dropout"), step=step
        )
        model.zero_grad()
        found = functional.cross_entropy(model(torch.from_numpy(x)), torch.from_numpy(labels))
        found.backward()
        assert abs(found.item() - loss) < CLOSE
        for name, parameter in model.named_parameters():
            assert np.abs(parameter.grad.numpy() - gradients[name]).max() < CLOSE, name


def test_equal_seeds_drop_equal_values_whatever_the_norm() -> None:
    first = masks(dropped(seed=3), 3)
    torch.manual_seed(5)  # of no effect
    assert all(torch.equal(*pair) for pair in zip(first, masks(dropped(norm="batch", seed=3), 3), strict=True))
    assert not any(torch.equal(*pair) for pair in zip(first, masks(dropped(seed=4), 3), strict=True))


def test_dropout_draws_nothing_from_the_global_stream() -> None:
    model, before = dropped(), torch.get_rng_state()
    masks(model, 1)
    assert torch.equal(torch.get_rng_state(), before)


def test_in_evaluation_dropout_is_the_identity() -> None:
    layer = SeededDropout(0.25).eval()
    x = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(layer(x), x)
    assert int(layer.steps) == 0


def test_dropout_keeps_the_mean_and_the_gradient_goes_where_the_values_went() -> None:
    layer = SeededDropout(0.25)
    x = torch.randn(40_000, generator=torch.Generator().manual_seed(0)).requires_grad_()
    dy = torch.randn(40_000, generator=torch.Generator().manual_seed(1))
    mask = layer(torch.ones(40_000))
    assert mask.unique().tolist() == [0.0, float(np.float32(1 / 0.75))]
    # five standard errors of the mean of 40,000 values 0 or 4/3 with variance p / (1 − p)
    assert abs(mask.double().mean().item() - 1) < 5 * np.sqrt(0.25 / 0.75 / 40_000)
    layer.steps.zero_()
    layer(x).backward(dy)
    assert torch.equal(x.grad, dy * mask)


def test_a_look_at_the_model_does_not_use_up_masks() -> None:
    looked_at, other = dropped(), dropped()
    with preserved(looked_at):
        masks(looked_at, 2)
    assert all(torch.equal(*pair) for pair in zip(masks(looked_at, 2), masks(other, 2), strict=True))


def test_masks_go_on_where_saved_weights_left_off() -> None:
    first, second = dropped(), dropped()
    masks(first, 2)
    second.load_state_dict(first.state_dict())
    assert all(torch.equal(*pair) for pair in zip(masks(first, 1), masks(second, 1), strict=True))
