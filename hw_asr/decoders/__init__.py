"""Decoders from log-probabilities to texts; importing this package makes their names known and compiles nothing."""

from hw_asr.decoders import argmax, beam_search, lm_beam_search, pyctcdecode

__all__ = ["argmax", "beam_search", "lm_beam_search", "pyctcdecode"]
