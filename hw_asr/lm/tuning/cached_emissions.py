"""Log-probabilities of a split, kept in a file, so that decoding can be tried often without running the model."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_asr.errors import UserError
from hw_asr.runtime.atomic_files import write_and_rename

_FIELDS = ("log_probs", "lengths", "references", "alphabet", "origin", "checkpoint")


class CachedEmissionsError(UserError):
    """A file that holds no log-probabilities, or not the ones that were asked for."""


@dataclass(frozen=True)
class CachedEmissions:
    """What a model said of N utterances, and what was said."""

    log_probs: list[NDArray[np.float32]]
    """N arrays (T, V), natural logarithms."""
    references: list[str]
    """N normalised texts."""
    alphabet: tuple[str, ...]
    """V classes, the blank first."""
    origin: tuple[str, ...]
    """Names of the split and of the parts of its data sets."""
    checkpoint: str = ""
    """Which checkpoint it was; empty when unknown."""

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        with write_and_rename(path) as file:
            np.savez(
                file,
                log_probs=np.concatenate(self.log_probs, dtype=np.float32),
                lengths=np.array([len(each) for each in self.log_probs], dtype=np.int64),
                references=np.array(self.references, dtype=np.str_),
                alphabet=np.array(self.alphabet, dtype=np.str_),
                origin=np.array(self.origin, dtype=np.str_),
                checkpoint=np.array(self.checkpoint, dtype=np.str_),
            )

    @classmethod
    def load(cls, path: Path) -> CachedEmissions:
        """Read a file that `save` wrote; nothing in it is executed. Raises CachedEmissionsError when it is another."""
        remedy = "give the checkpoint with -r and another name, or delete the file, and it is made again"
        try:
            if not zipfile.is_zipfile(path):
                raise ValueError("not an .npz file, or one that was cut short")
            with np.load(path, allow_pickle=False) as archive:
                log_probs, lengths, references, alphabet, origin, checkpoint = (archive[name] for name in _FIELDS)
        except Exception as error:  # damaged bytes provoke whatever the readers of archives and arrays know
            raise CachedEmissionsError(f"{path}: holds no log-probabilities of a split ({error}); {remedy}") from error
        rows = np.split(log_probs, np.cumsum(lengths)[:-1])
        return cls(rows, references.tolist(), tuple(alphabet.tolist()), tuple(origin.tolist()), str(checkpoint.item()))

    def head(self, limit: int, seed: int = 0) -> CachedEmissions:
        """Return `limit` utterances drawn at random, or all when there are no more."""
        if limit >= len(self.references):
            return self
        chosen = np.sort(np.random.default_rng(seed).permutation(len(self.references))[:limit])
        return CachedEmissions(
            [self.log_probs[index] for index in chosen],
            [self.references[index] for index in chosen],
            self.alphabet,
            self.origin,
            self.checkpoint,
        )

    def batches(self, num_utterances: int) -> Iterator[tuple[Tensor, Tensor, Sequence[str]]]:
        """Yield padded log-probabilities (B, T, V), their lengths (B,) and references, similar lengths together."""
        order = sorted(range(len(self.log_probs)), key=lambda index: len(self.log_probs[index]))
        for start in range(0, len(order), num_utterances):
            chosen = order[start : start + num_utterances]
            rows = [torch.from_numpy(self.log_probs[index]) for index in chosen]
            lengths = torch.tensor([len(row) for row in rows])
            padded = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            yield padded, lengths, [self.references[index] for index in chosen]
