"""What all decoders share: checks of their input, the error they raise, and threads over utterances."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hw_asr.errors import UserError

Matrix = NDArray[np.float64]
Result = TypeVar("Result")
LOGIT_TOLERANCE = 0.05
"""A log-probability above this is none: half precision rounds, but not that far."""


class DecodingError(UserError):
    """Log-probabilities that no decoder can work on; `index` is the utterance's place in the batch."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"utterance {index} of the batch cannot be decoded: {reason}")
        self.index = index
        self.reason = reason


def utterances(log_probs: Tensor, lengths: Tensor, num_classes: int) -> list[Matrix]:
    """Cut a batch (B, T, V) into one C-contiguous float64 array (length, V) per utterance.

    Raises ValueError for shapes that do not fit and DecodingError for frames that are no distribution.
    """
    check_shapes(log_probs, lengths, num_classes)
    batch = log_probs.detach().to("cpu").to(torch.float64).contiguous().numpy()
    rows = [batch[index, :length] for index, length in enumerate(lengths.tolist())]
    for index, row in enumerate(rows):
        if len(row):
            check_frames(index, row.max(axis=1))
    return rows


def check_shapes(log_probs: Tensor, lengths: Tensor, num_classes: int) -> None:
    """Raise ValueError when `log_probs` (B, T, V), `lengths` (B,) and the alphabet do not fit each other."""
    if log_probs.ndim != 3 or log_probs.shape[2] != num_classes:
        raise ValueError(
            f"log_probs: expected a batch, frames and {num_classes} classes as in the alphabet, "
            f"got the shape {tuple(log_probs.shape)}"
        )
    if lengths.shape != log_probs.shape[:1]:
        raise ValueError(
            f"lengths: expected one for each of {len(log_probs)} utterances, got the shape {tuple(lengths.shape)}"
        )
    if len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= log_probs.shape[1]:
        raise ValueError(f"lengths: expected at most {log_probs.shape[1]} frames, got {lengths.tolist()}")


def check_frames(index: int, peaks: NDArray[Any]) -> None:
    """Raise DecodingError when the largest log-probability of a frame, `peaks` (T,), is none.

    A NaN anywhere in a frame is its largest value.
    """
    if not np.isfinite(peaks).all():
        frame = int(np.flatnonzero(~np.isfinite(peaks))[0])
        value = peaks[frame]
        what = "all its classes have probability 0" if value == -np.inf else f"it holds {value}"
        raise DecodingError(index, f"frame {frame} of {len(peaks)} is no distribution: {what}")
    if peaks.max() > LOGIT_TOLERANCE:
        frame = int(peaks.argmax())
        raise DecodingError(
            index, f"frame {frame} holds {peaks[frame]:.4g}, log-probabilities are at most 0; apply log_softmax first"
        )


class Threads:
    """Maps a function that releases the GIL over utterances, keeping their order; one pool, made when first needed."""

    def __init__(self, num_threads: int | None) -> None:
        if num_threads is not None and num_threads < 1:
            raise ValueError(f"num_threads: expected at least 1, or null for all cores, got {num_threads}")
        self._num_threads = num_threads or available_cores()
        self._pool: ThreadPoolExecutor | None = None

    def map(self, function: Callable[[Matrix], Result], items: Iterable[Matrix]) -> list[Result]:
        """Return `[function(item) for item in items]`."""
        items = list(items)
        if self._num_threads == 1 or len(items) < 2:
            return [function(item) for item in items]
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._num_threads, thread_name_prefix="decoder")
        return list(self._pool.map(function, items))

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_pool": None}


def available_cores() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
