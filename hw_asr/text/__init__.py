"""Text: normalisation, encoders, language models; importing this package makes the encoders' names known."""

from hw_asr.text import encoder, librispeech

__all__ = ["encoder", "librispeech"]
