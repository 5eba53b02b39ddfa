"""Each node of the graph, with its gradient found by differences from that node on."""

import numpy as np
import pytest
from tests.tolerances import GRADIENT

from normlab.reference import (
    Steps,
    batch_norm_steps,
    group_norm_steps,
    instance_norm_steps,
    layer_norm_steps,
    numeric_gradient,
    relative_error,
    rms_norm_steps,
)
from normlab.reference.view import fold, fold_weight

EPS = 1e-5
CENTRED = ["mean", "centered", "squared", "var", "std", "rstd", "x_hat", "scaled", "y"]
RNG = np.random.default_rng(3)
X, DY = RNG.standard_normal((2, 3, 4, 2))
WEIGHT, BIAS = RNG.standard_normal((2, 4))
FULL_WEIGHT, FULL_BIAS = RNG.standard_normal((2, 4, 2))
MASK = np.array([[1, 1], [0, 1], [1, 0]], dtype=bool)
ELEMENTS = RNG.random((3, 4, 2)) < 0.6


def test_names() -> None:
    for record in (
        batch_norm_steps(X, WEIGHT, BIAS, DY),
        layer_norm_steps(X, (4, 2), FULL_WEIGHT, FULL_BIAS, DY),
        group_norm_steps(X, 2, WEIGHT, BIAS, DY),
        instance_norm_steps(X, WEIGHT, BIAS, DY),
    ):
        assert [step.name for step in record.steps] == CENTRED
    names = [step.name for step in rms_norm_steps(X, (4, 2), FULL_WEIGHT, DY).steps]
    assert names == ["squared", "mean_square", "rms", "rrms", "x_hat", "scaled", "y"]


def test_values_have_the_shape_of_the_sets_or_of_x() -> None:
    shapes = {
        step.name: (step.value.shape, step.gradient.shape) for step in group_norm_steps(X, 2, None, None, DY).steps
    }
    assert shapes["mean"] == shapes["rstd"] == ((3, 2), (3, 2))
    assert shapes["centered"] == shapes["y"] == (X.shape, X.shape)


def onward(record: Steps, weight, bias, mask):
    """For each node, y as a function of its value, all nodes before it held still: the forward pass, written again."""
    view = record.view
    value = {step.name: step.value for step in record.steps}
    kept = [1 if axis in view.axes else size for axis, size in enumerate(view.shape)]
    x = fold(view, X)
    real = np.broadcast_to(mask, view.shape)
    n = real.sum(axis=view.axes, keepdims=True)

    def element(a):
        return fold(view, a)

    def per_set(a):
        return a.reshape(kept)

    def y(scaled):
        return scaled if bias is None else scaled + fold_weight(view, bias)

    def scaled(x_hat):
        return y(x_hat * fold_weight(view, weight))

    def var(centered, var):
        return scaled(centered * (var + EPS) ** -0.5)

    def squared(centered, squared):
        return var(centered, np.sum(real * squared, axis=view.axes, keepdims=True) / n)

    c = element(value["centered"]) if "centered" in value else x
    return {
        "mean": lambda v: squared(x - per_set(v), (x - per_set(v)) ** 2),
        "centered": lambda v: squared(element(v), element(v) ** 2),
        "squared": lambda v: squared(c, element(v)),
        "var": lambda v: var(c, per_set(v)),
        "mean_square": lambda v: var(c, per_set(v)),
        "std": lambda v: scaled(c / per_set(v)),
        "rms": lambda v: scaled(c / per_set(v)),
        "rstd": lambda v: scaled(c * per_set(v)),
        "rrms": lambda v: scaled(c * per_set(v)),
        "x_hat": lambda v: scaled(element(v)),
        "scaled": lambda v: y(element(v)),
        "y": lambda v: element(v),
    }


