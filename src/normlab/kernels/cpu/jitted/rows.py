"""Rows that follow one another in memory, with a weight a column: one alone, or the full vectors of four at a time.

Four share the loads of what belongs to the columns. That pays where a row is too long for the first cache to hold it
beside them; shorter ones are faster one by one, as memory is then read and written in order.
"""

from numba import njit

from normlab.kernels.cpu.jitted.batch_norm import LEFT, MEAN, RSTD
from normlab.kernels.cpu.jitted.lanes import (
    WIDTH,
    fill,
    fma,
    get,
    load,
    load_first,
    mul,
    offset,
    store,
    store_first,
    stream,
    sub,
)  # fmt: skip

_jitted = njit(error_model="numpy", no_cpython_wrapper=True)


@_jitted
def of_row(statistics, rows):
    """Mean, factor and shift: x_hat = (x − mean) · factor + shift."""
    rstd = fill(get(statistics, RSTD * rows))
    return fill(get(statistics, MEAN * rows)), rstd, mul(fill(-get(statistics, LEFT * rows)), rstd)


@_jitted
def hat(v, mean, factor, shift, centered):
    """x_hat of lanes; without a mean, of values as they are."""
    return fma(sub(v, mean), factor, shift) if centered else mul(v, factor)


@_jitted
def map_row(x, y, weight, bias, statistics, rows, begin, length, centered, past):
    """y = x_hat · weight + bias of a row, from a column on."""
    m, r, s = of_row(statistics, rows)
    j = begin
    while j + WIDTH <= length:
        z = fma(hat(load(x, j), m, r, s, centered), load(weight, j), load(bias, j))
        if past:
            stream(y, j, z)
        else:
            store(y, j, z)
        j += WIDTH
    if j < length:
        few = length - j
        h = hat(load_first(x, j, few), m, r, s, centered)
        store_first(y, j, fma(h, load_first(weight, j, few), load_first(bias, j, few)), few)


@_jitted
def map_four(x, y, weight, bias, statistics, rows, length, centered, past):
    """The same of four rows, up to the last full vector."""
    m0, r0, s0 = of_row(statistics, rows)
    m1, r1, s1 = of_row(offset(statistics, 1), rows)
    m2, r2, s2 = of_row(offset(statistics, 2), rows)
    m3, r3, s3 = of_row(offset(statistics, 3), rows)
    x1, x2, x3 = offset(x, length), offset(x, 2 * length), offset(x, 3 * length)
    y1, y2, y3 = offset(y, length), offset(y, 2 * length), offset(y, 3 * length)
    j = 0
    while j + WIDTH <= length:
        w, b = load(weight, j), load(bias, j)
        z0 = fma(hat(load(x, j), m0, r0, s0, centered), w, b)
        z1 = fma(hat(load(x1, j), m1, r1, s1, centered), w, b)
        z2 = fma(hat(load(x2, j), m2, r2, s2, centered), w, b)
        z3 = fma(hat(load(x3, j), m3, r3, s3, centered), w, b)
        if past:
            stream(y, j, z0)
            stream(y1, j, z1)
            stream(y2, j, z2)
            stream(y3, j, z3)
        else:
            store(y, j, z0)
            store(y1, j, z1)
            store(y2, j, z2)
            store(y3, j, z3)
        j += WIDTH
