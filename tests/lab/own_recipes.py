"""Recipes with networks, data, losses and metrics as users write them, right and wrong."""

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.lab.own_code import write as write

from normlab.errors import UsageError
from normlab.lab import RECIPES, Recipe, with_words
from normlab.lab.prepare import prepare
from normlab.lab.recipes.own import own_recipe, with_own_network

Write = Callable[..., Path]

CODE = """
    import random
    import numpy as np
    import torch
    from torch import nn

    CALLS = []

    def mlp():
        CALLS.append("mlp")
        return nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.Dropout(0.1), nn.Linear(8, 3))

    def bare():
        return nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Linear(8, 3))

    def local():
        return nn.Sequential(nn.Unflatten(1, (1, 2)), nn.LocalResponseNorm(2), nn.Flatten(), nn.Linear(2, 3))

    def mixed():
        return nn.Sequential(nn.Unflatten(1, (1, 2)), nn.Conv1d(1, 30, 1), nn.BatchNorm1d(30), nn.Flatten(),
                             nn.Linear(60, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))

    def grouped():
        return nn.Sequential(nn.Linear(2, 30), nn.GroupNorm(3, 30), nn.Linear(30, 3))

    def other():
        model = mlp()
        nn.init.constant_(model[0].weight, np.random.default_rng().normal())
        return model

    def frozen():
        return mlp().requires_grad_(False)

    def of(*makers):
        return lambda: nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), *(make() for make in makers))

    class Then(nn.Module):
        def __init__(self, then):
            super().__init__()
            self.then = then

        def forward(self, x):
            return self.then(x)

    two = of(lambda: nn.Linear(8, 2))
    column = of(lambda: nn.Linear(8, 1))
    flat = of(lambda: nn.Linear(8, 1), lambda: nn.Flatten(0))
    pair = of(lambda: Then(lambda x: (x, x)))
    mean = of(lambda: Then(lambda x: x.mean()))
    first = of(lambda: Then(lambda x: x[:1]))
    whole = of(lambda: Then(lambda x: x.argmax(1)))
    last = of(lambda: nn.Linear(8, 15), lambda: nn.Unflatten(1, (5, 3)))
    fails = of(lambda: Then(lambda x: x.view(3)))
    trained = of(lambda: Then(lambda x: x if x.requires_grad else x.nothing))

    X = np.random.default_rng(0).normal(size=(20, 2)).astype("f4")

    def data(y, x=X):
        return x[:12], y[:12], x[12:], y[12:]

    def labels():
        return data(np.arange(20) % 3)

    def integers():
        return data(np.arange(20) % 3, np.ones((20, 2), dtype="u1"))

    def from_one():
        return data(np.arange(20) % 3 + 1)

    def negative():
        return data(np.arange(20) % 3 - 1)

    def columns():
        return data(np.arange(20)[:, None] % 3)

    def places():
        return data(np.arange(100).reshape(20, 5) % 3)

    def values():
        return data(X[:, 0])

    def others():
        return data(np.random.default_rng().normal(size=20))

    def squared(output, y):
        return (output[:, 0] - y).square().mean()

    def item(output, y):
        return squared(output, y).item()

    def each(output, y):
        return (output[:, 0] - y).square()

    def hard(output, y):
        return (output.argmax(1) - y).square().float().mean().requires_grad_()

    def raises(output, y):
        return output @ y

    def tensor(output, y):
        return output.mean()

    def scalar(output, y):
        return np.float64(output.numpy().mean())

    def many(output, y):
        return output.mean(0)

    def words(output, y):
        return {"f1": 1.0}
"""


@pytest.fixture
def own(write: Write) -> Callable[..., Recipe]:
    """A recipe with a network and data of theirs, as they would write it; PATH stands for their file."""

    def make(*words: str, model: str = "mlp", data: str = "labels", recipe: str = "") -> Recipe:
        path = write(CODE)
        name = f"{path}:{model}"
        base = with_own_network(RECIPES[recipe], name) if recipe else own_recipe(name)
        small = ["train_samples=0", "seeds=1", "epochs=1", f"data={path}:{data}"]
        return with_words(base, [*small, *(word.replace("PATH", str(path)) for word in words)])

    return make


def refusal(recipe: Recipe) -> str:
    """What is said, without the folder of the test."""
    with pytest.raises(UsageError) as caught:
        prepare(recipe)
    folder = str(Path(recipe.base.data.rpartition(":")[0]).parent)
    return str(caught.value).replace(f"{folder}/", "")
