"""Log-probabilities of a split, cached in a file, so that decoding can be repeated without running the model."""

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
    """A file that does not hold log-probabilities, or holds others than requested."""


@dataclass(frozen=True)
class CachedEmissions:
    """The output of a model for N utterances, and their references."""

    log_probs: list[NDArray[np.float32]]
    """N arrays (T, V), natural logarithms."""
    references: list[str]
    """N normalised texts."""
    alphabet: tuple[str, ...]
    """V classes, the blank first."""
    origin: tuple[str, ...]
    """Names of the split and of the parts of its data sets."""
    checkpoint: str = ""
    """Identifies the checkpoint; empty when unknown."""

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        with write_and_rename(path) as file:
            np.savez(
                file,
                log_probs=np.concatenate(self.log_probs, dtype=np.float32),
                lengths=np.array([len(row) for row in self.log_probs], dtype=np.int64),
                references=np.array(self.references, dtype=np.str_),
                alphabet=np.array(self.alphabet, dtype=np.str_),
                origin=np.array(self.origin, dtype=np.str_),
                checkpoint=np.array(self.checkpoint, dtype=np.str_),
            )

    @classmethod
    def load(cls, path: Path) -> CachedEmissions:
        """Read a file that `save` wrote. Nothing in it is executed, and every size in it is checked.

        Raises CachedEmissionsError for any other file.
        """
        remedy = "to compute them, give another name, or delete the file, and give the checkpoint with -r"
        try:
            if not zipfile.is_zipfile(path):
                raise ValueError("not an .npz file, or truncated")
            with zipfile.ZipFile(path) as members:
                if sum(member.file_size for member in members.infolist()) > path.stat().st_size:
                    raise ValueError("its content is larger than the file")
            with np.load(path, allow_pickle=False) as archive:
                log_probs, lengths, references, alphabet, origin, checkpoint = (archive[name] for name in _FIELDS)
            _check_sizes(log_probs, lengths, references, alphabet)
            if origin.dtype.kind != "U" or origin.ndim != 1 or not origin.size or checkpoint.shape != ():
                raise ValueError("its split or checkpoint is missing")
            rows = np.split(log_probs, np.cumsum(lengths)[:-1])
            texts = [tuple(map(str, array.tolist())) for array in (references, alphabet, origin)]
            return cls(rows, list(texts[0]), texts[1], texts[2], str(checkpoint.item()))
        except Exception as error:  # readers of archives and arrays raise errors of many types for damaged files
            raise CachedEmissionsError(f"{path}: no log-probabilities of a split ({error}); {remedy}") from error

    def head(self, limit: int, seed: int = 0) -> CachedEmissions:
        """Return `limit` utterances drawn at random, or all if there are fewer."""
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


def _check_sizes(
    log_probs: NDArray[np.float32], lengths: NDArray[np.int64], references: NDArray[np.str_], alphabet: NDArray[np.str_]
) -> None:
    """Raise ValueError unless the arrays of a file fit each other."""
    if log_probs.dtype != np.float32 or log_probs.ndim != 2 or lengths.dtype != np.int64 or lengths.ndim != 1:
        raise ValueError("its log-probabilities or lengths have the wrong type")
    if references.dtype.kind != "U" or alphabet.dtype.kind != "U" or references.ndim != 1 or alphabet.ndim != 1:
        raise ValueError("its references or alphabet are not strings")
    if not 0 < len(lengths) == len(references) or log_probs.shape[1] != len(alphabet):
        raise ValueError("the number of references or classes does not match the log-probabilities")
    if lengths.min() < 0 or lengths.max() > len(log_probs) or int(lengths.sum()) != len(log_probs):
        raise ValueError("its lengths do not sum to the number of frames")
    if np.isnan(log_probs).any() or (log_probs > 1e-3).any():
        raise ValueError("its values are not logarithms of probabilities")
