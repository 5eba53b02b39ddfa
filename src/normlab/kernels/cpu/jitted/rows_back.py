"""The gradient of rows: their sums, with those of the columns, and dx. As in `rows`, of one or of four."""

from numba import njit

from normlab.kernels.cpu.jitted.lanes import (
    WIDTH,
    add,
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
    zeros,
)  # fmt: skip
from normlab.kernels.cpu.jitted.rows import hat, of_row

_jitted = njit(error_model="numpy", no_cpython_wrapper=True)


@_jitted
def sums_of_row(dy, x, weight, near, statistics, rows, begin, end, length, width, sums, products, centered):
    """Lanes of Σ g and Σ g·x_hat, g = dy · weight, join those of the columns before `begin`.

    `near`: Σ dy·x_hat of each column, and from `width` on Σ dy, unless the mean is left out. It has room for a full
    vector at the end, as what is stored in part could not be loaded again at once.
    """
    m, r, s = of_row(statistics, rows)
    of_g, of_gx = zeros(near), zeros(near)
    j = begin
    while j + WIDTH <= end:
        u, h = load(dy, j), hat(load(x, j), m, r, s, centered)
        g = mul(u, load(weight, j))
        of_gx = fma(g, h, of_gx)
        store(near, j, fma(u, h, load(near, j)))
        if centered:
            of_g = add(of_g, g)
            store(near, width + j, add(u, load(near, width + j)))
        j += WIDTH
    if j < end:
        few = end - j
        u, h = load_first(dy, j, few), hat(load_first(x, j, few), m, r, s, centered)
        g = mul(u, load_first(weight, j, few))
        of_gx = fma(g, h, of_gx)
        store(near, j, fma(u, h, load(near, j)))
        if centered:
            of_g = add(of_g, g)
            store(near, width + j, add(u, load(near, width + j)))
    if begin > 0:
        of_g, of_gx = add(of_g, load(sums, 0)), add(of_gx, load(products, 0))
    store(sums, 0, of_g)
    store(products, 0, of_gx)


@_jitted
def sums_of_four(dy, x, weight, near, statistics, rows, begin, end, length, width, sums, products, centered):
    """The same of four rows, from and to a full vector."""
    m0, r0, s0 = of_row(statistics, rows)
    m1, r1, s1 = of_row(offset(statistics, 1), rows)
    m2, r2, s2 = of_row(offset(statistics, 2), rows)
    m3, r3, s3 = of_row(offset(statistics, 3), rows)
    dy1, dy2, dy3 = offset(dy, length), offset(dy, 2 * length), offset(dy, 3 * length)
    x1, x2, x3 = offset(x, length), offset(x, 2 * length), offset(x, 3 * length)
    a0, a1, a2, a3 = zeros(near), zeros(near), zeros(near), zeros(near)
    b0, b1, b2, b3 = zeros(near), zeros(near), zeros(near), zeros(near)
    j = begin
    while j + WIDTH <= end:
        w = load(weight, j)
        u0, u1, u2, u3 = load(dy, j), load(dy1, j), load(dy2, j), load(dy3, j)
        h0, h1 = hat(load(x, j), m0, r0, s0, centered), hat(load(x1, j), m1, r1, s1, centered)
        h2, h3 = hat(load(x2, j), m2, r2, s2, centered), hat(load(x3, j), m3, r3, s3, centered)
        store(near, j, add(fma(u0, h0, fma(u1, h1, load(near, j))), fma(u2, h2, mul(u3, h3))))
        if centered:
            store(near, width + j, add(add(add(u0, u1), load(near, width + j)), add(u2, u3)))
        g0, g1, g2, g3 = mul(u0, w), mul(u1, w), mul(u2, w), mul(u3, w)
        b0, b1, b2, b3 = fma(g0, h0, b0), fma(g1, h1, b1), fma(g2, h2, b2), fma(g3, h3, b3)
        if centered:
            a0, a1, a2, a3 = add(a0, g0), add(a1, g1), add(a2, g2), add(a3, g3)
        j += WIDTH
    if begin > 0:
        a0, b0 = add(a0, load(sums, 0)), add(b0, load(products, 0))
        a1, b1 = add(a1, load(sums, WIDTH)), add(b1, load(products, WIDTH))
        a2, b2 = add(a2, load(sums, 2 * WIDTH)), add(b2, load(products, 2 * WIDTH))
        a3, b3 = add(a3, load(sums, 3 * WIDTH)), add(b3, load(products, 3 * WIDTH))
    store(sums, 0, a0)
    store(sums, WIDTH, a1)
    store(sums, 2 * WIDTH, a2)
    store(sums, 3 * WIDTH, a3)
    store(products, 0, b0)
    store(products, WIDTH, b1)
    store(products, 2 * WIDTH, b2)
    store(products, 3 * WIDTH, b3)


