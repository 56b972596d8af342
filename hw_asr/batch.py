"""Decoded utterances and batches of them, which data loaders make and networks read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from hw_asr.types import Utterance

if TYPE_CHECKING:
    import torch
    from torch import Tensor


class Example(NamedTuple):
    """A decoded utterance: `samples` (T,) float32 in [-1, 1], `targets` (L,) int64 without blanks."""

    utterance: Utterance
    samples: Tensor
    targets: Tensor
    warning: str | None = None
    """What is wrong with the recording, in one line; None if nothing is."""


class Failure(NamedTuple):
    """An utterance that could not be decoded, and why, in one line."""

    utterance: Utterance
    reason: str


@dataclass(frozen=True)
class Batch:
    """Examples padded with zeros to one length.

    B utterances, T the longest number of samples, L the longest target.
    """

    utterances: tuple[Utterance, ...]
    samples: Tensor
    """(B, T) float32."""
    sample_lengths: Tensor
    """(B,) int64; lengths are always on the CPU, where reading them does not wait for a device."""
    targets: Tensor
    """(B, L) int64, padded with the blank, 0."""
    target_lengths: Tensor
    """(B,) int64, on the CPU."""
    failures: tuple[Failure, ...] = ()
    """Utterances of this batch that could not be decoded."""
    warnings: tuple[str | None, ...] = ()
    """What is wrong with each utterance's recording, or None; empty if the recordings were not examined."""

    def __len__(self) -> int:
        return len(self.utterances)

    def to(self, device: torch.device) -> Batch:
        """Copy samples and targets to `device`, without waiting if they are pinned; lengths stay on the CPU."""
        return replace(
            self,
            samples=self.samples.to(device, non_blocking=True),
            targets=self.targets.to(device, non_blocking=True),
        )

    def pin_memory(self) -> Batch:
        """Return the batch in pinned memory; torch's DataLoader calls this."""
        return replace(self, samples=self.samples.pin_memory(), targets=self.targets.pin_memory())
