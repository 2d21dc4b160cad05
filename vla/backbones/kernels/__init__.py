"""Whole transformer layers as one function of the processor, for single precision on one thread."""
