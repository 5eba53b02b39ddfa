"""Batch norm of (N, C, S), whose channels are sets of N runs: each stays in the cache until it is done."""

import math

from numba import njit

from normlab.kernels.cpu.jitted.lanes import call_number, double, fill, get, offset, pointer, put, rounded
from normlab.kernels.cpu.jitted.runs import gradient_sums, mapped, mapped_back, moments

# The phases of a kernel. With few channels each is split into parts, whose sums have to wait for one another.
WHOLE, SUMS, REST = 0, 1, 2
# Rows of the statistics that are kept: mean, what float32 leaves out of it, 1 / √(var + eps), biased variance.
MEAN, LEFT, RSTD, VAR = range(4)


@njit(error_model="numpy")
def place_in_team(a):
    """The number of this thread, and how many there are."""
    if get(a, 1) == 0:
        return 0, 1
    return call_number(get(a, 0)), call_number(get(a, 1))


@njit(error_model="numpy")
def head(a):
    """What every kernel of batch norm is told first: seven whole numbers."""
    return get(a, 2), get(a, 3), get(a, 4), get(a, 5), get(a, 6), get(a, 7), get(a, 8)


@njit(error_model="numpy")
def share_of(part, parts, runs, length):
    """The runs and the positions of one part of a set: some of the runs, or some of each if there are too few."""
    if runs >= parts:
        return runs * part // parts, runs * (part + 1) // parts, 0, length
    return 0, runs, length * part // parts, length * (part + 1) // parts


@njit(error_model="numpy")
def coefficients(weight, bias, statistics, channels, c, one):
    """Mean, scale and shift as numbers of the dtype of the statistics: y = (x − mean) · scale + shift."""
    mean, left = get(statistics, MEAN * channels + c), get(statistics, LEFT * channels + c)
    rstd = get(statistics, RSTD * channels + c)
    scale = rounded(float(get(weight, c)) * rstd, one)
    return mean, scale, rounded(float(get(bias, c)) - float(left) * scale, one)


@njit(error_model="numpy")
def keep(statistics, channels, c, mean, var, eps, one):
    """Writes the statistics of a channel."""
    high = rounded(mean, one)
    put(statistics, MEAN * channels + c, high)
    put(statistics, LEFT * channels + c, rounded(mean - float(high), one))
    put(statistics, RSTD * channels + c, rounded(1 / math.sqrt(var + eps), one))
    put(statistics, VAR * channels + c, rounded(var, one))


@njit(error_model="numpy")
def merged(sums, at, parts, stride, between):
    """Mean and biased variance from the count, mean and squares of each part, which stand `between` from each other."""
    count, mean, squares = 0.0, 0.0, 0.0
    for part in range(parts):
        here = at + part * stride
        size = get(sums, here)
        if size > 0:
            together, apart = count + size, get(sums, here + between) - mean
            mean += apart * (size / together)
            squares += get(sums, here + 2 * between) + apart * apart * (count * size / together)
            count = together
    return mean, squares / count


