"""The masked spectrogram front end: batches of waveforms to batches of features, on any device."""

from __future__ import annotations

from typing import Literal

import torch
import torchaudio
from torch import Tensor, nn

LOG_OFFSET = 1e-5


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Return (B, size) booleans, true where a position lies inside its row's length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class FeatureExtractor(nn.Module):
    """Turns (B, T) samples into (B, F, T') features that do not depend on who shares the batch.

    `spectrogram` is a torchaudio transform with a Spectrogram inside (Spectrogram, MelSpectrogram, MFCC, LFCC). Where
    it centres its frames, every utterance is mirrored at its own end, as it would be alone; frames beyond an utterance
    are zero. `log` takes log(x + 1e-5); `normalize="utterance"` brings each feature to mean 0 and variance 1 over the
    utterance's frames.

    Raises ValueError when there is no Spectrogram inside, or when the logarithm of cepstra is asked for.
    """

    def __init__(self, spectrogram: nn.Module, log: bool, normalize: Literal["none", "utterance"] = "none") -> None:
        super().__init__()
        stft = next((m for m in spectrogram.modules() if isinstance(m, torchaudio.transforms.Spectrogram)), None)
        if stft is None:
            raise ValueError(
                f"{type(spectrogram).__name__} holds no torchaudio Spectrogram; use MelSpectrogram, for one"
            )
        if log and isinstance(spectrogram, (torchaudio.transforms.MFCC, torchaudio.transforms.LFCC)):
            raise ValueError(f"{type(spectrogram).__name__} is logarithmic already; set log_spec to false")
        self.spectrogram = spectrogram
        self.log = log
        self.normalize = normalize
        self.n_fft: int = stft.n_fft
        self.hop_length: int = stft.hop_length
        self._margin = stft.n_fft // 2 if stft.center else 0
        self._mirror = stft.pad_mode == "reflect"
        stft.center = False
        self.n_feats = self.spectrogram(torch.zeros(1, stft.n_fft)).shape[1]

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Return how many frames waveforms of these lengths give, elementwise; 0 for what is shorter than a frame."""
        frames = (num_samples + 2 * self._margin - self.n_fft).div(self.hop_length, rounding_mode="floor") + 1
        return torch.where(num_samples > 0, frames, 0).clamp(min=0)

    @torch.no_grad()
    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T) samples and (B,) lengths to (B, F, T'), zero beyond each length, and frame counts (B,)."""
        frame_lengths = self.num_frames(lengths)
        features = self.spectrogram(self._padded(samples.float(), lengths))
        if self.log:
            features = torch.log(features + LOG_OFFSET)
        mask = length_mask(frame_lengths, features.shape[-1])[:, None, :]
        features = features.masked_fill(~mask, 0.0)
        if self.normalize == "utterance":
            features = _normalized(features, mask, frame_lengths)
        longest = int(frame_lengths.max()) if len(frame_lengths) else 0
        return features[..., : max(longest, 1)], frame_lengths

    def _padded(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Put `margin` samples on both sides of every row: mirrored ones (torch.stft's "reflect"), or zeros."""
        batch_size, num_samples = samples.shape
        padded = samples.new_zeros(batch_size, max(num_samples + 2 * self._margin, self.n_fft))
        padded[:, self._margin : self._margin + num_samples] = samples
        if not self._mirror or self._margin == 0 or num_samples == 0:
            return padded
        edge = torch.arange(self._margin, device=samples.device).expand(batch_size, -1)
        position = torch.cat([edge - self._margin, lengths[:, None] + edge], dim=1)
        last = (lengths - 1).clamp(min=0)[:, None]
        period = (2 * last).clamp(min=1)
        folded = position.remainder(period)  # a row shorter than the margin is mirrored back and forth
        folded = torch.minimum(folded, period - folded).minimum(last)
        return padded.scatter_(1, position + self._margin, samples.gather(1, folded))


def _normalized(features: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    count = lengths.clamp(min=1)[:, None, None]
    mean = features.sum(dim=-1, keepdim=True) / count
    centred = (features - mean).masked_fill(~mask, 0.0)
    deviation = (centred.square().sum(dim=-1, keepdim=True) / count).sqrt()
    return centred / (deviation + LOG_OFFSET)
