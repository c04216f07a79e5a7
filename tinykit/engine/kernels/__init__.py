"""Kernels, one family a file: what a C function is called with, and its text."""
