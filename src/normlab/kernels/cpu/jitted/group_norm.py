"""Group norm of (N, C, S), whose sets are the C/G channels of a group, which follow one another in memory.

With as many groups as channels it is instance norm.
"""

from numba import njit

from normlab.kernels.cpu.jitted.across import across, arrived, square
from normlab.kernels.cpu.jitted.batch_norm import RSTD, place_in_team
from normlab.kernels.cpu.jitted.columns import lines, merge
from normlab.kernels.cpu.jitted.lanes import (
    WIDTH,
    add,
    double,
    fill,
    fma,
    get,
    load,
    load_first,
    mul,
    offset,
    pointer,
    put,
    rounded,
    store,
    store_first,
    stream,
    sub,
    zeros,
)  # fmt: skip
from normlab.kernels.cpu.jitted.row_moments import statistics_of_rows, write_statistics
from normlab.kernels.cpu.jitted.rows import of_row

BLOCK = 1024  # numbers of a channel that are summed before they join those before them

_jitted = njit(error_model="numpy", no_cpython_wrapper=True)


@_jitted
def forward(a, like, one):
    """Some sets at a time, as the rows of layer norm."""
    me, threads = place_in_team(a)
    sets, groups, channels, length = get(a, 2), get(a, 3), get(a, 4), get(a, 5)
    together, past, eps = get(a, 6), get(a, 7) != 0, double(get(a, 8))
    x, y, weight, bias = (
        pointer(get(a, 9), like),
        pointer(get(a, 10), like),
        pointer(get(a, 11), one),
        pointer(get(a, 12), one),
    )
    statistics = pointer(get(a, 13), one)
    sums, squares, kept = square(one), square(one), square(one)
    size = channels * length
    each, end = sets * me // threads, sets * (me + 1) // threads
    while each < end:
        some = min(together, end - each)
        statistics_of_rows(offset(x, each * size), some, size, sums, squares, kept, eps, one, True)
        write_statistics(offset(statistics, each), sets, kept, some)
        for k in range(some):
            here, c = (each + k) * size, (each + k) % groups * channels
            for channel in range(channels):
                at = here + channel * length
                _map(
                    offset(x, at), offset(y, at), length, offset(kept, k), WIDTH, get(weight, c + channel),
                    get(bias, c + channel), past,
                )  # fmt: skip
        each += some


@_jitted
def _map(x, y, length, statistics, sets, weight, bias, past):
    """y = (x − mean) · scale + shift of a channel."""
    m, rstd, rest = of_row(statistics, sets)
    w = fill(weight)
    scale, shift = mul(rstd, w), fma(rest, w, fill(bias))
    j = 0
    while j + WIDTH <= length:
        z = fma(sub(load(x, j), m), scale, shift)
        if past:
            stream(y, j, z)
        else:
            store(y, j, z)
        j += WIDTH
    if j < length:
        store_first(y, j, fma(sub(load_first(x, j, length - j), m), scale, shift), length - j)


