"""Acoustic models; importing this package makes their names known."""

from hw_asr.models import baseline, conformer, deepspeech2

__all__ = ["baseline", "conformer", "deepspeech2"]
