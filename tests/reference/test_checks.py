import numpy as np
import pytest

from normlab import errors
from normlab.reference import checks


@pytest.mark.parametrize("dtype", [np.int8, np.uint64, np.float16, np.float32, np.float64])
def test_real_numbers_become_float64(dtype: type) -> None:
    x = checks.real("op", x=np.array([0, 1, 100], dtype=dtype))["x"]
    assert x.dtype == np.float64
    assert x.tolist() == [0.0, 1.0, 100.0]


def test_what_is_no_array_of_real_numbers_is_refused_all_at_once() -> None:
    with pytest.raises(errors.InvalidInputError) as raised:
        checks.real(
            "op",
            x=np.zeros(2, dtype=complex),
            weight=np.array([True]),
            bias=[1.0, 2.0],
            dy=np.zeros(1, dtype=np.longdouble),
            fine=np.zeros(1),
            none=None,
        )
    rule = "must be a NumPy array of real numbers of at most 64 bits."
    assert (
        str(raised.value)
        == f"""\
op: `x` {rule}
  got: x (2,) complex128
  fix: pass np.asarray(x, dtype=np.float64).
op: `weight` {rule}
  got: weight (1,) bool
  fix: pass np.asarray(weight, dtype=np.float64).
op: `bias` {rule}
  got: bias [1.0, 2.0]
  fix: pass np.asarray(bias, dtype=np.float64).
op: `dy` {rule}
  got: dy (1,) {np.dtype(np.longdouble)}
  fix: pass np.asarray(dy, dtype=np.float64)."""
    )


@pytest.mark.parametrize("value", [0, -1, (1, 2), (1, 0, 1), (1, 1, 1.5), 1.5, "222"])
def test_a_setting_per_dimension(value) -> None:
    _, problems = checks.per_dim("stride", value, 3, least=1)
    assert (
        errors.message("conv", *problems)
        == f"""\
conv: `stride` must be an integer of at least 1, or 3 of them, one per spatial dimension.
  got: stride = {value}"""
    )
