"""Mel-frequency cepstral coefficients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hw_asr.config.registry import SPECTROGRAMS
from hw_asr.spectrograms.mel import MelSpectrogram

TOP_DB = 80.0
"""Values more than this below a recording's maximum are raised to it."""


@SPECTROGRAMS.register()
class MFCC(nn.Module):
    """Mel-frequency cepstral coefficients; `torchaudio.transforms.MFCC` of each recording by itself.

    Decibels are limited to 80 below the recording's own maximum; torchaudio takes the maximum of the whole batch.

    Args:
        sample_rate: Of the recordings, in Hz.
        n_mfcc: Number of coefficients, the features.
        dct_type: Only 2.
        norm: "ortho" for an orthonormal transform; null: without scaling.
        log_mels: Take log(x + 1e-6) instead of decibels.
        melkwargs: Arguments of `MelSpectrogram`.
    """

    dct_mat: Tensor

    def __init__(
        self,
        sample_rate: int = 16000,
        n_mfcc: int = 40,
        dct_type: Literal[2] = 2,
        norm: Literal["ortho"] | None = "ortho",
        log_mels: bool = False,
        melkwargs: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.MelSpectrogram = MelSpectrogram(sample_rate, **(melkwargs or {}))
        n_mels = self.MelSpectrogram.n_mels
        if not 0 < n_mfcc <= n_mels:
            raise ValueError(f"expected 0 < n_mfcc <= n_mels, got n_mfcc {n_mfcc}, n_mels {n_mels}")
        if dct_type != 2:
            raise ValueError(f"dct_type must be 2, got {dct_type}")
        self.log_mels = log_mels
        self.register_buffer("dct_mat", _cosine_transform(n_mfcc, n_mels, norm == "ortho"))

    def forward(self, waveform: Tensor) -> Tensor:
        """Map samples (..., T) to (..., n_mfcc, T')."""
        mel = self.MelSpectrogram(waveform)
        if self.log_mels:
            mel = torch.log(mel + 1e-6)
        else:
            mel = 10 * torch.log10(mel.clamp(min=1e-10))
            mel = mel.maximum(mel.amax(dim=(-2, -1), keepdim=True) - TOP_DB)
        return (mel.transpose(-1, -2) @ self.dct_mat).transpose(-1, -2)


def _cosine_transform(n_mfcc: int, n_mels: int, orthonormal: bool) -> Tensor:
    """Return the (n_mels, n_mfcc) matrix of the discrete cosine transform of type 2."""
    positions = math.pi / n_mels * (torch.arange(n_mels) + 0.5)
    matrix = 2 * torch.cos(torch.outer(positions, torch.arange(float(n_mfcc))))
    if orthonormal:
        matrix /= math.sqrt(2 * n_mels)
        matrix[:, 0] /= math.sqrt(2)
    return matrix
