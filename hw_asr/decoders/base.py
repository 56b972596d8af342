"""What all decoders share: checks of their arguments and input, and the error they raise."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_asr.errors import UserError
from hw_asr.types import TensorOrArray

Matrix = NDArray[np.float64]
LOGIT_TOLERANCE = 0.05
"""Larger values are not log-probabilities; half precision rounds, but not that far."""


class DecodingError(UserError):
    """Log-probabilities that cannot be decoded; `index` is the utterance's place in the batch."""

    def __init__(self, index: int, reason: str) -> None:
        super().__init__(f"utterance {index} of the batch cannot be decoded: {reason}")
        self.index = index
        self.reason = reason


def as_array(values: TensorOrArray) -> NDArray[Any]:
    """Return a tensor of any device, or an array, as an array; half precision becomes float32."""
    if isinstance(values, np.ndarray):
        return values
    tensor = values.detach().cpu()
    return (tensor.float() if tensor.is_floating_point() and tensor.element_size() < 4 else tensor).numpy()


def utterances(log_probs: TensorOrArray, lengths: TensorOrArray, num_classes: int) -> list[Matrix]:
    """Cut a batch (B, T, V) into one C-contiguous float64 array (length, V) per utterance.

    Raises ValueError for shapes that do not fit and DecodingError for frames that are not probability distributions.
    """
    check_shapes(log_probs, lengths, num_classes)
    batch = np.ascontiguousarray(as_array(log_probs), np.float64)
    rows = [batch[index, :length] for index, length in enumerate(lengths.tolist())]
    for index, row in enumerate(rows):
        if len(row):
            check_frames(index, row.max(axis=1))
    return rows


def check_shapes(log_probs: TensorOrArray, lengths: TensorOrArray, num_classes: int) -> None:
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


def valid_peaks(peaks: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Return for the largest log-probability of each frame whether the frame can be a probability distribution."""
    valid: NDArray[np.bool_] = np.isfinite(peaks) & (peaks <= LOGIT_TOLERANCE)
    return valid


def check_frames(index: int, peaks: NDArray[np.floating]) -> None:
    """Raise DecodingError when `peaks` (T,), the largest log-probabilities of the frames, are not all valid.

    A NaN anywhere in a frame is its largest value.
    """
    if not np.isfinite(peaks).all():
        frame = int(np.flatnonzero(~np.isfinite(peaks))[0])
        value = peaks[frame]
        what = "all classes have probability 0" if value == -np.inf else f"it contains {value}"
        raise DecodingError(index, f"frame {frame} of {len(peaks)} is not a probability distribution: {what}")
    if peaks.max() > LOGIT_TOLERANCE:
        frame = int(peaks.argmax())
        raise DecodingError(
            index,
            f"frame {frame} contains {peaks[frame]:.4g}; log-probabilities are at most 0: apply log_softmax first",
        )


MAX_BEAM_SIZE = 10_000
"""Hypotheses that a search may keep or return; the memory grows with it, the accuracy hardly beyond a few hundred."""


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError when an argument is not in [low, high]; NaN never is."""
    if not low <= value <= high:
        expected = f"between {low:g} and {high:g}"
        if math.isinf(high):
            expected = f"of at least {low:g}"
        elif math.isinf(low):
            expected = f"of at most {high:g}"
        raise ValueError(f"{name}: expected a number {expected}, got {value}")
