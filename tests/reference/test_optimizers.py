import numpy as np
import pytest
import torch
from tests.reference.torch_check import assert_near
from tests.reference.twins import OPTIMIZERS as TWINS
from tests.tolerances import TORCH

from normlab.reference import OPTIMIZERS

# Weights stay of unit size, each step adds a few roundings of them, and 50 steps stay far below TORCH.
STEPS = 50
CASES = [
    ("sgd", {"lr": 0.1}),
    ("momentum", {"lr": 0.05}),
    ("momentum", {"lr": 0.05, "momentum": 0.5}),
    ("rmsprop", {"lr": 0.01}),
    ("rmsprop", {"lr": 0.01, "alpha": 0.9, "eps": 1e-3}),
    ("adam", {"lr": 0.02}),
    ("adam", {"lr": 0.02, "beta1": 0.5, "beta2": 0.9, "eps": 1e-3}),
]


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("size", [1.0, 1e-8], ids=["unit", "as small as eps"])
def test_fifty_steps_are_those_of_torch(name: str, settings: dict, size: float) -> None:
    """The gradient depends on the parameter, so that an error is carried on."""
    rng = np.random.default_rng(0)
    parameter, targets = rng.standard_normal((3, 4)), rng.standard_normal((STEPS, 3, 4))
    leaf = torch.tensor(parameter, requires_grad=True)
    twin = TWINS[name]([leaf], **settings)
    state: dict = {}
    for target in targets:
        parameter, state = OPTIMIZERS[name](parameter, size * (parameter - target), state, **settings)
        leaf.grad = size * (leaf.detach() - torch.tensor(target))
        twin.step()
        assert_near(parameter, leaf.detach(), TORCH)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_nothing_that_was_given_is_changed(name: str) -> None:
    parameter, gradient = np.ones(3), np.full(3, 2.0)
    _, state = OPTIMIZERS[name](parameter, gradient, {}, lr=0.1)
    before = {key: np.copy(value) for key, value in state.items()}
    first = OPTIMIZERS[name](parameter, gradient, state, lr=0.1)
    second = OPTIMIZERS[name](parameter, gradient, state, lr=0.1)
    assert parameter.tolist() == [1, 1, 1]
    assert gradient.tolist() == [2, 2, 2]
    assert all(np.array_equal(state[key], before[key]) for key in before)
    assert first[0].tolist() == second[0].tolist() != parameter.tolist()
