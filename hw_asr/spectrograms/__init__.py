"""Spectrogram transforms with the arguments and results of torchaudio's; importing this package registers them."""

from hw_asr.spectrograms.mel import MelSpectrogram
from hw_asr.spectrograms.mfcc import MFCC
from hw_asr.spectrograms.stft import Spectrogram

__all__ = ["MFCC", "MelSpectrogram", "Spectrogram"]
