"""Kernels for the processor: written with Numba, run by PyTorch's own threads."""
