"""The front end of models that read waveforms: samples instead of a spectrogram."""

from __future__ import annotations

import torch
from torch import Tensor

from hw_asr.config.registry import SPECTROGRAMS
from hw_asr.features import FrontEnd, Normalize, length_mask


@SPECTROGRAMS.register()
class Waveform(FrontEnd):
    """Passes samples through: (B, T) becomes (B, 1, T), one "feature" per sample."""

    n_feats = n_fft = hop_length = 1
    normalize: Normalize = "none"

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Return `num_samples`: there is a frame per sample."""
        return num_samples

    @torch.no_grad()
    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T) samples and (B,) lengths to (B, 1, T), zero beyond each length, and the lengths."""
        mask = length_mask(lengths, samples.shape[1], samples.device)
        return samples.float().masked_fill(~mask, 0.0)[:, None], lengths