@pytest.mark.parametrize(
    ("record", "weight", "bias", "mask"),
    [
        (batch_norm_steps(X, WEIGHT, BIAS, DY), WEIGHT, BIAS, True),
        (batch_norm_steps(X, WEIGHT, BIAS, DY, mask=MASK), WEIGHT, BIAS, MASK[:, None, None, :]),
        (layer_norm_steps(X, (4, 2), FULL_WEIGHT, FULL_BIAS, DY), FULL_WEIGHT, FULL_BIAS, True),
        (group_norm_steps(X, 2, WEIGHT, BIAS, DY), WEIGHT, BIAS, True),
        (rms_norm_steps(X, (4, 2), FULL_WEIGHT, DY, eps=EPS), FULL_WEIGHT, None, True),
        (
            layer_norm_steps(X, (4, 2), FULL_WEIGHT, FULL_BIAS, DY, mask=ELEMENTS),
            FULL_WEIGHT,
            FULL_BIAS,
            ELEMENTS.reshape(3, 1, 4, 2),
        ),
        (group_norm_steps(X, 1, WEIGHT, BIAS, DY, mask=MASK), WEIGHT, BIAS, MASK[:, None, None, :]),
        (
            rms_norm_steps(X, (4, 2), FULL_WEIGHT, DY, eps=EPS, mask=ELEMENTS),
            FULL_WEIGHT,
            None,
            ELEMENTS.reshape(3, 1, 4, 2),
        ),
    ],
    ids=[
        "batch",
        "batch, masked",
        "layer",
        "group",
        "rms",
        "layer, masked",
        "group, masked",
        "rms, masked",
    ],
)
def test_the_gradient_of_each_node_agrees_with_differences(record: Steps, weight, bias, mask) -> None:
    functions = onward(record, weight, bias, mask)
    dy = fold(record.view, DY)
    for step in record.steps:
        f = functions[step.name]
        (numeric,) = numeric_gradient(f, dy, step.value)
        assert relative_error(step.gradient, numeric).max() <= GRADIENT, step.name


def test_in_evaluation_mean_and_variance_are_constants() -> None:
    mean, var = np.zeros(4), np.ones(4)
    record = batch_norm_steps(X, None, None, DY, running_mean=mean, running_var=var, training=False)
    assert [(s.name, s.equation, s.gradient_equation) for s in record.steps] == [
        ("mean", "mean = running_mean, a constant", "a constant: no gradient flows"),
        ("centered", "centered = x − mean", "dcentered = rstd · dx_hat"),
        ("var", "var = running_var, a constant", "a constant: no gradient flows"),
        ("std", "std = √(var + eps)", "a constant: no gradient flows"),
        ("rstd", "rstd = 1 / std", "a constant: no gradient flows"),
        ("x_hat", "x_hat = centered · rstd", "dx_hat = dscaled"),
        ("scaled", "scaled = x_hat", "dscaled = dy"),
        ("y", "y = scaled", "dy is given"),
    ]
    assert [s.name for s in record.steps if s.gradient is None] == ["mean", "var", "std", "rstd"]
    assert record.dx_equation == "dx = dcentered"


def test_equations_in_training() -> None:
    record = batch_norm_steps(X, WEIGHT, BIAS, DY, mask=MASK)
    assert [(s.equation, s.gradient_equation) for s in record.steps] == [
        ("mean = Σ mask · x / n", "dmean = −Σ dcentered"),
        ("centered = x − mean", "dcentered = rstd · dx_hat + 2 · centered · dsquared"),
        ("squared = centered²", "dsquared = mask · dvar / n"),
        ("var = Σ mask · squared / n", "dvar = dstd / (2 · std)"),
        ("std = √(var + eps)", "dstd = −drstd / std²"),
        ("rstd = 1 / std", "drstd = Σ centered · dx_hat"),
        ("x_hat = centered · rstd", "dx_hat = weight · dscaled"),
        ("scaled = weight · x_hat", "dscaled = dy"),
        ("y = scaled + bias", "dy is given"),
    ]
    assert record.dx_equation == "dx = dcentered + mask · dmean / n"
