"""Kernels for the CPU, written in C++ and compiled where they run; see `step.cpp`."""
