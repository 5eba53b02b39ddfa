import functools
import io
import json

import numpy as np
import pytest
from rich.console import Console
from tests.tolerances import GRADIENT, INVARIANT, STEPS

from normlab import errors, reference
from normlab.cli.explain import MOST_VALUES, OPS, explanation, render, to_json
from normlab.cli.explanation import Explanation, node, overall

SHAPE = (4, 3, 2, 2)
CASES = [*((op, "train") for op in OPS), ("batch_norm", "eval")]


@functools.cache
def explained(op: str, shape: tuple[int, ...], mode: str = "train") -> Explanation:
    return explanation(op, shape, seed=0, mode=mode)


def text_of(found: Explanation, width: int) -> str:
    out = io.StringIO()
    render(found, Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize(("op", "mode"), CASES)
@pytest.mark.parametrize("shape", [SHAPE, (5, 6, 3), (4, 1, 3)], ids=str)
def test_three_gradients_agree(op: str, mode: str, shape: tuple[int, ...]) -> None:
    found = explained(op, shape, mode)
    assert set(found.gradients) == {"dx", "dweight"} | ({"dbias"} if op != "rms_norm" else set())
    worst = overall(found)
    assert worst.closed_vs_steps <= STEPS
    assert worst.closed_vs_numeric <= GRADIENT
    assert worst.steps_vs_numeric <= GRADIENT
    for gradient in found.gradients.values():
        assert np.abs(gradient.closed).max() > 1e3 * GRADIENT  # agreement on nothing would be no agreement


def test_the_element_that_agrees_least_is_named() -> None:
    found = explained("batch_norm", SHAPE)
    name, at = overall(found).where.rstrip("]").split("[")
    gradient = found.gradients[name]
    index = tuple(int(i) for i in at.split(", "))
    error = reference.relative_error(gradient.closed, gradient.numeric)
    assert error[index] == error.max() == overall(found).closed_vs_numeric


def test_the_inputs_can_be_retyped_by_hand() -> None:
    found = explanation("layer_norm", SHAPE, seed=3)
    for values in (found.x, found.dy, found.weight, found.bias):
        assert values.ravel().tolist() == [float(f"{v:.2f}") for v in values.ravel()]


def test_a_seed_repeats_and_the_mode_does_not_change_the_inputs() -> None:
    train, again, evaluation = (explanation("batch_norm", SHAPE, 5, mode) for mode in ("train", "train", "eval"))
    other = explanation("batch_norm", SHAPE, 6)
    assert np.array_equal(train.y, again.y)
    assert np.array_equal(train.x, evaluation.x)
    assert not np.array_equal(train.x, other.x)


def test_in_evaluation_batch_norm_takes_running_statistics_and_the_others_compute_the_same() -> None:
    found = explained("batch_norm", SHAPE, "eval")
    assert [step.name for step in found.walk.steps if step.gradient is None] == ["mean", "var", "std", "rstd"]
    assert not np.allclose(found.moments["after"]["mean"], 0)
    for op in OPS[1:]:
        assert np.array_equal(explained(op, SHAPE).y, explained(op, SHAPE, "eval").y)


@pytest.mark.parametrize("op", OPS)
def test_moments_before_and_after(op: str) -> None:
    found = explained(op, SHAPE)
    view = found.walk.view
    for when, values in (("before", found.x), ("after", node(found.walk, "x_hat"))):
        sets = reference.by_set(view, values)
        assert np.array_equal(found.moments[when]["mean"].ravel(), sets.mean(axis=0))
        assert np.array_equal(found.moments[when]["std"].ravel(), sets.std(axis=0))
    if view.center:
        assert np.abs(found.moments["after"]["mean"]).max() <= INVARIANT
    else:
        size = node(found.walk, "mean_square")
        expected = np.sqrt(size / (size + found.eps))
        assert np.abs(found.moments["after"]["rms"] - expected).max() <= INVARIANT


@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (9, 3), (5, 5), (1, 1)])
def test_group_norm_takes_the_smallest_number_of_groups_above_one(channels: int, groups: int) -> None:
    assert explanation("group_norm", (2, channels, 3)).groups == groups


@pytest.mark.parametrize("op", OPS)
def test_hyphens_are_read_as_underscores(op: str) -> None:
    assert explanation(op.replace("_", "-"), SHAPE).op == op


