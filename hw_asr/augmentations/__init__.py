"""Augmentations of training examples; importing this package registers them."""

from hw_asr.augmentations.noise import RandomNoise
from hw_asr.augmentations.pauses import Pauses
from hw_asr.augmentations.reverberation import RoomImpulseResponse
from hw_asr.augmentations.spectrogram import FrequencyMasking, SpecAugment, TimeMasking
from hw_asr.augmentations.wave import Gain, PitchShift, SpeedPerturbation, TimeStretching

__all__ = [
    "FrequencyMasking",
    "Gain",
    "Pauses",
    "PitchShift",
    "RandomNoise",
    "RoomImpulseResponse",
    "SpecAugment",
    "SpeedPerturbation",
    "TimeMasking",
    "TimeStretching",
]
