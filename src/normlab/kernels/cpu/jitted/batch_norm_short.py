"""Batch norm of (N, C, S) with few positions: N rows of C · S columns, of which S in a row are one channel.

Runs of four or 49 numbers would leave lanes empty and cost more around them than in them, and what is read of those of
some hundred lies in pages that are far from each other. Some channels at a time, so many that their columns stay in the
cache.
"""

import numpy as np
from numba import njit

from normlab.kernels.cpu.jitted.abreast import BLOCK, gradient_sums, mapped, mapped_back, sums_about
from normlab.kernels.cpu.jitted.batch_norm import coefficients, finished, head, keep, place_in_team
from normlab.kernels.cpu.jitted.lanes import (
    WIDTH,
    add,
    double,
    fill,
    get,
    load_first,
    offset,
    pointer,
    put,
    rounded,
    store_first,
    total,
    wide,
)


@njit(error_model="numpy")
def forward(a, like, one, kind, added, given):
    """`given`: the statistics are, and only the map is to be computed."""
    me, threads = place_in_team(a)
    samples, channels, length, some, padded, past, next_one = head(a)
    eps, slope = double(get(a, 9)), fill(rounded(double(get(a, 10)), one))
    x, y, r = pointer(get(a, 11), like), pointer(get(a, 12), like), pointer(get(a, 13), like)
    weight, bias, statistics = pointer(get(a, 14), one), pointer(get(a, 15), one), pointer(get(a, 16), one)
    sums, work = offset(pointer(get(a, 17), 0.0), me * 2 * padded), offset(pointer(get(a, 18), one), me * 3 * padded)
    stride = channels * length
    units = (channels + some - 1) // some
    begin_unit, end_unit = units * me // threads, units * (me + 1) // threads
    for unit in range(begin_unit, end_unit):
        ahead = next_one if unit + 1 < end_unit else 0
        begin, end = unit * some, min((unit + 1) * some, channels)
        at, width = begin * length, (end - begin) * length
        if not given:
            _moments(offset(x, at), samples, end - begin, length, stride, padded, work, sums, one)
            for c in range(end - begin):
                var = get(sums, padded + c) / (samples * length)
                keep(statistics, channels, begin + c, get(sums, c), var, eps, one)
        _coefficients(work, padded, weight, bias, statistics, channels, begin, end, length, one)
        mapped(
            offset(x, at), offset(r, at), offset(y, at), 0, samples, stride, width, padded, work, slope, kind, added,
            past, ahead,
        )  # fmt: skip


@njit(error_model="numpy")
def _put_abreast(to, c, length, value):
    """Writes what belongs to a channel into each of its columns."""
    for k in range(c * length, (c + 1) * length, WIDTH):
        store_first(to, k, fill(value), min(WIDTH, (c + 1) * length - k))


@njit(error_model="numpy")
def _coefficients(work, padded, weight, bias, statistics, channels, begin, end, length, one):
    """Mean, scale and shift of some of the channels, a row each, for each of their columns."""
    for c in range(end - begin):
        m, scale, shift = coefficients(weight, bias, statistics, channels, begin + c, one)
        _put_abreast(work, c, length, m)
        _put_abreast(offset(work, padded), c, length, scale)
        _put_abreast(offset(work, 2 * padded), c, length, shift)


@njit(error_model="numpy")
def _moments(x, samples, channels, length, stride, padded, work, sums, one):
    """Mean and Σ (x − mean)² of each channel; as `runs.moments`, all channels abreast."""
    s, q, about = work, offset(work, padded), offset(work, 2 * padded)
    means, squares = sums, offset(sums, padded)
    for c in range(channels):
        few = min(length, 16)
        start = total(load_first(x, c * length, few)) / few
        put(means, c, 0.0)
        put(squares, c, 0.0)
        _put_abreast(about, c, length, rounded(start, one))
    row = 0
    while row < samples:
        upto = min(row + BLOCK, samples)
        size, count = float((upto - row) * length), float(row * length)
        sums_about(x, row, upto, stride, channels * length, s, q, about)
        far = False
        for c in range(channels):
            away, spread = _of_channel(s, q, c, length)
            if away * away > (spread - away * away / size) * size:
                _put_abreast(about, c, length, rounded(np.float64(get(about, c * length)) + away / size, one))
                far = True
        if far:
            sums_about(x, row, upto, stride, channels * length, s, q, about)
        for c in range(channels):
            away, spread = _of_channel(s, q, c, length)
            mean = get(means, c)
            apart = np.float64(get(about, c * length)) + away / size - mean
            mean += apart * (size / (count + size))
            spread -= away * away / size
            put(means, c, mean)
            put(squares, c, get(squares, c) + spread + apart * apart * (count * size / (count + size)))
            if upto < samples:
                _put_abreast(about, c, length, rounded(mean, one))
        row = upto


@njit(error_model="numpy")
def _of_channel(s, q, c, length):
    """The sums of a channel, over its columns."""
    of_s, of_q = fill(0.0), fill(0.0)
    for k in range(c * length, (c + 1) * length, WIDTH):
        some = min(WIDTH, (c + 1) * length - k)
        of_s, of_q = add(of_s, wide(load_first(s, k, some))), add(of_q, wide(load_first(q, k, some)))
    return total(of_s), total(of_q)


@njit(error_model="numpy")
def backward(a, like, one, kind, added, given):
    """`given`: the statistics did not depend on x."""
    me, threads = place_in_team(a)
    samples, channels, length, some, padded, past, next_one = head(a)
    slope = fill(rounded(double(get(a, 9)), one))
    dy, x, r = pointer(get(a, 10), like), pointer(get(a, 11), like), pointer(get(a, 12), like)
    dx, dr = pointer(get(a, 13), like), pointer(get(a, 14), like)
    weight, bias, statistics = pointer(get(a, 15), one), pointer(get(a, 16), one), pointer(get(a, 17), one)
    dweight, dbias = pointer(get(a, 18), one), pointer(get(a, 19), one)
    sums, work = offset(pointer(get(a, 20), 0.0), me * 2 * padded), offset(pointer(get(a, 21), one), me * 5 * padded)
    stride = channels * length
    units = (channels + some - 1) // some
    begin_unit, end_unit = units * me // threads, units * (me + 1) // threads
    for unit in range(begin_unit, end_unit):
        ahead = next_one if unit + 1 < end_unit else 0
        begin, end = unit * some, min((unit + 1) * some, channels)
        at, width = begin * length, (end - begin) * length
        _coefficients(work, padded, weight, bias, statistics, channels, begin, end, length, one)
        gradient_sums(
            offset(dy, at), offset(x, at), offset(r, at), 0, samples, stride, width, padded, work, sums, slope, kind,
            added,
        )  # fmt: skip
        for c in range(end - begin):
            of_g, of_gx = _of_channel(sums, offset(sums, padded), c, length)
            per_x, per_one = finished(
                of_g, of_gx, statistics, weight, dweight, dbias, channels, begin + c, samples * length, given, one
            )
            _put_abreast(offset(work, 3 * padded), c, length, per_x)
            _put_abreast(offset(work, 4 * padded), c, length, per_one)
        mapped_back(
            offset(dy, at), offset(x, at), offset(r, at), offset(dx, at), offset(dr, at), 0, samples, stride, width,
            padded, work, slope, kind, added, past, ahead, given,
        )  # fmt: skip