@njit(error_model="numpy")
def forward(a, like, one, kind, added, given):
    """`given`: the statistics are, and only the map is to be computed."""
    me, threads = place_in_team(a)
    phase, parts, samples, channels, length, past, ahead = head(a)
    eps, slope = double(get(a, 9)), fill(rounded(double(get(a, 10)), one))
    x, y, r = pointer(get(a, 11), like), pointer(get(a, 12), like), pointer(get(a, 13), like)
    weight, bias, statistics = pointer(get(a, 14), one), pointer(get(a, 15), one), pointer(get(a, 16), one)
    sums = pointer(get(a, 17), 0.0)
    stride = channels * length
    units = channels * parts
    begin_unit, end_unit = units * me // threads, units * (me + 1) // threads
    for unit in range(begin_unit, end_unit):
        c, part = unit // parts, unit % parts
        begin, end, left, right = share_of(part, parts, samples, length)
        here = begin * stride + c * length + left
        if not given and phase != REST:
            found = (0.0, 0.0, 0.0)
            if end > begin and right > left:
                found = moments(offset(x, here), end - begin, stride, right - left, one)
            if phase == SUMS:
                for k in range(3):
                    put(sums, 3 * unit + k, found[k])
                continue
            keep(statistics, channels, c, found[1], found[2] / found[0], eps, one)
        elif not given:
            mean, var = merged(sums, 3 * c * parts, parts, 3, 1)
            keep(statistics, channels, c, mean, var, eps, one)  # each part the same
        m, scale, shift = coefficients(weight, bias, statistics, channels, c, one)
        mapped(
            offset(x, here), offset(r, here), offset(y, here), end - begin, stride, right - left,
            m, scale, shift, slope, kind, added, past, ahead if unit + 1 < end_unit else 0,
        )  # fmt: skip


@njit(error_model="numpy")
def backward(a, like, one, kind, added, given):
    """`given`: the statistics did not depend on x."""
    me, threads = place_in_team(a)
    phase, parts, samples, channels, length, past, ahead = head(a)
    slope = fill(rounded(double(get(a, 9)), one))
    dy, x, r = pointer(get(a, 10), like), pointer(get(a, 11), like), pointer(get(a, 12), like)
    dx, dr = pointer(get(a, 13), like), pointer(get(a, 14), like)
    weight, bias, statistics = pointer(get(a, 15), one), pointer(get(a, 16), one), pointer(get(a, 17), one)
    dweight, dbias, sums = pointer(get(a, 18), one), pointer(get(a, 19), one), pointer(get(a, 20), 0.0)
    stride = channels * length
    units = channels * parts
    begin_unit, end_unit = units * me // threads, units * (me + 1) // threads
    for unit in range(begin_unit, end_unit):
        c, part = unit // parts, unit % parts
        begin, end, left, right = share_of(part, parts, samples, length)
        here = begin * stride + c * length + left
        m, scale, shift = coefficients(weight, bias, statistics, channels, c, one)
        of_g, of_gx = 0.0, 0.0
        if phase != REST:
            if end > begin and right > left:
                of_g, of_gx = gradient_sums(
                    offset(dy, here), offset(x, here), offset(r, here), end - begin, stride, right - left,
                    m, scale, shift, slope, kind, added,
                )  # fmt: skip
            if phase == SUMS:
                put(sums, 2 * unit, of_g)
                put(sums, 2 * unit + 1, of_gx)
                continue
        else:
            for other in range(c * parts, (c + 1) * parts):
                of_g += get(sums, 2 * other)
                of_gx += get(sums, 2 * other + 1)
        per_x, per_one = finished(
            of_g, of_gx, statistics, weight, dweight, dbias, channels, c, samples * length, given, one
        )
        mapped_back(
            offset(dy, here), offset(x, here), offset(r, here), offset(dx, here), offset(dr, here),
            end - begin, stride, right - left, m, scale, shift, per_x, per_one, slope, kind, added, past,
            ahead if unit + 1 < end_unit else 0, given,
        )  # fmt: skip


@njit(error_model="numpy")
def finished(of_g, of_gx, statistics, weight, dweight, dbias, channels, c, count, given, one):
    """Writes the gradients of a channel's parameters, and returns the rest of dx, per (x − mean) and per value."""
    left, rstd = float(get(statistics, LEFT * channels + c)), float(get(statistics, RSTD * channels + c))
    along = (of_gx - left * of_g) * rstd
    put(dweight, c, rounded(along, one))
    put(dbias, c, rounded(of_g, one))
    if given:
        return rounded(0.0, one), rounded(0.0, one)
    scale = float(get(weight, c)) * rstd
    per_x = -scale * rstd * along / count
    return rounded(per_x, one), rounded(-scale * of_g / count - per_x * left, one)