@pytest.mark.parametrize(("op", "mode"), CASES)
def test_json_is_whole_and_comes_back_equal(op: str, mode: str) -> None:
    found = explained(op, SHAPE, mode)
    record = to_json(found)
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert list(record) == [
        *("op", "shape", "mode", "groups", "seed", "eps", "x", "dy", "weight", "bias", "y"),
        *("steps", "dx", "dweight", "dbias", "agreement", "moments"),
    ]
    assert record["shape"] == list(SHAPE)
    assert np.array_equal(record["x"], found.x)
    assert [set(step) for step in record["steps"]] == [
        {"name", "equation", "value", "gradient_equation", "gradient"} for _ in found.walk.steps
    ]
    assert set(record["dx"]) == {"closed", "steps", "numeric"}
    assert set(record["agreement"]) == {"closed_vs_steps", "closed_vs_numeric", "steps_vs_numeric", "where"}
    assert set(record["moments"]["before"]) >= {"mean", "std"}
    assert (record["bias"] is None) == (record["dbias"] is None) == (op == "rms_norm")


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(("op", "mode"), CASES)
@pytest.mark.parametrize("shape", [SHAPE, (6, 5, 2), (3, 2, 1, 2, 2)], ids=str)
def test_no_line_is_wider_than_the_console_and_nothing_is_cut(op: str, mode: str, shape, width: int) -> None:
    text = text_of(explained(op, shape, mode), width)
    lines = text.splitlines()
    assert max(len(line) for line in lines) <= width
    rows = [line for line in lines if "│" in line]
    left, right = zip(*(row.split("│") for row in rows), strict=True)
    per_row = {len([cell for cell in r.split() if cell]) for r in right}
    assert len(per_row) == 1  # each row shows the same number of whole sets
    assert all(cell == "—" or len(cell.split(".")[1]) >= 1 for r in right for cell in r.split())
    assert "…" not in "".join(left + right)


def test_what_is_shown_is_what_was_computed() -> None:
    found = explained("batch_norm", SHAPE)
    lines = text_of(found, 80).splitlines()
    at = next(i for i, line in enumerate(lines) if "4  var = Σ squared / n" in line)
    assert lines[at + 1].strip() == "dvar = dstd / (2 · std)"
    step = found.walk.steps[3]
    shown = lines[at + 5].replace("│", "").split()
    assert shown == ["each", "set", *(f"{v:.4f}" for v in (*step.value, *step.gradient))]


def test_what_is_left_out_is_said() -> None:
    text = text_of(explanation("layer_norm", (9, 4, 5)), 80)
    assert "… 4 more rows and 6 more sets (everything is in the JSON)" in text
    assert "… 6 more sets (everything is in the JSON)" in text
    assert "… 164 more rows (everything is in the JSON)" in text


def test_the_header_says_what_is_computed() -> None:
    text = text_of(explanation("group_norm", (4, 6, 2, 2)), 120)
    for line in (
        "input    x (4, 6, 2, 2) in 2 groups, random, seed 0, two decimals",
        "view     (N, G, C/G, S) = (4, 2, 3, 4)",
        "sets     one mean and variance over (C/G, S): 8 sets of n = 12 values",
        "mode     train; there are no running statistics, so training and evaluation compute the same",
        "eps      1e-05",
    ):
        assert line in text
    text = text_of(explained("batch_norm", SHAPE, "eval"), 140)
    assert (
        "mode     eval; running statistics, started at 0 and 1 and updated with 5 random batches at momentum 0.1, "
        "are taken as constants" in text
    )


def test_two_values_in_a_set_carry_a_warning() -> None:
    note = "With two values in a set x_hat is −1 and 1 whatever x is"
    assert note in text_of(explanation("batch_norm", (2, 3)), 120)
    assert note not in text_of(explanation("batch_norm", (3, 3)), 120)
    assert note not in text_of(explanation("rms_norm", (3, 2)), 120)


ERRORS = [
    (
        ("bach_norm", SHAPE, 0, "evil", None),
        """\
explain: there is no op `bach_norm`.
  fix: did you mean `batch_norm`?
explain: there is no mode `evil`.
  fix: did you mean `eval`?""",
    ),
    (
        ("batch_norm", (3,), -1, "train", 2),
        """\
explain: the seed must not be negative.
  got: seed -1
explain: the shape must have at least 2 dimensions, each at least 1: batch, channels.
  got: shape 3
  fix: for instance 4,3,2,2.
explain: batch_norm has no groups.
  got: groups 2
  fix: leave them out, or explain group_norm.""",
    ),
    (
        ("layer_norm", (3, 0), 0, "train", None),
        """\
explain: the shape must have at least 2 dimensions, each at least 1: batch, channels.
  got: shape 3,0
  fix: for instance 4,3,2,2.""",
    ),
    (
        ("layer_norm", (17, 241), 0, "train", None),
        f"""\
explain: at most {MOST_VALUES} values, since the numeric gradient runs the op four times for each.
  got: shape 17,241, 4097 values
  fix: for instance 4,3,2,2.""",
    ),
    (
        ("group_norm", SHAPE, 0, "train", 2),
        """\
explain: the groups must divide the 3 channels.
  got: groups 2; shape 4,3,2,2""",
    ),
    (
        ("group_norm", SHAPE, 0, "train", 0),
        """\
explain: the groups must divide the 3 channels.
  got: groups 0; shape 4,3,2,2""",
    ),
    (
        ("batch_norm", (1, 3), 0, "train", None),
        """\
explain: each mean and deviation needs more than one value.
  got: shape 1,3, one value for each of the 3 sets
  fix: add samples, as in 4,3.""",
    ),
    (
        ("instance_norm", (4, 3), 0, "train", None),
        """\
explain: each mean and deviation needs more than one value.
  got: shape 4,3, one value for each of the 12 sets
  fix: add positions, as in 4,3,2,2.""",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), ERRORS)
def test_errors(arguments: tuple, text: str) -> None:
    with pytest.raises(errors.UsageError) as raised:
        explanation(*arguments)
    assert str(raised.value) == text
