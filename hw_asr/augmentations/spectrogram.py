"""Augmentations of spectrograms: masks over frequency and time (Park et al. 2019 and 2020).

Masked values become the mean of their frequency bin over the utterance, in power spectra and in their logarithms.
After normalisation per utterance that is zero, as in the paper; in plain logarithms a zero would be a loud sound.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hw_asr.augmentations.draws import check_count, check_probability, draw_rows
from hw_asr.config.registry import SPECTROGRAM_AUGMENTATIONS
from hw_asr.features import length_mask
from hw_asr.runtime.transfers import send

MAX_MASKED_TIME = 0.5
"""Largest part of an utterance that `TimeMasking` masks."""
MAX_MASKS, MAX_WIDTH = 1000, 2**31 - 1
"""Masks of a kind, and bins or frames of a mask, that a config may ask for; all masks of a batch are drawn at once."""


@SPECTROGRAM_AUGMENTATIONS.register()
class FrequencyMasking:
    """Masks 0 to `freq_mask_param` adjacent frequency bins; widths and positions are uniform."""

    def __init__(self, p: float = 0.5, freq_mask_param: int = 27) -> None:
        check_probability("p", p)
        check_count("freq_mask_param", freq_mask_param, MAX_WIDTH)
        self.p = p
        self._max_width = freq_mask_param

    def __call__(self, spectrogram: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mask the chosen rows of (B, F, T)."""
        chosen = _chosen(self.p, len(spectrogram), generator)
        bins = _frequency_spans(spectrogram, 1, self._max_width, generator)
        return _filled(spectrogram, lengths, send(bins & chosen, spectrogram.device)[:, :, None]), lengths


@SPECTROGRAM_AUGMENTATIONS.register()
class TimeMasking:
    """Masks 0 to `time_mask_param` adjacent frames, but never more than half of the utterance."""

    def __init__(self, p: float = 0.5, time_mask_param: int = 100) -> None:
        check_probability("p", p)
        check_count("time_mask_param", time_mask_param, MAX_WIDTH)
        self.p = p
        self._max_width = time_mask_param

    def __call__(self, spectrogram: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mask the chosen rows of (B, F, T)."""
        chosen = _chosen(self.p, len(spectrogram), generator)
        frames = _time_spans(spectrogram, lengths, 1, self._max_width, MAX_MASKED_TIME, generator)
        return _filled(spectrogram, lengths, send(frames & chosen, spectrogram.device)[:, None, :]), lengths


@SPECTROGRAM_AUGMENTATIONS.register()
class SpecAugment:
    """Masks several spans of frequency bins and of frames at once.

    A mask in time is 0 to `time_mask_param` frames wide, and at most `time_mask_ratio` of the utterance.
    """

    def __init__(
        self,
        p: float = 1.0,
        num_freq_masks: int = 2,
        freq_mask_param: int = 27,
        num_time_masks: int = 2,
        time_mask_param: int = 100,
        time_mask_ratio: float = 0.2,
    ) -> None:
        check_probability("p", p)
        check_count("num_freq_masks", num_freq_masks, MAX_MASKS)
        check_count("freq_mask_param", freq_mask_param, MAX_WIDTH)
        check_count("num_time_masks", num_time_masks, MAX_MASKS)
        check_count("time_mask_param", time_mask_param, MAX_WIDTH)
        check_probability("time_mask_ratio", time_mask_ratio)
        self.p = p
        self._freq = (num_freq_masks, freq_mask_param)
        self._time = (num_time_masks, time_mask_param, time_mask_ratio)

    def __call__(self, spectrogram: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Mask the chosen rows of (B, F, T)."""
        chosen, device = _chosen(self.p, len(spectrogram), generator), spectrogram.device
        bins = _frequency_spans(spectrogram, *self._freq, generator)
        frames = _time_spans(spectrogram, lengths, *self._time, generator)
        mask = send(bins & chosen, device)[:, :, None] | send(frames & chosen, device)[:, None, :]
        return _filled(spectrogram, lengths, mask), lengths


def _chosen(p: float, num_rows: int, generator: torch.Generator) -> Tensor:
    return torch.zeros(num_rows, 1, dtype=torch.bool).index_fill_(0, draw_rows(p, num_rows, generator), True)


def _frequency_spans(spectrogram: Tensor, num_spans: int, max_width: int, generator: torch.Generator) -> Tensor:
    """Return (B, F) on the CPU, true where a bin of (B, F, T) is masked."""
    num_rows, num_bins = spectrogram.shape[:2]
    sizes = torch.full((num_rows,), num_bins)
    return _spans(sizes, num_bins, num_spans, sizes.clamp(max=max_width), generator)


def _time_spans(
    spectrogram: Tensor, lengths: Tensor, num_spans: int, max_width: int, max_share: float, generator: torch.Generator
) -> Tensor:
    """Return (B, T) on the CPU, true where a frame of (B, F, T) is masked."""
    max_widths = (lengths * max_share).long().clamp(max=max_width)
    return _spans(lengths, spectrogram.shape[2], num_spans, max_widths, generator)


def _spans(sizes: Tensor, width: int, num_spans: int, max_widths: Tensor, generator: torch.Generator) -> Tensor:
    """Draw `num_spans` spans, 0 to `max_widths` (B,) wide, within `sizes` (B,); return (B, width), true inside."""
    shares = torch.rand(2, len(sizes), num_spans, generator=generator, dtype=torch.float64)
    widths = (shares[0] * (max_widths[:, None] + 1)).long()
    starts = (shares[1] * (sizes[:, None] - widths + 1)).long()
    place = torch.arange(width)
    return ((place >= starts[..., None]) & (place < (starts + widths)[..., None])).any(dim=1)


def _filled(spectrogram: Tensor, lengths: Tensor, hidden: Tensor) -> Tensor:
    """Replace values where `hidden`, broadcast to (B, F, T), by their bin's mean; set padding to zero."""
    inside = length_mask(lengths, spectrogram.shape[2], spectrogram.device)[:, None, :]
    kept = spectrogram.masked_fill(~inside, 0.0)
    mean = kept.sum(dim=2, keepdim=True) / send(lengths.clamp(min=1), spectrogram.device)[:, None, None]
    return torch.where(hidden & inside, mean, kept)
