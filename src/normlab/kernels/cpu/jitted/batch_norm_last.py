"""Batch norm of (rows, C), the channels last in memory: read twice, the second time backwards, from what the cache has.

Slices of channels that stay in the cache between the readings are slower, by a tenth at 128 channels to a half at 16,
as little of each line of memory and page is read then. What is computed of each channel is done in lanes too: of 512
channels one by one it took a quarter of the forward.
"""

from numba import njit

from normlab.kernels.cpu.jitted.abreast import BLOCK, gradient_sums, mapped, mapped_back, sums_about
from normlab.kernels.cpu.jitted.across import any_above, square_root
from normlab.kernels.cpu.jitted.batch_norm import LEFT, MEAN, REST, RSTD, SUMS, VAR, head, place_in_team
from normlab.kernels.cpu.jitted.lanes import (
    WIDTH,
    add,
    div,
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
    sub,
    wide,
    zeros,
)  # fmt: skip


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
            _keep(sums, parts, padded, statistics, channels, eps, one)  # each part the same
        _coefficients(mine, padded, weight, bias, statistics, channels, one)
        mapped(x, r, y, begin, end, channels, channels, padded, mine, slope, kind, added, past, 0)


@njit(error_model="numpy")
def _moments(x, begin, end, channels, padded, work, sums, one):
    """Count, mean and Σ (x − mean)² of each channel, over some of the rows; as `runs.moments`, all channels abreast."""
    s, q, about = work, offset(work, padded), offset(work, 2 * padded)
    means, squares = offset(sums, padded), offset(sums, 2 * padded)
    _start(x, begin, min(begin + WIDTH, end), channels, about, one)
    for c in range(2 * padded):
        put(means, c, 0.0)
    row = begin
    while row < end:
        upto = min(row + BLOCK, end)
        sums_about(x, row, upto, channels, channels, s, q, about)
        size, count = float(upto - row), float(row - begin)
        all_of_it, share = fill(size), fill(1 / size)
        far = False
        for c in range(0, channels, WIDTH):
            away = wide(load(s, c))
            square = mul(away, away)
            spread = sub(wide(load(q, c)), mul(square, share))
            far |= any_above(square, mul(spread, all_of_it), min(WIDTH, channels - c))
        if far:
            for c in range(0, channels, WIDTH):
                store(about, c, rounded(fma(wide(load(s, c)), share, wide(load(about, c))), one))
            sums_about(x, row, upto, channels, channels, s, q, about)
        part, weight = fill(size / (count + size)), fill(count * size / (count + size))
        for c in range(0, channels, WIDTH):
            away, mean = wide(load(s, c)), load(means, c)
            apart = sub(fma(away, share, wide(load(about, c))), mean)
            spread = sub(wide(load(q, c)), mul(mul(away, away), share))
            mean = fma(apart, part, mean)
            store(means, c, mean)
            store(squares, c, fma(mul(apart, apart), weight, add(load(squares, c), spread)))
            store(about, c, rounded(mean, one))
        row = upto
    put(sums, 0, float(end - begin))


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
def _keep(sums, parts, padded, statistics, channels, eps, one):
    """Writes the statistics of each channel, from the moments of the parts."""
    for c in range(0, channels, WIDTH):
        some, count = min(WIDTH, channels - c), 0.0
        mean, squares = fill(0.0), fill(0.0)
        for part in range(parts):
            its = offset(sums, part * 3 * padded)
            size = get(its, 0)
            apart = sub(load(its, padded + c), mean)
            mean = fma(apart, fill(size / (count + size)), mean)
            between = mul(mul(apart, apart), fill(count * size / (count + size)))
            squares = add(squares, add(load(its, 2 * padded + c), between))
            count += size
        high, var = rounded(mean, one), div(squares, fill(count))
        store_first(statistics, MEAN * channels + c, high, some)
        store_first(statistics, LEFT * channels + c, rounded(sub(mean, wide(high)), one), some)
        rstd = div(fill(1.0), square_root(add(var, fill(eps))))
        store_first(statistics, RSTD * channels + c, rounded(rstd, one), some)
        store_first(statistics, VAR * channels + c, rounded(var, one), some)


@njit(error_model="numpy")
def _coefficients(work, padded, weight, bias, statistics, channels, one):
    """Mean, scale and shift, a row each; as `batch_norm.coefficients`."""
    for c in range(0, channels, WIDTH):
        some = min(WIDTH, channels - c)
        left = wide(load_first(statistics, LEFT * channels + c, some))
        rstd = wide(load_first(statistics, RSTD * channels + c, some))
        scale = rounded(mul(wide(load_first(weight, c, some)), rstd), one)
        store(work, c, load_first(statistics, MEAN * channels + c, some))
        store(work, padded + c, scale)
        shift = sub(wide(load_first(bias, c, some)), mul(left, wide(scale)))
        store(work, 2 * padded + c, rounded(shift, one))


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
        if phase != REST:
            _coefficients(mine, padded, weight, bias, statistics, channels, one)
            its = offset(sums, part * 2 * padded)
            gradient_sums(dy, x, r, begin, end, channels, channels, padded, mine, its, slope, kind, added)
        if phase == SUMS:
            continue
        _finish(sums, parts, padded, mine, weight, statistics, dweight, dbias, channels, rows, given, one)
        mapped_back(dy, x, r, dx, dr, begin, end, channels, channels, padded, mine, slope, kind, added, past, 0, given)


@njit(error_model="numpy")
def _finish(sums, parts, padded, work, weight, statistics, dweight, dbias, channels, rows, given, one):
    """The gradients of the parameters, and the rest of dx per (x − mean) and per value; as `batch_norm.finished`."""
    for c in range(0, channels, WIDTH):
        some = min(WIDTH, channels - c)
        of_g, of_gx = fill(0.0), fill(0.0)
        for part in range(parts):
            of_g = add(of_g, load(sums, part * 2 * padded + c))
            of_gx = add(of_gx, load(sums, (part * 2 + 1) * padded + c))
        left = wide(load_first(statistics, LEFT * channels + c, some))
        rstd = wide(load_first(statistics, RSTD * channels + c, some))
        along = mul(sub(of_gx, mul(left, of_g)), rstd)
        store_first(dweight, c, rounded(along, one), some)
        store_first(dbias, c, rounded(of_g, one), some)
        share = div(mul(wide(load_first(weight, c, some)), rstd), fill(-float(rows)))
        per_x = fill(0.0) if given else mul(share, mul(rstd, along))
        per_one = fill(0.0) if given else sub(mul(share, of_g), mul(per_x, left))
        store(work, 3 * padded + c, rounded(per_x, one))
        store(work, 4 * padded + c, rounded(per_one, one))
