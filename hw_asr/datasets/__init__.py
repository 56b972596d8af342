"""Importing the package makes its corpora and batch samplers known to the registry."""

from hw_asr.datasets import an4, common_voice, custom, fsdd, librispeech, ljspeech, samplers_by_duration

__all__ = ["an4", "common_voice", "custom", "fsdd", "librispeech", "ljspeech", "samplers_by_duration"]
