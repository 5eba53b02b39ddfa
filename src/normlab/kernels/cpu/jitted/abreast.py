"""Rows of channels that lie side by side: their sums and maps, each channel a lane.

Some rows at a time where they are wide: what is known of a channel is then loaded once for all of them. Narrow rows go
one by one, as they lie in memory, which the processor fetches ahead by itself.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

from normlab.kernels.cpu.jitted.activation import activated, passed_back
from normlab.kernels.cpu.jitted.lanes import (
    WIDTH,
    add,
    address,
    fma,
    load,
    load_first,
    mul,
    offset,
    prefetch,
    put,
    store,
    store_first,
    stream,
    sub,
    wide,
    zeros,
)  # fmt: skip

# Rows between two merges in float64.
BLOCK = 128
# Rows so many bytes apart go several at a time, so many for sums and so many for maps. Backward of (32, 2048, 7, 7)
# takes 1.9 ms in the place of 2.7, of (32, 1024, 14, 14) 3.8 in the place of 4.9. Nearer rows are faster one by one:
# the sums of (32, 256, 28, 28) by a quarter, its backward in bfloat16 by two fifths.
FAR, SUMMED, MAPPED = 4096, 8, 4
# Numbers of a page, and how far ahead the next ones are touched: backward of (32, 512, 28, 28) takes 8.8 ms in the
# place of 9.6. Forward, which reads one tensor, takes as long as without.
PAGE, AHEAD = 1024, 6144

_jitted = njit(error_model="numpy")


@_jitted
def is_far(x, stride):
    """Whether a row begins so many bytes from the one before."""
    return address(offset(x, stride)) - address(x) >= FAR


def _sums_of(rows: int) -> Callable[..., Any]:
    @_jitted
    def sums(x, stride, width, s, q, about):
        whole = width - width % WIDTH
        for c in range(0, whole, WIDTH):
            k, of_x, of_square = load(about, c), load(s, c), load(q, c)
            for row in range(rows):
                away = sub(load(x, row * stride + c), k)
                of_x, of_square = add(of_x, away), fma(away, away, of_square)
            store(s, c, of_x)
            store(q, c, of_square)
        for row in range(rows if whole < width else 0):
            away = sub(load_first(x, row * stride + whole, width - whole), load(about, whole))
            store(s, whole, add(load(s, whole), away))
            store(q, whole, fma(away, away, load(q, whole)))

    return sums


_sums_of_some, _sums_of_one = _sums_of(SUMMED), _sums_of(1)


@_jitted
def sums_about(x, begin, end, stride, width, s, q, about):
    """Σ (x − about) and Σ (x − about)² of each channel."""
    for c in range(0, width, WIDTH):
        store(s, c, zeros(x))
        store(q, c, zeros(x))
    row, far = begin, is_far(x, stride)
    while far and row + SUMMED <= end:
        _sums_of_some(offset(x, row * stride), stride, width, s, q, about)
        row += SUMMED
    while row < end:
        _sums_of_one(offset(x, row * stride), stride, width, s, q, about)
        row += 1


def _map_of(rows: int) -> Callable[..., Any]:
    @_jitted
    def map_(x, r, y, here, stride, width, padded, work, slope, kind, added, past, ahead):
        whole = width - width % WIDTH
        for c in range(0, whole, WIDTH):
            m, scale, shift = load(work, c), load(work, padded + c), load(work, 2 * padded + c)
            for row in range(rows):
                at = here + row * stride + c
                if ahead:
                    prefetch(x, at + ahead)
                z = fma(sub(load(x, at), m), scale, shift)
                if added:
                    z = add(z, load(r, at))
                z = activated(z, kind, slope)
                if past:
                    stream(y, at, z)
                else:
                    store(y, at, z)
        for row in range(rows if whole < width else 0):
            at, c, rest = here + row * stride + whole, whole, width - whole
            z = fma(sub(load_first(x, at, rest), load(work, c)), load(work, padded + c), load(work, 2 * padded + c))
            if added:
                z = add(z, load_first(r, at, rest))
            store_first(y, at, activated(z, kind, slope), rest)

    return map_


_map_of_some, _map_of_one = _map_of(MAPPED), _map_of(1)


@_jitted
def mapped(x, r, y, begin, end, stride, width, padded, work, slope, kind, added, past, ahead):
    """Backwards in blocks: what was read last is still in the cache. `ahead`: as in `runs.mapped`."""
    block, far = end, is_far(x, stride)
    while block > begin:
        row = first_row = max(block - BLOCK, begin)
        while far and row + MAPPED <= block:
            _map_of_some(x, r, y, row * stride, stride, width, padded, work, slope, kind, added, past, ahead)
            row += MAPPED
        while row < block:
            _map_of_one(x, r, y, row * stride, stride, width, padded, work, slope, kind, added, past, ahead)
            row += 1
        block = first_row


@_jitted
def _touch(dy, x, here, stride):
    """Of each page of two tensors that are read together a line some pages ahead, once a page."""
    if here % PAGE < stride:
        prefetch(x, here + AHEAD)
        prefetch(dy, here + AHEAD)


def _gradient_sums_of(rows: int) -> Callable[..., Any]:
    @_jitted
    def sums(dy, x, r, here, stride, width, padded, work, slope, kind, added):
        s, t = offset(work, 3 * padded), offset(work, 4 * padded)
        whole = width - width % WIDTH
        for c in range(0, whole, WIDTH):
            m, scale, shift = load(work, c), load(work, padded + c), load(work, 2 * padded + c)
            of_g, of_gx = load(s, c), load(t, c)
            for row in range(rows):
                at = here + row * stride + c
                centered = sub(load(x, at), m)
                z = fma(centered, scale, shift)
                if added:
                    z = add(z, load(r, at))
                g = passed_back(load(dy, at), z, kind, slope)
                of_g, of_gx = add(of_g, g), fma(g, centered, of_gx)
            store(s, c, of_g)
            store(t, c, of_gx)
        for row in range(rows if whole < width else 0):
            at, rest = here + row * stride + whole, width - whole
            centered = sub(load_first(x, at, rest), load(work, whole))
            z = fma(centered, load(work, padded + whole), load(work, 2 * padded + whole))
            if added:
                z = add(z, load_first(r, at, rest))
            g = passed_back(load_first(dy, at, rest), z, kind, slope)
            store(s, whole, add(load(s, whole), g))
            store(t, whole, fma(g, centered, load(t, whole)))

    return sums


_gradient_sums_of_some, _gradient_sums_of_one = _gradient_sums_of(SUMMED), _gradient_sums_of(1)


@_jitted
def gradient_sums(dy, x, r, begin, end, stride, width, padded, work, sums, slope, kind, added):
    """Σ g and Σ g·(x − mean) of each channel over some of the rows."""
    s, t = offset(work, 3 * padded), offset(work, 4 * padded)
    for c in range(2 * padded):
        put(sums, c, 0.0)
    row, far = begin, is_far(x, stride)
    while row < end:
        upto = min(row + BLOCK, end)
        for c in range(0, width, WIDTH):
            store(s, c, zeros(x))
            store(t, c, zeros(x))
        while far and row + SUMMED <= upto:
            _gradient_sums_of_some(dy, x, r, row * stride, stride, width, padded, work, slope, kind, added)
            row += SUMMED
        while row < upto:
            _touch(dy, x, row * stride, stride)
            _gradient_sums_of_one(dy, x, r, row * stride, stride, width, padded, work, slope, kind, added)
            row += 1
        for c in range(0, width, WIDTH):
            store(sums, c, add(load(sums, c), wide(load(s, c))))
            store(sums, padded + c, add(load(sums, padded + c), wide(load(t, c))))


def _map_back_of(rows: int) -> Callable[..., Any]:
    @_jitted
    def map_(dy, x, r, dx, dr, here, stride, width, padded, work, slope, kind, added, past, ahead, given):
        whole = width - width % WIDTH
        for c in range(0, whole, WIDTH):
            m, scale, shift = load(work, c), load(work, padded + c), load(work, 2 * padded + c)
            per_x, per_one = load(work, 3 * padded + c), load(work, 4 * padded + c)
            for row in range(rows):
                at = here + row * stride + c
                if ahead:
                    prefetch(x, at + ahead)
                    prefetch(dy, at + ahead)
                centered = sub(load(x, at), m)
                z = fma(centered, scale, shift)
                if added:
                    z = add(z, load(r, at))
                g = passed_back(load(dy, at), z, kind, slope)
                d = mul(g, scale) if given else fma(g, scale, fma(centered, per_x, per_one))
                if past:
                    stream(dx, at, d)
                else:
                    store(dx, at, d)
                if added:
                    if past:
                        stream(dr, at, g)
                    else:
                        store(dr, at, g)
        for row in range(rows if whole < width else 0):
            at, rest, c = here + row * stride + whole, width - whole, whole
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

    return map_


_map_back_of_some, _map_back_of_one = _map_back_of(MAPPED), _map_back_of(1)


@_jitted
def mapped_back(dy, x, r, dx, dr, begin, end, stride, width, padded, work, slope, kind, added, past, ahead, given):
    """dx and the gradient of the residual, as `mapped`."""
    block, far = end, is_far(x, stride)
    while block > begin:
        row = first_row = max(block - BLOCK, begin)
        while far and row + MAPPED <= block:
            _map_back_of_some(
                dy, x, r, dx, dr, row * stride, stride, width, padded, work, slope, kind, added, past, ahead, given
            )
            row += MAPPED
        while row < block:
            _touch(dy, x, row * stride, stride)
            _map_back_of_one(
                dy, x, r, dx, dr, row * stride, stride, width, padded, work, slope, kind, added, past, ahead, given
            )
            row += 1
        block = first_row
