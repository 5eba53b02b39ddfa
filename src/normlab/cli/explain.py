"""One small random array walked through a normalization, forward and backward, with three gradients to compare."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from normlab import errors, reference
from normlab.cli.explain_view import render as render
from normlab.cli.explanation import MOMENTUM, RUNNING_BATCHES, Agreement, Array, Explanation, Gradient, node, overall
from normlab.errors import Problem

# op → the smallest shape that shows how it works, when none is asked for
SHAPES: dict[str, tuple[int, ...]] = {
    "batch_norm": (4, 3),
    "layer_norm": (3, 4),
    "group_norm": (2, 4, 2),
    "instance_norm": (2, 2, 4),
    "rms_norm": (3, 4),
}
OPS = tuple(SHAPES)
MODES = ("train", "eval")
EPS = 1e-5
MOST_VALUES = 4096  # a numeric gradient evaluates the op four times for each value


def explanation(
    op: str, shape: tuple[int, ...] | None = None, seed: int = 0, mode: str = "train", groups: int | None = None
) -> Explanation:
    """Walks one op over random values of this shape.

    The inputs are rounded to two decimals, so that what is shown is exactly what was computed with.

    Args:
        op: Name of the op; hyphens are read as underscores.
        shape: Of the input, batch first and channels second; None for a small one that fits the op.
        seed: Of the input, the parameters and the gradient from above.
        mode: train or eval. In evaluation batch norm takes running statistics, made from batches of the same seed.
        groups: For group norm; None for the smallest number above 1 that divides the channels.

    Raises:
        UsageError: A name is unknown, or the shape does not fit the op.

    Example:
        >>> found = explanation("layer-norm", (2, 3), seed=0)
        >>> [step.name for step in found.walk.steps][:3]
        ['mean', 'centered', 'squared']
        >>> overall(found).closed_vs_numeric < 1e-7
        True
    """
    op = op.replace("-", "_")
    _refuse(_unknown(op, mode))
    shape = shape or SHAPES[op]
    _refuse(_misshapen(op, shape, seed, groups))
    if op == "group_norm":
        groups = groups or _smallest_groups(shape[1])
    view = _view(op, shape, groups)
    _refuse(_single_values(op, view))

    rng = np.random.default_rng(seed)
    of_parameters = shape[1:] if op in ("layer_norm", "rms_norm") else shape[1:2]
    x, dy = _drawn(rng, shape), _two_decimals(rng.standard_normal(shape))
    weight = _two_decimals(rng.uniform(0.5, 1.5, of_parameters))
    bias = _two_decimals(rng.standard_normal(of_parameters))
    parameters = (weight,) if op == "rms_norm" else (weight, bias)

    fixed: tuple[Any, ...] = {"layer_norm": (shape[1:],), "rms_norm": (shape[1:],), "group_norm": (groups,)}.get(op, ())
    settings: dict[str, Any] = {"eps": EPS}
    if op == "batch_norm" and mode == "eval":
        settings |= _running(rng, shape)

    def forward(x: Array, *parameters: Array) -> Array:
        y: Array = getattr(reference, op)(x, *fixed, *parameters, **settings)
        return y

    y = forward(x, *parameters)
    walk = getattr(reference, f"{op}_steps")(x, *fixed, *parameters, dy, **settings)
    closed = getattr(reference, f"{op}_vjp")(dy, x, *fixed, *parameters, **settings)
    step = _difference_step(walk)
    numeric = reference.numeric_gradient(forward, dy, x, *parameters, step=step)
    names = ("dx", "dweight", "dbias")[: len(closed)]
    stepwise = (walk.dx, walk.dweight, walk.dbias)
    gradients = {
        name: Gradient(*ways) for name, *ways in zip(names, closed, stepwise[: len(closed)], numeric, strict=True)
    }
    return Explanation(
        op=op,
        shape=shape,
        mode=mode,
        groups=groups,
        seed=seed,
        eps=EPS,
        x=x,
        dy=dy,
        weight=weight,
        bias=None if op == "rms_norm" else bias,
        y=y,
        walk=walk,
        gradients=gradients,
        agreement={name: _agreement(name, gradient) for name, gradient in gradients.items()},
        moments={"before": _moments(view, x), "after": _moments(view, node(walk, "x_hat"))},
    )


def to_json(explained: Explanation) -> dict[str, Any]:
    """Lists and numbers only; what an op does not have (the bias of RMS norm, the gradient of a constant) is null.

    Args:
        explained: What `explanation` returned.
    """
    record = {key: getattr(explained, key) for key in ("op", "shape", "mode", "groups", "seed", "eps")}
    record |= {key: getattr(explained, key) for key in ("x", "dy", "weight", "bias", "y")}
    record["steps"] = [vars(step) for step in explained.walk.steps]
    record |= {"dx": None, "dweight": None, "dbias": None}
    record |= {name: vars(gradient) for name, gradient in explained.gradients.items()}
    record["agreement"] = vars(overall(explained))
    record["moments"] = explained.moments
    plain: dict[str, Any] = _plain(record)
    return plain


def _plain(value: Any) -> Any:
    match value:
        case np.ndarray():
            return value.tolist()
        case dict():
            return {key: _plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_plain(inner) for inner in value]
        case _:
            return value


def _drawn(rng: np.random.Generator, shape: tuple[int, ...]) -> Array:
    """Values whose mean is not 0 and whose deviation is not 1, so that normalization has something to do."""
    return _two_decimals(1 + 2 * rng.standard_normal(shape))


def _two_decimals(values: Array) -> Array:
    return values.round(2) + 0.0  # −0 becomes 0


def _running(rng: np.random.Generator, shape: tuple[int, ...]) -> dict[str, Any]:
    mean, var = np.zeros(shape[1]), np.ones(shape[1])
    for _ in range(RUNNING_BATCHES):
        statistics = reference.batch_norm_statistics(_drawn(rng, shape))
        mean, var = reference.update_running(mean, var, *statistics, momentum=MOMENTUM)
    return {"running_mean": mean, "running_var": var, "training": False}


def _view(op: str, shape: tuple[int, ...], groups: int | None) -> reference.View:
    match op:
        case "batch_norm":
            return reference.batch_view(shape, axis=1)
        case "group_norm":
            return reference.group_view(shape, groups or 1)
        case "instance_norm":
            return reference.instance_view(shape)
        case _:
            return reference.layer_view(shape, len(shape) - 1, center=op == "layer_norm")


def _smallest_groups(channels: int) -> int:
    return next((groups for groups in range(2, channels + 1) if channels % groups == 0), 1)


def _difference_step(walk: reference.Steps) -> float:
    """A thousandth of the smallest deviation: the distance over which a norm bends."""
    std = node(walk, "std" if walk.view.center else "rms")
    return 1e-3 * min(1.0, float(std.min()))


def _agreement(name: str, gradient: Gradient) -> Agreement:
    closed_vs_numeric = reference.relative_error(gradient.closed, gradient.numeric)
    worst = np.unravel_index(np.argmax(closed_vs_numeric), closed_vs_numeric.shape)
    return Agreement(
        closed_vs_steps=float(reference.relative_error(gradient.closed, gradient.steps).max()),
        closed_vs_numeric=float(closed_vs_numeric.max()),
        steps_vs_numeric=float(reference.relative_error(gradient.steps, gradient.numeric).max()),
        where=f"{name}[{', '.join(str(i) for i in worst)}]",
    )


def _moments(view: reference.View, x: Array) -> dict[str, Array]:
    """Mean and standard deviation of each set; for RMS norm also what it divides by."""
    values = reference.by_set(view, x)
    found = {"mean": values.mean(axis=0), "std": values.std(axis=0)}
    if not view.center:
        found["rms"] = np.sqrt((values**2).mean(axis=0))
    return {name: value.reshape(view.set_shape) for name, value in found.items()}


def _refuse(problems: Iterator[Problem]) -> None:
    found = tuple(problems)
    if found:
        raise errors.UsageError(errors.message("explain", *found))


def _unknown(op: str, mode: str) -> Iterator[Problem]:
    if op not in OPS:
        yield Problem(f"there is no op `{op}`.", fix=errors.did_you_mean(op, OPS))
    if mode not in MODES:
        yield Problem(f"there is no mode `{mode}`.", fix=errors.did_you_mean(mode, MODES))


def _misshapen(op: str, shape: tuple[int, ...], seed: int, groups: int | None) -> Iterator[Problem]:
    got = f"shape {','.join(map(str, shape))}"
    if seed < 0:
        yield Problem("the seed must not be negative.", got=f"seed {seed}")
    if len(shape) < 2 or min(shape) < 1:
        fix = "for instance 4,3,2,2."
        yield Problem("the shape must have at least 2 dimensions, each at least 1: batch, channels.", got=got, fix=fix)
    elif math.prod(shape) > MOST_VALUES:
        rule = f"at most {MOST_VALUES} values, since the numeric gradient runs the op four times for each."
        yield Problem(rule, got=f"{got}, {math.prod(shape)} values", fix="for instance 4,3,2,2.")
    if groups is not None and op != "group_norm":
        yield Problem(f"{op} has no groups.", got=f"groups {groups}", fix="leave them out, or explain group_norm.")
    elif groups is not None and len(shape) > 1 and (groups < 1 or shape[1] % groups):
        yield Problem(f"the groups must divide the {shape[1]} channels.", got=f"groups {groups}; {got}")


def _single_values(op: str, view: reference.View) -> Iterator[Problem]:
    if view.set_size < 2:
        fix = "add samples, as in 4,3." if op == "batch_norm" else "add positions, as in 4,3,2,2."
        rule = "each mean and deviation needs more than one value."
        got = f"shape {','.join(map(str, view.x_shape))}, one value for each of the {math.prod(view.set_shape)} sets"
        yield Problem(rule, got=got, fix=fix)