@_jitted
def backward(a, like, one):
    """As `forward`. The last thread to come adds up what each found for the channels, in the order of their numbers."""
    me, threads = place_in_team(a)
    sets, groups, channels, length = get(a, 2), get(a, 3), get(a, 4), get(a, 5)
    together, past = get(a, 6), get(a, 7) != 0
    dy, x, dx = pointer(get(a, 8), like), pointer(get(a, 9), like), pointer(get(a, 10), like)
    weight, statistics, gradients = pointer(get(a, 11), one), pointer(get(a, 12), one), pointer(get(a, 13), one)
    every, apart, room = groups * channels, lines(2 * groups * channels), lines(channels)
    far = pointer(get(a, 14), 0.0)
    mine = offset(far, me * apart)
    near = offset(pointer(get(a, 14) + 8 * threads * apart, one), me * 2 * room)
    for j in range(2 * every):
        put(mine, j, 0.0)
    sums, products = square(one), square(one)
    each, end = sets * me // threads, sets * (me + 1) // threads
    while each < end:
        some = min(together, end - each)
        here, of_them = each * channels * length, offset(statistics, each)
        _sums(
            offset(dy, here), offset(x, here), some, channels, length, of_them, sets, sums, products, near,
            offset(near, room),
        )  # fmt: skip
        for k in range(some):
            c, here = (each + k) % groups * channels, (each + k) * channels * length
            of_g, of_gx = 0.0, 0.0
            for j in range(channels):
                along, above = float(get(near, k * channels + j)), float(get(near, room + k * channels + j))
                put(mine, c + j, get(mine, c + j) + along)
                put(mine, every + c + j, get(mine, every + c + j) + above)
                of_gx += float(get(weight, c + j)) * along
                of_g += float(get(weight, c + j)) * above
            m, rstd, rest = of_row(offset(of_them, k), sets)
            share = -float(get(of_them, RSTD * sets + k)) / (channels * length)
            of_one, of_hat = fill(rounded(of_g * share, one)), fill(rounded(of_gx * share, one))
            per_x, per_one = mul(of_hat, rstd), fma(of_hat, rest, of_one)
            for j in range(channels):
                at, scale = here + j * length, mul(rstd, fill(get(weight, c + j)))
                _map_back(offset(dy, at), offset(x, at), offset(dx, at), length, m, scale, per_x, per_one, past)
        each += some
    if arrived(a, 15) == threads - 1:
        merge(gradients, far, 2 * every, apart, threads)


@_jitted
def _sums(dy, x, some, channels, length, statistics, sets, sums, products, along, above):
    """Σ dy·x_hat and Σ dy of each channel of some sets, one set or no more than sixteen channels."""
    last = some * channels - 1
    for k in range(some):
        m, r, s = of_row(offset(statistics, k), sets)
        for j in range(k * channels, (k + 1) * channels):
            at, row = j * length, j % WIDTH * WIDTH
            _sums_of_channel(offset(dy, at), offset(x, at), length, m, r, s, offset(sums, row), offset(products, row))
            if j % WIDTH == WIDTH - 1 or j == last:
                store(along, j // WIDTH * WIDTH, across(products))
                store(above, j // WIDTH * WIDTH, across(sums))


@_jitted
def _sums_of_channel(dy, x, length, mean, factor, shift, sums, products):
    """Lanes of Σ dy and Σ dy·x_hat."""
    a, b = zeros(sums), zeros(sums)
    for begin in range(0, length, BLOCK):
        end = min(begin + BLOCK, length)
        a0, a1, b0, b1 = zeros(sums), zeros(sums), zeros(sums), zeros(sums)
        j = begin
        while j + 2 * WIDTH <= end:
            u0, u1, c0, c1 = load(dy, j), load(dy, j + WIDTH), sub(load(x, j), mean), sub(load(x, j + WIDTH), mean)
            a0, a1, b0, b1 = add(a0, u0), add(a1, u1), fma(u0, c0, b0), fma(u1, c1, b1)
            j += 2 * WIDTH
        if j + WIDTH <= end:
            u0 = load(dy, j)
            a0, b0 = add(a0, u0), fma(u0, sub(load(x, j), mean), b0)
            j += WIDTH
        if j < end:
            u1 = load_first(dy, j, end - j)
            a1, b1 = add(a1, u1), fma(u1, sub(load_first(x, j, end - j), mean), b1)
        a, b = add(a, add(a0, a1)), add(b, add(b0, b1))
    store(sums, 0, a)
    store(products, 0, fma(a, shift, mul(b, factor)))


@_jitted
def _map_back(dy, x, dx, length, mean, scale, per_x, per_one, past):
    """dx = dy · scale + (x − mean) · per_x + per_one of a channel."""
    j = 0
    while j + WIDTH <= length:
        d = fma(load(dy, j), scale, fma(sub(load(x, j), mean), per_x, per_one))
        if past:
            stream(dx, j, d)
        else:
            store(dx, j, d)
        j += WIDTH
    if j < length:
        few = length - j
        d = fma(load_first(dy, j, few), scale, fma(sub(load_first(x, j, few), mean), per_x, per_one))
        store_first(dx, j, d, few)
