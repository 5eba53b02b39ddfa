"""Runs of numbers that follow one another in memory and share one mean: their moments, the map, and its gradient.

A set is `runs` runs of `length` numbers, `stride` apart: a channel of a batch has a run a sample, a row has one.
"""

from numba import njit

from normlab.kernels.cpu.jitted.activation import activated, passed_back
from normlab.kernels.cpu.jitted.lanes import (
    WIDTH,
    add,
    address,
    fill,
    first,
    fma,
    load,
    load_first,
    mul,
    offset,
    prefetch,
    rounded,
    store,
    store_first,
    stream,
    sub,
    total,
    zeros,
)  # fmt: skip

# Numbers between two merges, 16 KB of float32: what stays in the first cache, should it be read a second time.
BLOCK = 4096
# Runs shorter than this get no help from the processor's own prefetching, as each begins elsewhere: at 7 × 7 the next
# channels are asked for while this one is read, 1.05 against 1.3 ms for (32, 2048, 7, 7).
SHORT, AHEAD = 1024, 2


@njit(error_model="numpy")
def moments(x, runs, stride, length, one):
    """Count, mean and Σ (x − mean)² of a set, in float64.

    Blocks are summed about a number near their mean, the mean of what came before, and merged as Chan, Golub & LeVeque
    (1979) do. Where it was not near, by more than the deviation, the block is summed again about its own mean.
    """
    count, mean, squares = 0.0, 0.0, 0.0
    about = total(load_first(x, 0, min(length, WIDTH))) / min(length, WIDTH)
    together = max(BLOCK // length, 1)
    run = 0
    while run < runs:
        some = min(together, runs - run)
        at = 0
        while at < length:
            part = min(BLOCK, length - at)
            here = offset(x, run * stride + at)
            about = float(rounded(about, one))
            ahead = length * AHEAD if length < SHORT else 0
            away, spread = _sums_about(here, some, stride, part, rounded(about, one), ahead)
            size = float(some * part)
            if away * away > (spread - away * away / size) * size:
                about = float(rounded(about + away / size, one))
                away, spread = _sums_about(here, some, stride, part, rounded(about, one), 0)
            block_mean = about + away / size
            block_squares = spread - away * away / size
            all_of_them = count + size
            apart = block_mean - mean
            mean += apart * (size / all_of_them)
            squares += block_squares + apart * apart * (count * size / all_of_them)
            count = all_of_them
            about = mean
            at += part
        run += some
    return count, mean, squares


@njit(error_model="numpy")
def _sums_about(x, runs, stride, length, about, ahead):
    """Σ (x − about) and Σ (x − about)²."""
    k = fill(about)
    s0, s1, s2, s3 = zeros(x), zeros(x), zeros(x), zeros(x)
    q0, q1, q2, q3 = zeros(x), zeros(x), zeros(x), zeros(x)
    rest = length % WIDTH
    for run in range(runs):
        here = offset(x, run * stride)
        for line in range(0, length if ahead else 0, WIDTH):
            prefetch(here, ahead + line)
        j = 0
        while j + 4 * WIDTH <= length:
            a, b = sub(load(here, j), k), sub(load(here, j + WIDTH), k)
            c, d = sub(load(here, j + 2 * WIDTH), k), sub(load(here, j + 3 * WIDTH), k)
            s0, s1, s2, s3 = add(s0, a), add(s1, b), add(s2, c), add(s3, d)
            q0, q1, q2, q3 = fma(a, a, q0), fma(b, b, q1), fma(c, c, q2), fma(d, d, q3)
            j += 4 * WIDTH
        if j + 2 * WIDTH <= length:
            a, b = sub(load(here, j), k), sub(load(here, j + WIDTH), k)
            s0, s1, q0, q1 = add(s0, a), add(s1, b), fma(a, a, q0), fma(b, b, q1)
            j += 2 * WIDTH
        if j + WIDTH <= length:
            a = sub(load(here, j), k)
            s2, q2 = add(s2, a), fma(a, a, q2)
        if rest:
            a = first(sub(load_first(here, length - rest, rest), k), rest)
            s3, q3 = add(s3, a), fma(a, a, q3)
    return total(add(add(s0, s1), add(s2, s3))), total(add(add(q0, q1), add(q2, q3)))


@njit(error_model="numpy")
def gradient_sums(dy, x, r, runs, stride, length, mean, scale, shift, slope, kind, added):
    """Σ g and Σ g·(x − mean) of a set, g what comes back through the activation and `mean` as it was rounded."""
    m, a, b = fill(mean), fill(scale), fill(shift)
    of_g, of_gx = 0.0, 0.0
    together = max(BLOCK // length, 1)
    run = 0
    while run < runs:
        some = min(together, runs - run)
        at = 0
        while at < length:
            part = min(BLOCK, length - at)
            s0, s1, t0, t1 = zeros(x), zeros(x), zeros(x), zeros(x)
            rest = part % WIDTH
            for each in range(run, run + some):
                j = each * stride + at
                end = j + part
                for line in range(0, length if length < SHORT else 0, WIDTH):
                    prefetch(x, j + length * AHEAD + line)
                    prefetch(dy, j + length * AHEAD + line)
                while j + 2 * WIDTH <= end:
                    c0, c1 = sub(load(x, j), m), sub(load(x, j + WIDTH), m)
                    z0, z1 = fma(c0, a, b), fma(c1, a, b)
                    if added:
                        z0, z1 = add(z0, load(r, j)), add(z1, load(r, j + WIDTH))
                    g0 = passed_back(load(dy, j), z0, kind, slope)
                    g1 = passed_back(load(dy, j + WIDTH), z1, kind, slope)
                    s0, s1 = add(s0, g0), add(s1, g1)
                    t0, t1 = fma(g0, c0, t0), fma(g1, c1, t1)
                    j += 2 * WIDTH
                if j + WIDTH <= end:
                    c0 = sub(load(x, j), m)
                    z0 = fma(c0, a, b)
                    if added:
                        z0 = add(z0, load(r, j))
                    g0 = passed_back(load(dy, j), z0, kind, slope)
                    s0, t0 = add(s0, g0), fma(g0, c0, t0)
                if rest:
                    j = end - rest
                    c0 = first(sub(load_first(x, j, rest), m), rest)
                    z0 = fma(c0, a, b)
                    if added:
                        z0 = add(z0, load_first(r, j, rest))
                    g0 = first(passed_back(load_first(dy, j, rest), z0, kind, slope), rest)
                    s1, t1 = add(s1, g0), fma(g0, c0, t1)
            of_g += total(add(s0, s1))
            of_gx += total(add(t0, t1))
            at += part
        run += some
    return of_g, of_gx


@njit(error_model="numpy")
def to_full_line(y, j, size):
    """How many numbers of `size` bytes there are before sixteen of them begin at a multiple of their size."""
    return -(address(offset(y, j)) // size) % WIDTH


@njit(error_model="numpy")
def mapped(x, r, y, runs, stride, length, mean, scale, shift, slope, kind, added, past, ahead):
    """y = activation((x − mean) · scale + shift + r) of a set; from `past` bytes a number on, past the caches.

    Of x the numbers `ahead` are asked for, those of the next set, as memory has nothing else to do.
    """
    m, a, b = fill(mean), fill(scale), fill(shift)
    for run in range(runs):
        j = run * stride
        end = j + length
        head = min(to_full_line(y, j, past), length) if past else 0
        if head:
            store_first(y, j, _at(x, r, j, head, m, a, b, slope, kind, added), head)
            j += head
        while j + WIDTH <= end:
            if ahead:
                prefetch(x, j + ahead)
            z = fma(sub(load(x, j), m), a, b)
            if added:
                z = add(z, load(r, j))
            z = activated(z, kind, slope)
            if past:
                stream(y, j, z)
            else:
                store(y, j, z)
            j += WIDTH
        if j < end:
            rest = end - j
            if length > WIDTH and not past:  # once more what was stored already
                j, rest = end - WIDTH, WIDTH
            store_first(y, j, _at(x, r, j, rest, m, a, b, slope, kind, added), rest)


@njit(error_model="numpy")
def _at(x, r, j, count, m, a, b, slope, kind, added):
    """Fewer than sixteen."""
    z = fma(sub(load_first(x, j, count), m), a, b)
    if added:
        z = add(z, load_first(r, j, count))
    return activated(z, kind, slope)


@njit(error_model="numpy")
def mapped_back(
    dy, x, r, dx, dr, runs, stride, length, mean, scale, shift, per_x, per_one, slope, kind, added, past,
    ahead, given,
):  # fmt: skip
    """dx = g · scale + (x − mean) · per_x + per_one of a set, and dr = g, which begins at a line as dx does.

    dx = g · scale if the statistics were given: what does not depend on x does not become NaN where x is infinite.
    """
    m, a, b, px, p1 = fill(mean), fill(scale), fill(shift), fill(per_x), fill(per_one)
    for run in range(runs):
        j = run * stride
        end = j + length
        head = min(to_full_line(dx, j, past), length) if past else 0
        if head:
            _back_at(dy, x, r, dx, dr, j, head, m, a, b, px, p1, slope, kind, added, given)
            j += head
        while j + WIDTH <= end:
            if ahead:
                prefetch(x, j + ahead)
                prefetch(dy, j + ahead)
            c = sub(load(x, j), m)
            z = fma(c, a, b)
            if added:
                z = add(z, load(r, j))
            g = passed_back(load(dy, j), z, kind, slope)
            d = mul(g, a) if given else fma(g, a, fma(c, px, p1))
            if past:
                stream(dx, j, d)
            else:
                store(dx, j, d)
            if added:
                if past:
                    stream(dr, j, g)
                else:
                    store(dr, j, g)
            j += WIDTH
        if j < end:
            rest = end - j
            if length > WIDTH and not past:
                j, rest = end - WIDTH, WIDTH
            _back_at(dy, x, r, dx, dr, j, rest, m, a, b, px, p1, slope, kind, added, given)


@njit(error_model="numpy")
def _back_at(dy, x, r, dx, dr, j, count, m, a, b, px, p1, slope, kind, added, given):
    """Fewer than sixteen."""
    c = sub(load_first(x, j, count), m)
    z = fma(c, a, b)
    if added:
        z = add(z, load_first(r, j, count))
    g = passed_back(load_first(dy, j, count), z, kind, slope)
    store_first(dx, j, mul(g, a) if given else fma(g, a, fma(c, px, p1)), count)
    if added:
        store_first(dr, j, g, count)
