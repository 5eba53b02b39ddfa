"""Networks, data, losses and metrics that do not fit one another, said before a run begins."""

from collections.abc import Callable

import pytest
from tests.lab.own_recipes import CODE, Write, refusal
from tests.lab.own_recipes import own as own
from tests.lab.own_recipes import write as write

from normlab.lab import RECIPES, Recipe, with_words
from normlab.lab.prepare import prepare

LABELS = "for labels the output must have the classes in its second dimension."


@pytest.mark.parametrize(
    ("model", "data", "words", "text"),
    [
        (
            "mlp", "others", (),
            "my.py:others: the data must be the same each time, as every run loads them.\n"
            "  got: other data at the second call\n  fix: seed what draws them: np.random.default_rng(0).",
        ),
        (
            "other", "labels", (),
            "my.py:other: the network must start from the same weights each time it is made under one seed.\n"
            "  got: other weights at the second call\n"
            "  fix: draw them from the generator of torch, which is seeded before the call.",
        ),
        ("frozen", "labels", (), "my.py:frozen: the network has no parameter that learns."),
        (
            "pair", "labels", (),
            "my.py:pair: the network must return one tensor.\n  got: tuple\n"
            "  fix: wrap it in a module whose forward returns the one to be judged.",
        ),
        (
            "mean", "labels", (),
            "my.py:mean: the output must be floats, one entry a sample.\n  got: output () float32 cpu; "
            "x (12, 2) float32 cpu",
        ),
        (
            "first", "labels", (),
            "my.py:first: the output must be floats, one entry a sample.\n  got: output (1, 8) float32 cpu; "
            "x (12, 2) float32 cpu",
        ),
        (
            "whole", "labels", (),
            "my.py:whole: the output must be floats, one entry a sample.\n  got: output (12,) int64 cpu; "
            "x (12, 2) float32 cpu",
        ),
        (
            "two", "labels", (),
            "my.py:two: labels must lie in 0 to 1, as the network has 2 outputs.\n  got: labels from 0 to 2\n"
            "  fix: count them from 0, or give the network an output for each; others need --loss and --metric.",
        ),
        (
            "mlp", "from_one", (),
            "my.py:mlp: labels must lie in 0 to 2, as the network has 3 outputs.\n  got: labels from 1 to 3\n"
            "  fix: count them from 0, or give the network an output for each; others need --loss and --metric.",
        ),
        (
            "mlp", "negative", (),
            "my.py:mlp: labels must lie in 0 to 2, as the network has 3 outputs.\n  got: labels from -1 to 1\n"
            "  fix: count them from 0, or give the network an output for each; others need --loss and --metric.",
        ),
        (
            "mlp", "columns", (),
            f"my.py:mlp: {LABELS}\n  got: output (12, 3) float32 cpu; y (12, 1) int64 cpu\n"
            "  fix: return labels (N,): y[:, 0].",
        ),
        (
            "column", "labels", (),
            f"my.py:column: {LABELS}\n  got: output (12, 1) float32 cpu; y (12,) int64 cpu\n"
            "  fix: for values return `y` as floats; for another loss than cross-entropy give --loss and --metric.",
        ),
        (
            "column", "labels", ("loss=PATH:squared",),  # the accuracy of one output would be that of always saying 0
            f"my.py:column: {LABELS}\n  got: output (12, 1) float32 cpu; y (12,) int64 cpu\n"
            "  fix: for values return `y` as floats; for another loss than cross-entropy give --loss and --metric.",
        ),
        (
            "last", "places", (),
            f"my.py:last: {LABELS}\n  got: output (12, 5, 3) float32 cpu; y (12, 5) int64 cpu\n"
            "  fix: move the classes there: output.movedim(-1, 1).",
        ),
        (
            "mlp", "values", (),
            "my.py:mlp: the output must have the shape of `y`.\n"
            "  got: output (12, 3) float32 cpu; y (12,) float32 cpu\n"
            "  fix: return values of the shape of `y`; for classes return labels as whole numbers.",
        ),
        (
            "column", "values", ("loss=PATH:item",),
            "my.py:item: the loss must be a tensor of one number.\n  got: float\n  fix: end it in .mean().",
        ),
        (
            "column", "values", ("loss=PATH:each",),
            "my.py:each: the loss must be a tensor of one number.\n  got: loss (12,) float32 cpu\n"
            "  fix: end it in .mean().",
        ),
        (
            "column", "values", ("loss=PATH:hard",),
            "my.py:hard: the loss must have a gradient with respect to the output.\n  got: none\n"
            "  fix: compute it of `output` by torch alone, without item, detach, numpy or argmax.",
        ),
        (
            "mlp", "labels", ("metric=PATH:many",),
            "my.py:many: the metric must be one number.\n  got: metric (3,) float32 cpu\n  fix: end it in .mean().",
        ),
        (
            "mlp", "labels", ("metric=PATH:words",),
            "my.py:words: the metric must be one number.\n  got: dict\n  fix: end it in .mean().",
        ),
        ("column", "values", ("loss=PATH:nothing",), "my.py:nothing: my.py has no function `nothing`."),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_said_before_a_run_begins(
    own: Callable[..., Recipe], model: str, data: str, words: tuple[str, ...], text: str
) -> None:
    found = refusal(own("norm=none,batch", *words, model=model, data=data))
    assert found.partition("\n  fix: choose")[0] == text


@pytest.mark.parametrize(
    ("words", "model", "said"),
    [
        (("loss=PATH:raises",), "column", "my.py:raises: it raised RuntimeError: "),
        (("metric=PATH:raises",), "column", "my.py:raises: it raised RuntimeError: "),
        ((), "fails", "my.py:fails: the network does not take the data: it raised RuntimeError: shape '[3]'"),
        ((), "trained", "my.py:trained: the network does not take the data: it raised AttributeError: "),
    ],
)  # fmt: skip
def test_what_they_raise_is_said_with_its_line(
    own: Callable[..., Recipe], words: tuple[str, ...], model: str, said: str
) -> None:
    found = refusal(own("norm=none,batch", *words, model=model, data="values"))
    assert found.startswith(said)
    line = CODE.splitlines()[int(found.partition("my.py, line ")[2].split()[0]) - 1]
    assert model in line or "output @ y" in line


@pytest.mark.parametrize(
    ("model", "data", "words"),
    [
        ("flat", "values", ()),  # (N,) against (N,)
        ("column", "values", ()),  # (N, 1) against (N,)
        ("column", "values", ("loss=PATH:squared", "metric=PATH:tensor", "goal=min")),
        ("column", "values", ("metric=PATH:scalar",)),
        ("column", "labels", ("loss=PATH:squared", "metric=PATH:tensor")),
        ("column", "negative", ("loss=PATH:squared", "metric=PATH:tensor")),
        ("mlp", "places", ("loss=PATH:tensor", "metric=PATH:tensor")),
    ],
)
def test_what_fits_is_let_through(own: Callable[..., Recipe], model: str, data: str, words: tuple[str, ...]) -> None:
    prepare(own("norm=none,batch", *words, model=model, data=data))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            "integers",
            "model.kind=mlp: `x` must be floats for a network of the lab.\n  got: x (12, 2) uint8 cpu\n"
            "  fix: return floats, for instance x / 255.",
        ),
        (
            "negative",
            "model.kind=mlp: labels must lie in 0 to 1, as the network has 2 outputs.\n  got: labels from -1 to 1\n"
            "  fix: count them from 0, or give the network an output for each; others need --loss and --metric.",
        ),
        ("labels", ""),
        ("values", ""),
    ],
)
def test_data_of_theirs_in_a_network_of_ours(write: Write, data: str, text: str) -> None:
    small = ("seeds=1", "model.depth=2", "model.width=8", "norm=none,batch")
    recipe = with_words(RECIPES["deep-tanh"], [*small, f"data={write(CODE)}:{data}"])
    if text:
        assert refusal(recipe) == text
    else:
        changed, reports = prepare(recipe)
        assert (changed.base.task, reports) == ({"labels": "classification", "values": "regression"}[data], {})


def test_the_reference_needs_values_in_the_shape_of_its_output(write: Write) -> None:
    words = ["engine=reference", "model.depth=2", "model.width=8", "norm=none", f"data={write(CODE)}:values"]
    assert refusal(with_words(RECIPES["deep-tanh"], words)) == (
        "model.kind=mlp: engine=reference needs an output of the shape of `y`.\n"
        "  got: output (12, 1) float32 cpu; y (12,) float32 cpu\n  fix: return y as (N, 1)."
    )
