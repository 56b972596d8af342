"""Text normalisation and text encoders; importing this package registers the encoders."""

from hw_asr.text import encoder

__all__ = ["encoder"]
