"""`normlab backends`: what would compute a norm, for which shape and why."""

import json
from collections.abc import Callable

import pytest
from tests.conftest import Called

from normlab import errors
from normlab.cli.backends import TYPICAL, rows
from normlab.kernels.pick import backend


def test_typical_shapes_get_both() -> None:
    found = rows(None, None, "float32", False, "none", 32)
    assert [(each.op, each.shape) for each in found] == list(TYPICAL)
    assert {each.backend for each in found} == {"stock", "fused"}


def test_the_reason_goes_with_the_shape() -> None:
    """Smaller with ReLU; and what there is no kernel for."""
    single, double, half = "float32", "float64", "bfloat16"
    wanted = ((single, False, "none"), (single, False, "relu"), (half, True, "relu"), (double, False, "gelu"))
    seen = [rows("batch_norm", (16, 32, 16, 8), *each, 32)[0] for each in wanted]
    assert [(each.backend, each.reason) for each in seen] == [
        ("stock", "of 65,536 values; ours is faster from 131,072 on"),
        ("fused", "of 65,536 values; ours is faster from 65,536 on"),
        ("stock", "of 65,536 values; ours is faster from 131,072 on"),
        ("stock", "gelu is computed to the precision of float32"),
    ]
    with backend("torch"):
        (row,) = rows("rms_norm", (64, 64), "float32", False, "none", 32)
    assert (row.backend, row.reason) == ("stock", "torch was asked for; of 4,096 values; ours is faster from 32,768 on")


def test_every_mistake_is_said_at_once() -> None:
    with pytest.raises(errors.UsageError) as caught:
        rows("batchnorm", (3,), "int8", True, "rellu", 32)
    assert str(caught.value) == (
        "backends: `--dtype` must be one of float32, float64, bfloat16, float16.\n"
        "  got: 'int8'\n"
        "  fix: choose one of: float32, float64, bfloat16, float16.\n"
        "backends: `--activation` must be one of none, relu, leaky_relu, silu, gelu.\n"
        "  got: 'rellu'\n"
        "  fix: did you mean `relu`?\n"
        "backends: the norm must be one of batch_norm, layer_norm, group_norm, instance_norm, rms_norm.\n"
        "  got: 'batchnorm'\n"
        "  fix: did you mean `batch_norm`?\n"
        "backends: a shape has two sizes or more, none below 1.\n"
        "  got: (3,)\n"
        "  fix: --shape 32,64,56,56.\n"
        "backends: channels last is a layout of four dimensions.\n"
        "  got: (3,)\n"
        "  fix: leave out --channels-last."
    )


def test_the_program_prints_a_table_or_json(program: Callable[..., Called]) -> None:
    code, out, err = program("backends", "batch_norm", "--shape", "32,64,56,56")
    assert (code, err) == (0, "")
    assert "32 × 64 × 56 × 56   our kernel" in out
    code, out, err = program("backends", "--json")
    found = json.loads(out)
    assert (code, err, found["backend"]) == (0, "", "auto")
    assert [(row["op"], tuple(row["shape"])) for row in found["rows"]] == list(TYPICAL)
    code, out, err = program("backends", "--shape", "3,x")
    assert (code, out) == (2, "")
    assert err.startswith("backends: `--shape` is a list of whole numbers.")
