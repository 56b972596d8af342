"""Word n-gram language models; importing this package registers the text encoder that brings one."""

from hw_asr.lm import librispeech

__all__ = ["librispeech"]
