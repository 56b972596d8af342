"""Masking spans of frames while a pretrained encoder is fine-tuned (arXiv:2006.11477, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor


def draw_spans(lengths: Tensor, num_frames: int, mask_prob: float, mask_length: int) -> Tensor:
    """Return (B, T) booleans on the CPU, true at the frames to mask.

    An utterance of L frames gets about `mask_prob * L / mask_length` spans of `mask_length` frames that begin at
    random, and may overlap. What an utterance gets does not depend on padding.
    """
    mask = torch.zeros(len(lengths), num_frames, dtype=torch.bool)
    for row, length in zip(mask, lengths.tolist(), strict=True):
        room = length - mask_length
        if room < 0:
            continue
        num_spans = int(mask_prob * length / mask_length + float(torch.rand(())))
        starts = torch.randint(room + 1, (num_spans,))
        row[(starts[:, None] + torch.arange(mask_length)).flatten()] = True
    return mask
