"""Running statistics, moved towards those of a batch."""

import math

import numpy as np
from numba import njit

from normlab.kernels.cpu.jitted.lanes import double, get, pointer, put, rounded


@njit(error_model="numpy")
def move(a, one):
    """Writes 1 into the first place, and the statistics, if all of these are finite; otherwise 0, and nothing else."""
    count, share, unbiased = get(a, 1), rounded(double(get(a, 2)), one), rounded(double(get(a, 3)), one)
    mean, var, commits = pointer(get(a, 4), one), pointer(get(a, 5), one), pointer(get(a, 6), np.int64(0))
    new_mean, new_var = pointer(get(a, 7), one), pointer(get(a, 8), one)
    put(a, 0, 0)
    for c in range(count):
        if not (math.isfinite(get(new_mean, c)) and math.isfinite(get(new_var, c) * unbiased)):
            return
    for c in range(count):
        put(mean, c, get(mean, c) + share * (get(new_mean, c) - get(mean, c)))
        put(var, c, get(var, c) + share * (get(new_var, c) * unbiased - get(var, c)))
    put(commits, 0, get(commits, 0) + 1)
    put(a, 0, 1)
