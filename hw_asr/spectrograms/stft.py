"""The short-time Fourier transform."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hw_asr.config.registry import SPECTROGRAMS

PadMode = Literal["reflect", "constant", "replicate", "circular"]
Normalized = bool | Literal["window", "frame_length"]


@SPECTROGRAMS.register()
class Spectrogram(nn.Module):
    """Magnitudes of the short-time Fourier transform, raised to `power`; `torchaudio.transforms.Spectrogram`.

    Args:
        n_fft: Samples in a frame; there are n_fft // 2 + 1 features, or n_fft without `onesided`.
        win_length: Samples in the window, which is centred in the frame; null: n_fft.
        hop_length: Samples from one frame to the next; null: win_length // 2.
        pad: Zeros put before and after the recording.
        window_fn: Returns a window of a given length.
        power: 1 for magnitudes, 2 for power.
        normalized: Divide by the window's norm (true or "window") or by the square root of n_fft ("frame_length").
        wkwargs: Further arguments of `window_fn`.
        center: Whether frame t is centred at sample t * hop_length; otherwise it begins there.
        pad_mode: How a centred recording is extended by n_fft // 2 samples at both ends.
        onesided: Leave out the negative frequencies.
        return_complex: Ignored.
    """

    window: Tensor

    def __init__(
        self,
        n_fft: int = 400,
        win_length: int | None = None,
        hop_length: int | None = None,
        pad: int = 0,
        window_fn: Callable[..., Tensor] = torch.hann_window,
        power: float | None = 2.0,
        normalized: Normalized = False,
        *,
        wkwargs: Mapping[str, Any] | None = None,
        center: bool = True,
        pad_mode: PadMode = "reflect",
        onesided: bool = True,
        return_complex: bool | None = None,
    ) -> None:
        super().__init__()
        self.n_fft = n_fft
        self.win_length = n_fft if win_length is None else win_length
        self.hop_length = self.win_length // 2 if hop_length is None else hop_length
        if not 0 < self.win_length <= n_fft:
            raise ValueError(f"expected 0 < win_length <= n_fft, got win_length {self.win_length}, n_fft {n_fft}")
        if self.hop_length <= 0:
            raise ValueError(f"hop_length must be positive, got {self.hop_length}")
        self.pad = pad
        self.power = power
        self.normalized = normalized
        self.center = center
        self.pad_mode = pad_mode
        self.onesided = onesided
        self.register_buffer("window", window_fn(self.win_length, **(wkwargs or {})))

    def forward(self, waveform: Tensor) -> Tensor:
        """Map samples (..., T) to (..., F, T'); complex where `power` is None."""
        if self.pad:
            waveform = nn.functional.pad(waveform, (self.pad, self.pad))
        if self.center:
            waveform = self._extended(waveform)
        return self._magnitudes(self._spectrum(waveform)).transpose(-1, -2)

    def _extended(self, waveform: Tensor) -> Tensor:
        rows = waveform.reshape(-1, waveform.shape[-1])  # torch pads vectors with constants only
        extended = nn.functional.pad(rows, (self.n_fft // 2, self.n_fft // 2), mode=self.pad_mode)
        return extended.reshape(*waveform.shape[:-1], -1)

    def _spectrum(self, waveform: Tensor) -> Tensor:
        """Map samples (..., T) to the complex spectrum (..., T', F)."""
        left = (self.n_fft - self.win_length) // 2
        window = nn.functional.pad(self.window, (left, self.n_fft - self.win_length - left))
        frames = waveform.unfold(-1, self.n_fft, self.hop_length)
        transform = torch.fft.rfft if self.onesided else torch.fft.fft
        spectrum: Tensor = transform(frames * window)
        if self.normalized == "frame_length":
            spectrum = spectrum / self.n_fft**0.5
        elif self.normalized:
            spectrum = spectrum / self.window.square().sum().sqrt()
        return spectrum

    def _magnitudes(self, spectrum: Tensor) -> Tensor:
        if self.power is None:
            return spectrum
        if self.power == 2:  # without the root of `abs`
            return spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
        magnitudes = spectrum.abs()
        return magnitudes if self.power == 1 else magnitudes.pow(self.power)
