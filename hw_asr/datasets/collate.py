"""Decoded utterances to a padded batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from hw_asr.batch import Batch, Example, Failure


def collate(items: Sequence[Example | Failure]) -> Batch:
    """Pad with zeros to the longest; failures are kept apart, so a batch may have 0 utterances."""
    examples = [item for item in items if isinstance(item, Example)]
    samples, sample_lengths = _padded([example.samples for example in examples], torch.float32)
    targets, target_lengths = _padded([example.targets for example in examples], torch.int64)
    return Batch(
        utterances=tuple(example.utterance for example in examples),
        samples=samples,
        sample_lengths=sample_lengths,
        targets=targets,
        target_lengths=target_lengths,
        failures=tuple(item for item in items if isinstance(item, Failure)),
        warnings=tuple(example.warning for example in examples),
    )


def _padded(rows: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the rows as one (B, longest) tensor and their lengths (B,) int64; a single row is not copied."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    if len(rows) == 1:
        return rows[0][None], lengths
    padded = torch.zeros(len(rows), max(map(len, rows), default=0), dtype=dtype)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = row
    return padded, lengths
