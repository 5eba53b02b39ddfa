import pickle

import numpy as np
import pytest
import torch

from normlab.errors import InvalidInputError, Problem, RecordError, UsageError, describe, did_you_mean, invalid_input
from normlab.errors import message as text


def test_a_message_names_the_rule_what_came_and_the_next_step() -> None:
    problem = Problem("`p` must lie in [0, 1].", got="p = 1.5", fix="pass 0.5.")
    assert (
        text("dropout", problem)
        == """\
dropout: `p` must lie in [0, 1].
  got: p = 1.5
  fix: pass 0.5."""
    )


def test_what_is_not_known_has_no_line() -> None:
    assert text("f", Problem("rule.")) == "f: rule."
    assert text("f", Problem("rule.", fix="do it.")) == "f: rule.\n  fix: do it."
    assert text("f", Problem("rule.", got="3")) == "f: rule.\n  got: 3"


def test_every_problem_is_raised_at_once() -> None:
    with pytest.raises(InvalidInputError) as raised:
        invalid_input("f", iter([Problem("first.", got="1"), Problem("second.", fix="do it.")]))
    assert str(raised.value) == "f: first.\n  got: 1\nf: second.\n  fix: do it."


def test_no_problem_raises_nothing() -> None:
    invalid_input("f", iter([]))


@pytest.mark.parametrize("kind", [InvalidInputError, UsageError])
def test_a_bad_argument_is_a_value_error(kind: type[Exception]) -> None:
    assert issubclass(kind, ValueError)
    assert not issubclass(RecordError, ValueError)


@pytest.mark.parametrize("kind", [InvalidInputError, UsageError, RecordError])
def test_the_text_crosses_a_process_border(kind: type[Exception]) -> None:
    back = pickle.loads(pickle.dumps(kind(text("f", Problem("rule.", got="3")))))  # noqa: S301 - made here
    assert type(back) is kind
    assert str(back) == "f: rule.\n  got: 3"


def test_arrays_are_described_by_shape_dtype_and_device() -> None:
    assert (
        describe(x=np.zeros((2, 3), np.float32), weight=torch.zeros(4, dtype=torch.bfloat16), n=7, mode="evil")
        == "x (2, 3) float32; weight (4,) bfloat16 cpu; n 7; mode 'evil'"
    )
    assert describe(meta=torch.zeros((), device="meta")) == "meta () float32 meta"


def test_a_near_name_is_offered_and_else_all_of_them() -> None:
    assert did_you_mean("bach", ["layer", "batch"]) == "did you mean `batch`?"
    assert did_you_mean("zzz", iter(["layer", "batch"])) == "choose one of: layer, batch."