@_jitted
def gradient(u, w, h, r, p, c, centered):
    """(g + p + x_hat · c) · rstd of lanes; without a mean there is no p."""
    g = mul(u, w)
    return mul(fma(h, c, add(g, p) if centered else g), r)


@_jitted
def gradient_row(dy, x, dx, weight, statistics, rows, begin, length, per_one, per_hat, centered, past):
    """dx of a row, from a column on."""
    m, r, s = of_row(statistics, rows)
    p, c = fill(get(per_one, 0)), fill(get(per_hat, 0))
    j = begin
    while j + WIDTH <= length:
        d = gradient(load(dy, j), load(weight, j), hat(load(x, j), m, r, s, centered), r, p, c, centered)
        if past:
            stream(dx, j, d)
        else:
            store(dx, j, d)
        j += WIDTH
    if j < length:
        few = length - j
        h = hat(load_first(x, j, few), m, r, s, centered)
        store_first(dx, j, gradient(load_first(dy, j, few), load_first(weight, j, few), h, r, p, c, centered), few)


@_jitted
def gradient_four(dy, x, dx, weight, statistics, rows, length, per_one, per_hat, centered, past):
    """The same of four rows, up to the last full vector."""
    m0, r0, s0 = of_row(statistics, rows)
    m1, r1, s1 = of_row(offset(statistics, 1), rows)
    m2, r2, s2 = of_row(offset(statistics, 2), rows)
    m3, r3, s3 = of_row(offset(statistics, 3), rows)
    p0, p1, p2, p3 = fill(get(per_one, 0)), fill(get(per_one, 1)), fill(get(per_one, 2)), fill(get(per_one, 3))
    c0, c1, c2, c3 = fill(get(per_hat, 0)), fill(get(per_hat, 1)), fill(get(per_hat, 2)), fill(get(per_hat, 3))
    dy1, dy2, dy3 = offset(dy, length), offset(dy, 2 * length), offset(dy, 3 * length)
    x1, x2, x3 = offset(x, length), offset(x, 2 * length), offset(x, 3 * length)
    dx1, dx2, dx3 = offset(dx, length), offset(dx, 2 * length), offset(dx, 3 * length)
    j = 0
    while j + WIDTH <= length:
        w = load(weight, j)
        d0 = gradient(load(dy, j), w, hat(load(x, j), m0, r0, s0, centered), r0, p0, c0, centered)
        d1 = gradient(load(dy1, j), w, hat(load(x1, j), m1, r1, s1, centered), r1, p1, c1, centered)
        d2 = gradient(load(dy2, j), w, hat(load(x2, j), m2, r2, s2, centered), r2, p2, c2, centered)
        d3 = gradient(load(dy3, j), w, hat(load(x3, j), m3, r3, s3, centered), r3, p3, c3, centered)
        if past:
            stream(dx, j, d0)
            stream(dx1, j, d1)
            stream(dx2, j, d2)
            stream(dx3, j, d3)
        else:
            store(dx, j, d0)
            store(dx1, j, d1)
            store(dx2, j, d2)
            store(dx3, j, d3)
        j += WIDTH
