"""Devices, precisions, memory, CUDA graphs and kernels."""
