"""Decoders of padded batches as recognition uses them: on lists of arrays, from several threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import cast

import numpy as np

from hw_asr.types import CTCDecoder, Hypothesis, LogProbs, TensorOrArray


class ArrayDecoder:
    """Maps the log-probabilities (T, V) of several recordings to the hypotheses of each, best first."""

    def __init__(self, decoder: CTCDecoder) -> None:
        self.decoder = decoder
        self.lock = nullcontext() if getattr(decoder, "is_thread_safe", True) else threading.Lock()
        """To be held while the decoder is in use."""
        self._decode = _taking_arrays(decoder)

    def __call__(self, recordings: Sequence[LogProbs]) -> list[list[Hypothesis]]:
        """Decode; several threads may call this."""
        lengths = np.array([len(log_probs) for log_probs in recordings])
        padded = np.zeros((len(recordings), lengths.max(), recordings[0].shape[1]), np.float32)
        for row, log_probs in zip(padded, recordings, strict=True):
            row[: len(log_probs)] = log_probs
        with self.lock:
            return self._decode(padded, lengths)


def _taking_arrays(decoder: CTCDecoder) -> Callable[[TensorOrArray, TensorOrArray], list[list[Hypothesis]]]:
    if getattr(decoder, "takes_arrays", False):
        return cast(Callable[[TensorOrArray, TensorOrArray], list[list[Hypothesis]]], decoder)
    import torch

    return lambda log_probs, lengths: decoder(torch.as_tensor(log_probs), torch.as_tensor(lengths))
