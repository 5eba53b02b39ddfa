"""What may follow a norm, on lanes: its value, and its gradient from the value before it."""

from numba import njit

from normlab.kernels.cpu.jitted.lanes import (
    add,
    clamped,
    constant,
    div,
    fma,
    mul,
    nearest,
    power_of_two,
    sub,
    where_positive,
)

NONE, RELU, LEAKY_RELU, SILU, GELU = range(5)
CODES = {"none": NONE, "relu": RELU, "leaky_relu": LEAKY_RELU, "silu": SILU, "gelu": GELU}


@njit(error_model="numpy")
def activated(z, kind, slope):
    """`slope`: of leaky ReLU."""
    if kind == RELU:
        return where_positive(z, z, constant(z, 0.0))
    if kind == LEAKY_RELU:
        return where_positive(z, z, mul(z, slope))
    if kind == SILU:
        return mul(z, _sigmoid(z))
    if kind == GELU:
        return mul(z, _normal(z))
    return z


@njit(error_model="numpy")
def passed_back(dy, z, kind, slope):
    """`dy` times the derivative at `z`."""
    if kind == RELU:
        return where_positive(z, dy, constant(z, 0.0))
    if kind == LEAKY_RELU:
        return where_positive(z, dy, mul(dy, slope))
    if kind == SILU:
        share = _sigmoid(z)
        return mul(mul(dy, share), fma(z, sub(constant(z, 1.0), share), constant(z, 1.0)))
    if kind == GELU:
        density = mul(_exp(mul(mul(z, z), constant(z, -0.5))), constant(z, 0.3989422804014327))
        return mul(dy, fma(z, density, _normal(z)))
    return dy


@njit(error_model="numpy")
def _sigmoid(z):
    one = constant(z, 1.0)
    return div(one, add(one, _exp(sub(constant(z, 0.0), z))))


@njit(error_model="numpy")
def _normal(z):
    """The normal distribution, erfc(−z/√2)/2, to 1.2e-7 of itself: Press et al., Numerical Recipes, section 6.2."""
    x = mul(z, constant(z, 0.7071067811865476))
    size = where_positive(x, x, sub(constant(z, 0.0), x))
    t = div(constant(z, 1.0), fma(size, constant(z, 0.5), constant(z, 1.0)))
    p = constant(z, 0.17087277)
    p = fma(p, t, constant(z, -0.82215223))
    p = fma(p, t, constant(z, 1.48851587))
    p = fma(p, t, constant(z, -1.13520398))
    p = fma(p, t, constant(z, 0.27886807))
    p = fma(p, t, constant(z, -0.18628806))
    p = fma(p, t, constant(z, 0.09678418))
    p = fma(p, t, constant(z, 0.37409196))
    p = fma(p, t, constant(z, 1.00002368))
    p = fma(p, t, constant(z, -1.26551223))
    tail = mul(mul(t, constant(z, 0.5)), _exp(sub(p, mul(size, size))))
    return where_positive(x, sub(constant(z, 1.0), tail), tail)


@njit(error_model="numpy")
def _exp(x):
    """To 1e-7 of itself in float32, between the smallest and the largest normal number; by the polynomial of Cephes."""
    x = clamped(x, constant(x, -87.0), constant(x, 88.0))
    k = nearest(mul(x, constant(x, 1.4426950408889634)))
    r = fma(k, constant(x, -0.693359375), x)
    r = fma(k, constant(x, 2.12194440e-4), r)
    p = constant(x, 1.9875691500e-4)
    p = fma(p, r, constant(x, 1.3981999507e-3))
    p = fma(p, r, constant(x, 8.3334519073e-3))
    p = fma(p, r, constant(x, 4.1665795894e-2))
    p = fma(p, r, constant(x, 1.6666665459e-1))
    p = fma(p, r, constant(x, 5.0000001201e-1))
    return mul(add(fma(mul(p, r), r, r), constant(x, 1.0)), power_of_two(k))
