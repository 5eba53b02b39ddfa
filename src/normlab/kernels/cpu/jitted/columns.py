"""Sums of columns or channels that each thread keeps for itself, in float64, and one adds up in the end."""

from numba import njit

from normlab.kernels.cpu.jitted.lanes import get, put

LINE = 16  # numbers: what a thread keeps is a multiple of it, so that no two write to one line of memory

_jitted = njit(error_model="numpy", no_cpython_wrapper=True)


@_jitted
def lines(count):
    """So many numbers, up to full lines."""
    return (count + LINE - 1) // LINE * LINE


@_jitted
def merge(gradients, sums, count, apart, threads):
    """The sums of all threads, in the order of their numbers."""
    for j in range(count):
        of_all = 0.0
        for thread in range(threads):
            of_all += get(sums, thread * apart + j)
        put(gradients, j, of_all)
