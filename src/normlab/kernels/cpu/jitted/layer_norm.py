"""Layer norm and RMS norm of (R, D): some rows at a time, which stay in the cache from their sums to their map."""

from numba import njit

from normlab.kernels.cpu.jitted.across import across, arrived, square
from normlab.kernels.cpu.jitted.batch_norm import place_in_team
from normlab.kernels.cpu.jitted.columns import lines, merge
from normlab.kernels.cpu.jitted.lanes import (
    WIDTH,
    div,
    double,
    fill,
    get,
    offset,
    pointer,
    put,
    rounded,
    store,
)  # fmt: skip
from normlab.kernels.cpu.jitted.row_moments import LONG, statistics_of_rows, write_statistics
from normlab.kernels.cpu.jitted.rows import map_four, map_row
from normlab.kernels.cpu.jitted.rows_back import gradient_four, gradient_row, sums_of_four, sums_of_row

FLUSH = 128  # rows that a column sums in float32 before a float64 takes over

_jitted = njit(error_model="numpy", no_cpython_wrapper=True)


@_jitted
def forward(a, like, one, centered):
    """`centered`: layer norm; otherwise the mean is left out."""
    me, threads = place_in_team(a)
    rows, length, together, fours, past = get(a, 2), get(a, 3), get(a, 4), get(a, 5) != 0, get(a, 6) != 0
    eps, x, y = double(get(a, 7)), pointer(get(a, 8), like), pointer(get(a, 9), like)
    weight, bias, statistics = pointer(get(a, 10), one), pointer(get(a, 11), one), pointer(get(a, 12), one)
    sums, squares, kept = square(one), square(one), square(one)
    row, end = rows * me // threads, rows * (me + 1) // threads
    while row < end:
        some = min(together, end - row)
        here = row * length
        statistics_of_rows(offset(x, here), some, length, sums, squares, kept, eps, one, centered)
        write_statistics(offset(statistics, row), rows, kept, some)
        _map(offset(x, here), offset(y, here), weight, bias, kept, some, length, fours, centered, past)
        row += some


@_jitted
def _map(x, y, weight, bias, kept, some, length, fours, centered, past):
    in_fours = some // 4 * 4 if fours else 0
    for k in range(0, in_fours, 4):
        map_four(
            offset(x, k * length), offset(y, k * length), weight, bias, offset(kept, k), WIDTH, length, centered, past
        )  # fmt: skip
    for k in range(some):
        begin = length // WIDTH * WIDTH if k < in_fours else 0
        if begin < length:
            at = k * length
            map_row(offset(x, at), offset(y, at), weight, bias, offset(kept, k), WIDTH, begin, length, centered, past)


@_jitted
def backward(a, like, one, centered):
    """As `forward`. The last thread to come adds up what each found for the columns, in the order of their numbers."""
    me, threads = place_in_team(a)
    rows, length, together, fours, past = get(a, 2), get(a, 3), get(a, 4), get(a, 5) != 0, get(a, 6) != 0
    dy, x, dx = pointer(get(a, 7), like), pointer(get(a, 8), like), pointer(get(a, 9), like)
    weight, statistics, gradients = pointer(get(a, 10), one), pointer(get(a, 11), one), pointer(get(a, 12), one)
    width = lines(length)
    apart = 2 * width if centered else width
    far = pointer(get(a, 13), 0.0)
    mine, near = offset(far, me * apart), offset(pointer(get(a, 13) + 8 * threads * apart, one), me * apart)
    for j in range(apart):
        put(mine, j, 0.0)
        put(near, j, 0.0)
    sums, products = square(one), square(one)
    row, end, since = rows * me // threads, rows * (me + 1) // threads, 0
    while row < end:
        some = min(together, end - row)
        here = row * length
        _back(
            offset(dy, here), offset(x, here), offset(dx, here), weight, near, offset(statistics, row), rows, some,
            length, sums, products, fours, one, centered, past,
        )  # fmt: skip
        row += some
        since += some
        if since >= FLUSH or row == end:
            for j in range(apart):
                put(mine, j, get(mine, j) + get(near, j))
                put(near, j, 0.0)
            since = 0
    if arrived(a, 14) == threads - 1:
        merge(gradients, far, length, apart, threads)
        if centered:
            merge(offset(gradients, length), offset(far, width), length, apart, threads)


@_jitted
def _back(dy, x, dx, weight, near, statistics, rows, some, length, sums, products, fours, one, centered, past):
    """dx of at most sixteen rows, with g = dy · weight: rstd · (g − Σg/D − x_hat · Σ g·x_hat / D)."""
    width, vectors, in_fours = lines(length), length // WIDTH * WIDTH, some // 4 * 4 if fours else 0
    for begin in range(0, length, LONG):
        end = min(begin + LONG, length)
        for k in range(0, in_fours, 4):
            at, of_k = k * length, k * WIDTH
            sums_of_four(
                offset(dy, at), offset(x, at), weight, near, offset(statistics, k), rows, begin, end, length,
                width, offset(sums, of_k), offset(products, of_k), centered,
            )  # fmt: skip
        for k in range(some):
            at, of_k, rest = k * length, k * WIDTH, max(begin, vectors) if k < in_fours else begin
            if rest < end:
                sums_of_row(
                    offset(dy, at), offset(x, at), weight, near, offset(statistics, k), rows, rest, end, length,
                    width, offset(sums, of_k), offset(products, of_k), centered,
                )  # fmt: skip
    minus = fill(rounded(-float(length), one))
    store(products, 0, div(across(products), minus))
    store(sums, 0, div(across(sums), minus))
    for k in range(0, in_fours, 4):
        at = k * length
        gradient_four(
            offset(dy, at), offset(x, at), offset(dx, at), weight, offset(statistics, k), rows, length,
            offset(sums, k), offset(products, k), centered, past,
        )  # fmt: skip
    for k in range(some):
        at, begin = k * length, vectors if k < in_fours else 0
        if begin < length:
            gradient_row(
                offset(dy, at), offset(x, at), offset(dx, at), weight, offset(statistics, k), rows, begin, length,
                offset(sums, k), offset(products, k), centered, past,
            )  # fmt: skip
