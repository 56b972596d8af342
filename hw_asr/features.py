"""The masked spectrogram front end: batches of waveforms to batches of features, on any device."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, Literal

import torch
from torch import Tensor, nn

from hw_asr.runtime.transfers import send
from hw_asr.spectrograms import MelSpectrogram, Spectrogram

LOG_OFFSET = 1e-5
Normalize = Literal["none", "utterance", "global"]


def length_mask(lengths: Tensor, size: int, device: torch.device | None = None) -> Tensor:
    """Return (B, size) booleans on `device`, or that of the lengths, true at positions below the row's length."""
    if device is not None:
        lengths = send(lengths, device)
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class FeatureStatistics(nn.Module):
    """Mean and standard deviation of each feature over the training data, for `normalize: "global"`.

    A network registers this module with its acoustic model, too, so that checkpoints contain the buffers.
    """

    mean: Tensor
    """(F,)"""
    deviation: Tensor
    """(F,), positive."""

    def __init__(self, n_feats: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(n_feats))
        self.register_buffer("deviation", torch.ones(n_feats))

    def forward(self, features: Tensor) -> Tensor:
        """Normalise features (B, F, T)."""
        return (features - self.mean[:, None]) / self.deviation[:, None]


class FrontEnd(nn.Module, ABC):
    """Maps (B, T) samples to features; an utterance's features do not depend on the rest of its batch."""

    n_feats: int
    """Values per frame."""
    n_fft: int
    """Samples that a frame sees."""
    hop_length: int
    """Samples between two frames."""
    normalize: Normalize
    statistics: FeatureStatistics | None
    """Those of `normalize: "global"`; None with other kinds."""

    def __init__(self) -> None:
        super().__init__()
        self.statistics = None

    @abstractmethod
    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Return the number of frames of waveforms of these lengths, elementwise."""

    @abstractmethod
    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T) samples and (B,) lengths to (B, F, T'), zero beyond each length, and frame counts (B,).

        Lengths and frame counts are on the CPU, whatever the device of the samples.
        """


