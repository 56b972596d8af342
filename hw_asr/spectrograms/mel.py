"""Mel filter banks and the mel spectrogram."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hw_asr.config.registry import SPECTROGRAMS
from hw_asr.spectrograms.stft import Normalized, PadMode, Spectrogram

MelScaleName = Literal["htk", "slaney"]

# The slaney scale (Slaney, Auditory Toolbox, 1998): linear up to 1000 Hz, 15 mel, then 27 mel for a factor of 6.4.
_LINEAR_HZ_PER_MEL = 200 / 3
_LOG_START_HZ = 1000.0
_LOG_START_MEL = _LOG_START_HZ / _LINEAR_HZ_PER_MEL
_LOG_STEP = math.log(6.4) / 27


class MelScale(nn.Module):
    """Maps spectra (..., num_bins, T) to mel bands (..., n_mels, T) by triangular filters."""

    fb: Tensor

    def __init__(self, filters: Tensor) -> None:
        super().__init__()
        self.register_buffer("fb", filters)

    def forward(self, spectrum: Tensor) -> Tensor:
        """Apply the filters."""
        return (spectrum.transpose(-1, -2) @ self.fb).transpose(-1, -2)


@SPECTROGRAMS.register()
class MelSpectrogram(nn.Module):
    """Spectrogram in mel bands; `torchaudio.transforms.MelSpectrogram`.

    Args:
        sample_rate: Of the recordings, in Hz.
        n_fft: Samples in a frame.
        win_length: Samples in the window, which is centred in the frame; null: n_fft.
        hop_length: Samples from one frame to the next; null: win_length // 2.
        f_min: Lowest frequency, in Hz.
        f_max: Highest frequency, in Hz; null: half of the sample rate.
        pad: Zeros put before and after the recording.
        n_mels: Number of mel bands, the features.
        window_fn: Returns a window of a given length.
        power: 1 for magnitudes, 2 for power.
        normalized: Divide by the window's norm (true or "window") or by the square root of n_fft ("frame_length").
        wkwargs: Further arguments of `window_fn`.
        center: Whether frame t is centred at sample t * hop_length; otherwise it begins there.
        pad_mode: How a centred recording is extended by n_fft // 2 samples at both ends.
        onesided: Ignored.
        norm: "slaney" divides each filter by its width; null: filters have a peak of 1.
        mel_scale: The formula from Hz to mel.
    """

    def __init__(
        self,
        sample_rate: int = 16000,
        n_fft: int = 400,
        win_length: int | None = None,
        hop_length: int | None = None,
        f_min: float = 0.0,
        f_max: float | None = None,
        pad: int = 0,
        *,
        n_mels: int = 128,
        window_fn: Callable[..., Tensor] = torch.hann_window,
        power: float = 2.0,
        normalized: Normalized = False,
        wkwargs: Mapping[str, Any] | None = None,
        center: bool = True,
        pad_mode: PadMode = "reflect",
        onesided: bool | None = None,
        norm: Literal["slaney"] | None = None,
        mel_scale: MelScaleName = "htk",
    ) -> None:
        super().__init__()
        self.n_mels = n_mels
        self.spectrogram = Spectrogram(
            n_fft, win_length, hop_length, pad, window_fn, power, normalized,
            wkwargs=wkwargs, center=center, pad_mode=pad_mode,
        )  # fmt: skip
        f_max = float(sample_rate // 2) if f_max is None else f_max
        edges = band_edges(f_min, f_max, n_mels, mel_scale)
        filters = triangular_filters(torch.linspace(0, sample_rate // 2, n_fft // 2 + 1), edges)
        if norm == "slaney":
            filters = filters * (2 / (edges[2:] - edges[:-2]))
        self.mel_scale = MelScale(filters)

    def forward(self, waveform: Tensor) -> Tensor:
        """Map samples (..., T) to (..., n_mels, T')."""
        mel: Tensor = self.mel_scale(self.spectrogram(waveform))
        return mel


def band_edges(f_min: float, f_max: float, n_mels: int, mel_scale: MelScaleName) -> Tensor:
    """Return the n_mels + 2 frequencies, equally spaced in mel, between which the filters lie; in Hz.

    Raises ValueError when they do not increase.
    """
    if not 0 <= f_min < f_max:
        raise ValueError(f"expected 0 <= f_min < f_max, got f_min {f_min:g}, f_max {f_max:g} Hz")
    if n_mels < 1:
        raise ValueError(f"n_mels must be positive, got {n_mels}")
    mels = torch.linspace(_hz_to_mel(f_min, mel_scale), _hz_to_mel(f_max, mel_scale), n_mels + 2)
    if mel_scale == "htk":
        return 700 * (10 ** (mels / 2595) - 1)
    logarithmic = _LOG_START_HZ * torch.exp(_LOG_STEP * (mels - _LOG_START_MEL))
    return torch.where(mels < _LOG_START_MEL, _LINEAR_HZ_PER_MEL * mels, logarithmic)


def triangular_filters(frequencies: Tensor, edges: Tensor) -> Tensor:
    """Return (num_frequencies, n_mels) weights; filter i is 1 at edges[i + 1], 0 at edges[i] and edges[i + 2]."""
    distance = edges - frequencies[:, None]
    width = edges.diff()
    return torch.minimum(-distance[:, :-2] / width[:-1], distance[:, 2:] / width[1:]).clamp(min=0)


def _hz_to_mel(frequency: float, mel_scale: MelScaleName) -> float:
    if mel_scale == "htk":
        return 2595 * math.log10(1 + frequency / 700)
    if frequency < _LOG_START_HZ:
        return frequency / _LINEAR_HZ_PER_MEL
    return _LOG_START_MEL + math.log(frequency / _LOG_START_HZ) / _LOG_STEP
