"""Batch norm of (rows, C), the channels last in memory: read twice, the second time backwards, from what the cache has.

Slices of channels that stay in the cache between the readings are slower, by a tenth at 128 channels to a half at 16,
as little of each line of memory and page is read then.
"""

import numpy as np
from numba import njit

from normlab.kernels.cpu.jitted.activation import activated, passed_back
from normlab.kernels.cpu.jitted.batch_norm import REST, SUMS, coefficients, finished, head, keep, merged, place_in_team
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
    prefetch,
    put,
    rounded,
    store,
    store_first,
    stream,
    sub,
    zeros,
)  # fmt: skip

# Rows between two merges in float64, and rows that are summed at a time, as the sums lie in memory. For the gradient
# two, but a single one of so many channels on: what is read in order the processor fetches by itself. Backward of
# (32, 256, 28, 28) takes 3.2 ms in the place of 3.6, in bfloat16 1.9 in the place of 2.4.
BLOCK, TOGETHER, WIDE = 128, 4, 256


@njit(error_model="numpy")
def forward(a, like, one, kind, added, given):
    """`given`: the statistics are, and only the map is to be computed."""
    me, threads = place_in_team(a)
    phase, parts, rows, channels, past, padded, _ = head(a)
    eps, slope = double(get(a, 9)), fill(rounded(double(get(a, 10)), one))
    x, y, r = pointer(get(a, 11), like), pointer(get(a, 12), like), pointer(get(a, 13), like)
    weight, bias, statistics = pointer(get(a, 14), one), pointer(get(a, 15), one), pointer(get(a, 16), one)
    sums, work = pointer(get(a, 17), 0.0), pointer(get(a, 18), one)
    for part in range(parts * me // threads, parts * (me + 1) // threads):
        begin, end = rows * part // parts, rows * (part + 1) // parts
        mine = offset(work, part * 3 * padded)
        if not given and phase != REST:
            _moments(x, begin, end, channels, padded, mine, offset(sums, part * 3 * padded), one)
        if phase == SUMS:
            continue
        if not given:
            for c in range(channels):
                mean, var = merged(sums, c, parts, 3 * padded, padded)
                keep(statistics, channels, c, mean, var, eps, one)  # each part the same
        coefficients_abreast(mine, padded, weight, bias, statistics, channels, 0, channels, 1, one)
        mapped(x, r, y, begin, end, channels, channels, padded, mine, slope, kind, added, past, 0)


@njit(error_model="numpy")
def put_abreast(to, c, length, value):
    """Writes what belongs to a channel into each of its columns."""
    for k in range(c * length, (c + 1) * length):
        put(to, k, value)


@njit(error_model="numpy")
def coefficients_abreast(work, padded, weight, bias, statistics, channels, begin, end, length, one):
    """Mean, scale and shift of some of the channels, a row each, for each of their columns."""
    for c in range(end - begin):
        m, scale, shift = coefficients(weight, bias, statistics, channels, begin + c, one)
        put_abreast(work, c, length, m)
        put_abreast(offset(work, padded), c, length, scale)
        put_abreast(offset(work, 2 * padded), c, length, shift)


@njit(error_model="numpy")
def _moments(x, begin, end, channels, padded, work, sums, one):
    """Count, mean and Σ (x − mean)² of each channel, over some of the rows; as `runs.moments`, all channels abreast."""
    s, q, about = work, offset(work, padded), offset(work, 2 * padded)
    means, squares = offset(sums, padded), offset(sums, 2 * padded)
    _start(x, begin, min(begin + WIDTH, end), channels, about, one)
    for c in range(channels):
        put(means, c, 0.0)
        put(squares, c, 0.0)
    row = begin
    while row < end:
        upto = min(row + BLOCK, end)
        size, count = float(upto - row), float(row - begin)
        sums_about(x, row, upto, channels, channels, s, q, about)
        far = False
        for c in range(channels):
            away = np.float64(get(s, c))
            far |= away * away > (np.float64(get(q, c)) - away * away / size) * size
        if far:
            for c in range(channels):
                put(about, c, rounded(np.float64(get(about, c)) + np.float64(get(s, c)) / size, one))
            sums_about(x, row, upto, channels, channels, s, q, about)
        for c in range(channels):
            away, mean = np.float64(get(s, c)), get(means, c)
            apart = np.float64(get(about, c)) + away / size - mean
            mean += apart * (size / (count + size))
            spread = np.float64(get(q, c)) - away * away / size
            put(means, c, mean)
            put(squares, c, get(squares, c) + spread + apart * apart * (count * size / (count + size)))
            put(about, c, rounded(mean, one))
        row = upto
    for c in range(channels):
        put(sums, c, float(end - begin))


@njit(error_model="numpy")
def _start(x, begin, end, channels, about, one):
    """The mean of the first rows: near enough to sum about."""
    share = fill(rounded(1.0 / max(end - begin, 1), one))
    for c in range(0, channels, WIDTH):
        some, start = min(WIDTH, channels - c), zeros(x)
        for row in range(begin, end):
            start = add(start, load_first(x, row * channels + c, some))
        store(about, c, mul(start, share))


@njit(error_model="numpy")
def sums_about(x, begin, end, stride, width, s, q, about):
    """Σ (x − about) and Σ (x − about)² of each channel; four rows at a time, as the sums lie in memory."""
    for c in range(0, width, WIDTH):
        store(s, c, zeros(x))
        store(q, c, zeros(x))
    whole = width - width % WIDTH
    row = begin
    while row < end:
        here = offset(x, row * stride)
        if row + TOGETHER <= end:
            for c in range(0, whole, WIDTH):
                k = load(about, c)
                for line in range(TOGETHER):
                    prefetch(here, (TOGETHER + line) * stride + c)
                x0, x1 = sub(load(here, c), k), sub(load(here, stride + c), k)
                x2, x3 = sub(load(here, 2 * stride + c), k), sub(load(here, 3 * stride + c), k)
                store(s, c, add(load(s, c), add(add(x0, x1), add(x2, x3))))
                store(q, c, fma(x0, x0, fma(x1, x1, fma(x2, x2, fma(x3, x3, load(q, c))))))
            rows = TOGETHER
        else:
            for c in range(0, whole, WIDTH):
                x0 = sub(load(here, c), load(about, c))
                store(s, c, add(load(s, c), x0))
                store(q, c, fma(x0, x0, load(q, c)))
            rows = 1
        for each in range(rows if whole < width else 0):
            x0 = sub(load_first(here, each * stride + whole, width - whole), load(about, whole))
            store(s, whole, add(load(s, whole), x0))
            store(q, whole, fma(x0, x0, load(q, whole)))
        row += rows


@njit(error_model="numpy")
def mapped(x, r, y, begin, end, stride, width, padded, work, slope, kind, added, past, ahead):
    """Backwards in blocks: what was read last is still in the cache. `ahead`: as in `runs.mapped`."""
    whole = width - width % WIDTH
    block = end
    while block > begin:
        first_row = max(block - BLOCK, begin)
        for row in range(first_row, block):
            here = row * stride
            for c in range(0, whole, WIDTH):
                if ahead:
                    prefetch(x, here + c + ahead)
                z = fma(sub(load(x, here + c), load(work, c)), load(work, padded + c), load(work, 2 * padded + c))
                if added:
                    z = add(z, load(r, here + c))
                z = activated(z, kind, slope)
                if past:
                    stream(y, here + c, z)
                else:
                    store(y, here + c, z)
            if whole < width:
                c, rest = whole, width - whole
                z = fma(
                    sub(load_first(x, here + c, rest), load(work, c)),
                    load(work, padded + c),
                    load(work, 2 * padded + c),
                )
                if added:
                    z = add(z, load_first(r, here + c, rest))
                store_first(y, here + c, activated(z, kind, slope), rest)
        block = first_row


@njit(error_model="numpy")
def backward(a, like, one, kind, added, given):
    """`given`: the statistics did not depend on x."""
    me, threads = place_in_team(a)
    phase, parts, rows, channels, past, padded, _ = head(a)
    slope = fill(rounded(double(get(a, 9)), one))
    dy, x, r = pointer(get(a, 10), like), pointer(get(a, 11), like), pointer(get(a, 12), like)
    dx, dr = pointer(get(a, 13), like), pointer(get(a, 14), like)
    weight, bias, statistics = pointer(get(a, 15), one), pointer(get(a, 16), one), pointer(get(a, 17), one)
    dweight, dbias = pointer(get(a, 18), one), pointer(get(a, 19), one)
    sums, work = pointer(get(a, 20), 0.0), pointer(get(a, 21), one)
    for part in range(parts * me // threads, parts * (me + 1) // threads):
        begin, end = rows * part // parts, rows * (part + 1) // parts
        mine = offset(work, part * 5 * padded)
        coefficients_abreast(mine, padded, weight, bias, statistics, channels, 0, channels, 1, one)
        if phase != REST:
            its = offset(sums, part * 2 * padded)
            gradient_sums(dy, x, r, begin, end, channels, channels, padded, mine, its, slope, kind, added)
        if phase == SUMS:
            continue
        for c in range(channels):
            of_g, of_gx = 0.0, 0.0
            for other in range(parts):
                of_g += get(sums, other * 2 * padded + c)
                of_gx += get(sums, (other * 2 + 1) * padded + c)
            per_x, per_one = finished(of_g, of_gx, statistics, weight, dweight, dbias, channels, c, rows, given, one)
            put(mine, 3 * padded + c, per_x)
            put(mine, 4 * padded + c, per_one)
        mapped_back(dy, x, r, dx, dr, begin, end, channels, channels, padded, mine, slope, kind, added, past, 0, given)


@njit(error_model="numpy")
def gradient_sums(dy, x, r, begin, end, stride, width, padded, work, sums, slope, kind, added):
    """Σ g and Σ g·(x − mean) of each channel over some of the rows."""
    s, t = offset(work, 3 * padded), offset(work, 4 * padded)
    whole, abreast = width - width % WIDTH, 1 if width >= WIDE else 2
    for c in range(2 * padded):
        put(sums, c, 0.0)
    row = begin
    while row < end:
        upto = min(row + BLOCK, end)
        for c in range(0, width, WIDTH):
            store(s, c, zeros(x))
            store(t, c, zeros(x))
        while row < upto:
            rows = min(abreast, upto - row)
            for c in range(0, whole, WIDTH):
                m, scale, shift = load(work, c), load(work, padded + c), load(work, 2 * padded + c)
                of_g, of_gx = load(s, c), load(t, c)
                for k in range(rows):
                    at = (row + k) * stride + c
                    centered = sub(load(x, at), m)
                    z = fma(centered, scale, shift)
                    if added:
                        z = add(z, load(r, at))
                    g = passed_back(load(dy, at), z, kind, slope)
                    of_g, of_gx = add(of_g, g), fma(g, centered, of_gx)
                store(s, c, of_g)
                store(t, c, of_gx)
            for k in range(rows if whole < width else 0):
                at, rest = (row + k) * stride + whole, width - whole
                centered = sub(load_first(x, at, rest), load(work, whole))
                z = fma(centered, load(work, padded + whole), load(work, 2 * padded + whole))
                if added:
                    z = add(z, load_first(r, at, rest))
                g = passed_back(load_first(dy, at, rest), z, kind, slope)
                store(s, whole, add(load(s, whole), g))
                store(t, whole, fma(g, centered, load(t, whole)))
            row += rows
        for c in range(width):
            put(sums, c, get(sums, c) + float(get(s, c)))
            put(sums, padded + c, get(sums, padded + c) + float(get(t, c)))


@njit(error_model="numpy")
def mapped_back(dy, x, r, dx, dr, begin, end, stride, width, padded, work, slope, kind, added, past, ahead, given):
    whole = width - width % WIDTH
    block = end
    while block > begin:
        first_row = max(block - BLOCK, begin)
        for row in range(first_row, block):
            here = row * stride
            for c in range(0, whole, WIDTH):
                at, scale = here + c, load(work, padded + c)
                if ahead:
                    prefetch(x, at + ahead)
                    prefetch(dy, at + ahead)
                centered = sub(load(x, at), load(work, c))
                z = fma(centered, scale, load(work, 2 * padded + c))
                if added:
                    z = add(z, load(r, at))
                g = passed_back(load(dy, at), z, kind, slope)
                rest_of_it = fma(centered, load(work, 3 * padded + c), load(work, 4 * padded + c))
                d = mul(g, scale) if given else fma(g, scale, rest_of_it)
                if past:
                    stream(dx, at, d)
                else:
                    store(dx, at, d)
                if added:
                    if past:
                        stream(dr, at, g)
                    else:
                        store(dr, at, g)
            if whole < width:
                at, rest, c = here + whole, width - whole, whole
                scale = load(work, padded + c)
                centered = sub(load_first(x, at, rest), load(work, c))
                z = fma(centered, scale, load(work, 2 * padded + c))
                if added:
                    z = add(z, load_first(r, at, rest))
                g = passed_back(load_first(dy, at, rest), z, kind, slope)
                rest_of_it = fma(centered, load(work, 3 * padded + c), load(work, 4 * padded + c))
                d = mul(g, scale) if given else fma(g, scale, rest_of_it)
                store_first(dx, at, d, rest)
                if added:
                    store_first(dr, at, g, rest)
        block = first_row
