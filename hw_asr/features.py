"""The masked spectrogram front end: batches of waveforms to batches of features, on any device."""

from __future__ import annotations

from typing import Any, Literal

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
        longest = max(int(frame_lengths.max()), 1) if len(frame_lengths) else 1
        mask = length_mask(frame_lengths, longest)[:, None, :]
        if samples.is_cpu:
            features = self._row_by_row(samples.float(), lengths, frame_lengths, longest)
        else:
            spectrogram = self.spectrogram(self._padded(samples.float(), lengths))
            features = self._logarithm(spectrogram)[..., :longest].masked_fill(~mask, 0.0)
        if self.normalize == "utterance":
            features = _normalized(features, mask, frame_lengths)
        return features, frame_lengths

    def _row_by_row(self, samples: Tensor, lengths: Tensor, frame_lengths: Tensor, longest: int) -> Tensor:
        """Return (B, F, longest): a row's intermediate results fit into the cache, a batch's do not."""
        features = samples.new_zeros(len(samples), self.n_feats, longest)
        rows = zip(samples, lengths.tolist(), frame_lengths.tolist(), features, strict=True)
        for row, length, num_frames, target in rows:
            if num_frames:
                own = row[None, :length]
                if self._mirror and self._margin < length:
                    padded = nn.functional.pad(own, (self._margin, self._margin), mode="reflect")
                else:
                    padded = self._padded(own, torch.tensor([length]))
                target[:, :num_frames] = self._logarithm(_transformed(self.spectrogram, padded[0]))
        return features

    def _logarithm(self, features: Tensor) -> Tensor:
        return features.add_(LOG_OFFSET).log_() if self.log else features

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


def _transformed(transform: Any, samples: Tensor) -> Tensor:
    """Map the samples (T,) of an utterance to (F, T') by a torchaudio transform that does not centre.

    Power spectra and mel spectra, the usual ones, are computed here: without torch.stft's copies and without the root
    that torchaudio takes, only to square it.
    """
    stft = transform.spectrogram if type(transform) is torchaudio.transforms.MelSpectrogram else transform
    features: Tensor
    if type(stft) is not torchaudio.transforms.Spectrogram or not _is_plain_power(stft):
        features = transform(samples[None])[0]
        return features
    missing = stft.n_fft - stft.win_length
    window = nn.functional.pad(stft.window, (missing // 2, missing - missing // 2))
    spectrum = torch.fft.rfft(samples.unfold(0, stft.n_fft, stft.hop_length) * window)
    features = spectrum.real.square().addcmul_(spectrum.imag, spectrum.imag)
    if stft is not transform:
        features = features @ transform.mel_scale.fb
    return features.T


def _is_plain_power(stft: Any) -> bool:
    return bool(stft.power == 2 and not stft.normalized and stft.onesided and stft.pad == 0)


def _normalized(features: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    count = lengths.clamp(min=1)[:, None, None]
    mean = features.sum(dim=-1, keepdim=True) / count
    centred = (features - mean).masked_fill(~mask, 0.0)
    deviation = (centred.square().sum(dim=-1, keepdim=True) / count).sqrt()
    return centred / (deviation + LOG_OFFSET)
