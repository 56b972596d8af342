"""Importing the package makes its corpora and batch samplers known to the registry."""

from hw_asr.datasets import custom, samplers

__all__ = ["custom", "samplers"]
