"""Pretrained speech models from torchaudio; importing this package registers their names and loads nothing."""

from hw_asr.pretrained import wav2vec2, waveform

__all__ = ["wav2vec2", "waveform"]