class FeatureExtractor(FrontEnd):
    """The front end for spectrograms.

    `spectrogram` is one of `hw_asr.spectrograms` or another module that contains a short-time Fourier transform with
    torchaudio's attributes (`torchaudio.transforms.LFCC`). If it centres its frames, each utterance is extended at its
    own ends. Frames beyond an utterance are zero. `log` takes log(x + 1e-5). `normalize="utterance"` scales each
    feature to mean 0 and variance 1 over the frames of the utterance, `normalize="global"` over the training data:
    `statistics` are to be measured or loaded.

    Raises ValueError if there is no such transform, if the front end does not support its `pad`, `pad_mode` or `power`,
    or for the logarithm of cepstra.
    """

    def __init__(self, spectrogram: nn.Module, log: bool, normalize: Normalize = "none") -> None:
        super().__init__()
        stft = _fourier_transform(spectrogram)
        if log and hasattr(spectrogram, "dct_mat"):
            raise ValueError(f"{type(spectrogram).__name__} is logarithmic already; set log_spec to false")
        self.spectrogram = spectrogram
        self.log = log
        self.normalize = normalize
        self.n_fft: int = stft.n_fft
        self.hop_length: int = stft.hop_length
        self.margin: int = stft.n_fft // 2 if stft.center else 0
        """Samples by which a recording is extended at both ends."""
        self.mirrors: bool = stft.pad_mode == "reflect"
        """Whether it is extended by its mirror image; otherwise by zeros."""
        self.is_local = isinstance(spectrogram, (Spectrogram, MelSpectrogram))
        """Whether a frame depends on its own samples only. MFCC depends on the maximum over all frames."""
        stft.center = False
        self.n_feats = self.spectrogram(torch.zeros(1, stft.n_fft)).shape[1]
        if normalize == "global":
            self.statistics = FeatureStatistics(self.n_feats)

    def num_frames(self, num_samples: Tensor) -> Tensor:
        """Return the number of frames of waveforms of these lengths, elementwise; 0 for less than one frame."""
        frames = (num_samples + 2 * self.margin - self.n_fft).div(self.hop_length, rounding_mode="floor") + 1
        return torch.where(num_samples > 0, frames, 0).clamp(min=0)

    @torch.no_grad()
    def forward(self, samples: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Map (B, T) samples and (B,) lengths to (B, F, T'), zero beyond each length, and frame counts (B,)."""
        frame_lengths = self.num_frames(lengths)
        longest = max(int(frame_lengths.max()), 1) if len(frame_lengths) else 1
        on_device = send(torch.stack([lengths, frame_lengths]), samples.device)
        mask = length_mask(on_device[1], longest)[:, None, :]
        if samples.is_cpu or not self.is_local:
            features = self._row_by_row(samples.float(), lengths, frame_lengths, longest)
        else:
            spectrogram = self.spectrogram(self._padded(samples.float(), on_device[0]))
            features = self._logarithm(spectrogram)[..., :longest].masked_fill(~mask, 0.0)
        if self.normalize == "utterance":
            features = _normalized(features, mask, on_device[1])
        elif self.statistics is not None:
            features = self.statistics(features).masked_fill_(~mask, 0.0)
        return features, frame_lengths

    def frames(self, samples: Tensor) -> Tensor:
        """Return the features (F, T') of all whole frames in samples (N,) that are not extended at their ends.

        They are those of `forward` if the front end `is_local` and `normalize` is not "utterance".
        """
        features = self._logarithm(self.spectrogram(samples))
        return features if self.statistics is None else self.statistics(features[None])[0]

    def _row_by_row(self, samples: Tensor, lengths: Tensor, frame_lengths: Tensor, longest: int) -> Tensor:
        """Return (B, F, longest). On a CPU this is faster: one row's intermediate results fit into the cache."""
        features = samples.new_zeros(len(samples), self.n_feats, longest)
        rows = zip(samples, lengths.tolist(), frame_lengths.tolist(), features, strict=True)
        for row, length, num_frames, target in rows:
            if num_frames:
                own = row[None, :length]
                if self.mirrors and self.margin < length:
                    padded = nn.functional.pad(own, (self.margin, self.margin), mode="reflect")
                else:
                    padded = self._padded(own, torch.tensor([length], device=own.device))
                target[:, :num_frames] = self._logarithm(self.spectrogram(padded[0]))
        return features

    def _logarithm(self, features: Tensor) -> Tensor:
        return features.add_(LOG_OFFSET).log_() if self.log else features

    def _padded(self, samples: Tensor, lengths: Tensor) -> Tensor:
        """Put `margin` samples on both sides of every row: mirrored ones (torch.stft's "reflect"), or zeros."""
        batch_size, num_samples = samples.shape
        padded = samples.new_zeros(batch_size, max(num_samples + 2 * self.margin, self.n_fft))
        padded[:, self.margin : self.margin + num_samples] = samples
        if not self.mirrors or self.margin == 0 or num_samples == 0:
            return padded
        edge = torch.arange(self.margin, device=samples.device).expand(batch_size, -1)
        position = torch.cat([edge - self.margin, lengths[:, None] + edge], dim=1)
        last = (lengths - 1).clamp(min=0)[:, None]
        period = (2 * last).clamp(min=1)
        folded = position.remainder(period)  # a row shorter than the margin is mirrored back and forth
        folded = torch.minimum(folded, period - folded).minimum(last)
        return padded.scatter_(1, position + self.margin, samples.gather(1, folded))


def _fourier_transform(spectrogram: nn.Module) -> Any:
    """Return the short-time Fourier transform in a module; raises ValueError if there is none that fits."""
    attributes = ("n_fft", "hop_length", "center", "pad", "pad_mode", "power")
    stft: Any = next((m for m in spectrogram.modules() if all(hasattr(m, name) for name in attributes)), None)
    if stft is None:
        name = type(spectrogram).__name__
        raise ValueError(f"{name} contains no short-time Fourier transform; use MelSpectrogram, for example")
    if stft.center and stft.pad_mode not in ("reflect", "constant"):
        raise ValueError(f"pad_mode must be reflect or constant, got {stft.pad_mode!r}")
    if stft.pad:
        raise ValueError(f"pad must be 0, got {stft.pad}")
    if stft.power is None:
        raise ValueError("power must be a number, got null: features are real")
    return stft


def _normalized(features: Tensor, mask: Tensor, lengths: Tensor) -> Tensor:
    count = lengths.clamp(min=1)[:, None, None]
    mean = features.sum(dim=-1, keepdim=True) / count
    centred = (features - mean).masked_fill(~mask, 0.0)
    deviation = (centred.square().sum(dim=-1, keepdim=True) / count).sqrt()
    return centred / (deviation + LOG_OFFSET)
