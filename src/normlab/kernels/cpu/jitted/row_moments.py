"""Mean, what float32 leaves out of it, 1 / √(var + eps) and variance of rows that follow one another in memory.

A row is summed about a number near its mean: the mean of its first values. Where that was not near, by more than the
deviation, the row is summed again about what was found, from the cache.
"""

from numba import njit

from normlab.kernels.cpu.jitted.across import across, any_above, square_root
from normlab.kernels.cpu.jitted.batch_norm import LEFT, MEAN, RSTD, VAR, keep
from normlab.kernels.cpu.jitted.lanes import (
    WIDTH,
    add,
    constant,
    div,
    fill,
    first,
    fma,
    get,
    load,
    load_first,
    mul,
    offset,
    rounded,
    store,
    store_first,
    sub,
    total,
    zeros,
)  # fmt: skip

LONG = 4096  # numbers that are summed in float32 before a float64 takes over
SHARE = 1 / WIDTH  # of the sums that lanes keep: where these are finite, all together are so

_jitted = njit(error_model="numpy", no_cpython_wrapper=True)


@_jitted
def statistics_of_rows(x, some, length, sums, squares, kept, eps, one, centered):
    """Keeps the statistics of at most sixteen rows; not `centered`, 0, 0 and those of the mean square.

    `sums`, `squares` and `kept` are room for sixteen times sixteen numbers, `kept` with a row for each statistic.
    """
    if length > LONG:
        for k in range(some):
            mean, var = _moments_of_long(offset(x, k * length), length, sums, squares, one, centered)
            keep(kept, WIDTH, k, mean, var, eps, one)
        return
    n = fill(rounded(length * SHARE, one))
    zero = constant(n, 0.0)
    mean, left, var = zero, zero, zero
    if centered:
        few = WIDTH
        while few > length:
            few //= 2  # the mean of equal values is then exact; of huge ones, squares of the rest would overflow
        for k in range(some):
            store(sums, k * WIDTH, load_first(x, k * length, few))
        mean = div(across(sums), fill(rounded(float(few), one)))
    for again in range(2):
        store(kept, MEAN * WIDTH, mean)
        for k in range(some):
            _sums_about(
                offset(x, k * length), length, get(kept, k), offset(sums, k * WIDTH), offset(squares, k * WIDTH),
                centered,
            )  # fmt: skip
        var = div(across(squares), n)
        if not centered:
            break
        away = div(across(sums), n)
        var = fma(sub(zero, away), away, var)
        near = again == 1 or not any_above(mul(away, away), var, some)
        about, mean = mean, add(mean, away)
        left = add(sub(about, mean), away)
        if near:
            break
    store(kept, MEAN * WIDTH, mean)
    store(kept, LEFT * WIDTH, left)
    store(kept, RSTD * WIDTH, div(constant(n, 1.0), square_root(add(var, fill(rounded(eps, one))))))
    store(kept, VAR * WIDTH, var)


@_jitted
def write_statistics(statistics, rows, kept, some):
    """Of some rows, among those of all."""
    for each in range(4):
        store_first(statistics, each * rows, load(kept, each * WIDTH), some)


@_jitted
def _moments_of_long(x, length, sums, squares, one, centered):
    """Mean and variance of one row."""
    about = total(load(x, 0)) / WIDTH if centered else 0.0
    away, var = 0.0, 0.0
    for again in range(2):
        about, away, var = float(rounded(about, one)), 0.0, 0.0
        for begin in range(0, length, LONG):
            _sums_about(offset(x, begin), min(LONG, length - begin), rounded(about, one), sums, squares, centered)
            away += total(load(sums, 0)) / (length * SHARE)
            var += total(load(squares, 0)) / (length * SHARE)
        if not centered:
            break
        var -= away * away
        if again == 1 or not away * away > var:
            break
        about += away
    return about + away, var


@_jitted
def _sums_about(x, length, about, sums, squares, centered):
    """Lanes of Σ (x − about) and Σ (x − about)² of a row, which add up to a share; not `centered`, of 0 and Σ x²."""
    k = fill(about)
    s0, s1, s2, s3 = zeros(x), zeros(x), zeros(x), zeros(x)
    q0, q1, q2, q3 = zeros(x), zeros(x), zeros(x), zeros(x)
    j = 0
    while j + 4 * WIDTH <= length:
        a, b, c, d = load(x, j), load(x, j + WIDTH), load(x, j + 2 * WIDTH), load(x, j + 3 * WIDTH)
        if centered:
            a, b, c, d = sub(a, k), sub(b, k), sub(c, k), sub(d, k)
            s0, s1, s2, s3 = add(s0, a), add(s1, b), add(s2, c), add(s3, d)
        q0, q1, q2, q3 = fma(a, a, q0), fma(b, b, q1), fma(c, c, q2), fma(d, d, q3)
        j += 4 * WIDTH
    while j + WIDTH <= length:
        a = load(x, j)
        if centered:
            a = sub(a, k)
            s0 = add(s0, a)
        q0 = fma(a, a, q0)
        j += WIDTH
    if j < length:
        a = load_first(x, j, length - j)
        if centered:
            a = first(sub(a, k), length - j)
            s1 = add(s1, a)
        q1 = fma(a, a, q1)
    share = constant(k, SHARE)
    store(sums, 0, mul(add(add(s0, s1), add(s2, s3)), share))
    store(squares, 0, mul(add(add(q0, q1), add(q2, q3)), share))
