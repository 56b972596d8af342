"""The texts of a group of utterances as kernels write them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from hw_asr.runtime.kernels import Float64Matrix, Int32Vector, Int64Matrix, Int64Vector


class Texts(NamedTuple):
    """Up to N texts for each of S utterances."""

    labels: Int32Vector
    """Classes of all texts."""
    used: Int64Vector
    """(1,) how many of `labels` are used."""
    spans: Int64Matrix
    """(S * N, 2) first and last + 1 label of each text."""
    counts: Int64Vector
    """(S,) number of texts of each utterance."""
    log_probs: Float64Matrix
    """(S, N) exact CTC log-probabilities; NaN where the linear recursion loses too much."""
    scores: Float64Matrix
    """(S, N) what language model and hotwords add, in nats."""


def make_texts(lengths: Int64Vector, room: int) -> Texts:
    """Return room for `room` texts of each utterance, which have so many frames."""
    size = len(lengths)
    return Texts(
        labels=np.empty(room * int(lengths.sum()), np.int32),
        used=np.zeros(1, np.int64),
        spans=np.zeros((size * room, 2), np.int64),
        counts=np.zeros(size, np.int64),
        log_probs=np.zeros((size, room)),
        scores=np.zeros((size, room)),
    )
