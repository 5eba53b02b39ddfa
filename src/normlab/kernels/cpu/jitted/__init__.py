"""The kernels themselves, in the Python that Numba compiles. Importing this takes Numba, so only `compiled` does."""
