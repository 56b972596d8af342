"""CTC prefix beam search over whole batches, on threads."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hw_asr.config.registry import DECODERS
from hw_asr.decoders.base import Matrix, Threads, utterances
from hw_asr.decoders.hotwords import Hotwords, read_hotwords
from hw_asr.types import Hypothesis, TextEncoder

LARGEST_LOG_WEIGHT = 300.0


@DECODERS.register("beam_search")
class BeamSearchDecoder:
    """Finds the most probable texts rather than the most probable alignments (Hannun et al. 2014, arXiv:1408.2873).

    beam_size: prefixes kept after each frame; n_best: texts returned, at most; symbol_floor: classes of a lower
    log-probability are passed over, null for none; beam_threshold: prefixes that many nats below the best are dropped,
    null for none; num_threads: null for all cores; hotwords: phrases, or phrases with a boost each in nats, else
    `hotword_weight`. Without floor, threshold and a full beam the search is exact.
    """

    name = "beam_search"

    def __init__(
        self,
        text_encoder: TextEncoder,
        beam_size: int = 100,
        n_best: int = 10,
        symbol_floor: float | None = -8.0,
        beam_threshold: float | None = 12.0,
        num_threads: int | None = None,
        hotwords: dict[str, float] | list[str] | None = None,
        hotword_weight: float = 10.0,
    ) -> None:
        check_range("beam_size", beam_size, 1, math.inf)
        check_range("n_best", n_best, 1, math.inf)
        check_range("symbol_floor", -math.inf if symbol_floor is None else symbol_floor, -math.inf, 0)
        check_range("beam_threshold", math.inf if beam_threshold is None else beam_threshold, 0, math.inf)
        self._num_classes = len(text_encoder.alphabet)
        self._character = text_encoder.alphabet.__getitem__
        self._beam_size, self._n_best = beam_size, n_best
        self._floor = 0.0 if symbol_floor is None else math.exp(symbol_floor)
        self._threshold = 0.0 if beam_threshold is None else math.exp(-beam_threshold)
        self._threads = Threads(num_threads)
        self._hotwords = read_hotwords(hotwords, hotword_weight, text_encoder)
        self._fused = bool(self._hotwords)
        self._fusion = no_language_model(text_encoder.alphabet, self._hotwords)
        from hw_asr.decoders import ctc_forward, fusion, prefix_search, prefix_tree  # the first import compiles

        self._search, self._log_likelihood = prefix_search.search_texts, ctc_forward.log_likelihood
        self._fused_score, self._num_columns = fusion.fused_score, prefix_tree.COLUMNS

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Return up to `n_best` texts for each utterance of `log_probs` (B, T, V), highest score first.

        Raises DecodingError naming the utterance when a frame is no distribution.
        """
        return self._threads.map(self._decode, utterances(log_probs, lengths, self._num_classes))

    def _decode(self, log_probs: Matrix) -> list[Hypothesis]:
        peaks = log_probs.max(axis=1) if len(log_probs) else np.zeros(0)
        probs = np.exp(log_probs - peaks[:, None])
        floors = self._floor * np.exp(-peaks)
        totals, log_scale = probs.sum(axis=1), float(peaks.sum())
        hypotheses = []
        found = self._search(probs, floors, self._beam_size, self._threshold, self._fused, self._arrays)
        for labels in islice(found, self._n_best):
            log_prob = self._log_likelihood(probs, totals, log_scale, labels)
            score = log_prob + self._language_score(labels)
            hypotheses.append(Hypothesis("".join(map(self._character, labels.tolist())), log_prob, score))
        return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)

    def _language_score(self, labels: NDArray[np.int32]) -> float:
        if not self._fused:
            return 0.0
        arrays = self._arrays()
        while True:
            score = self._fused_score(labels, np.zeros((2, self._num_columns), np.int32), arrays)
            if arrays[3][6][0, 0] == 0:
                return float(score)
            arrays = self._arrays()

    def _arrays(self) -> tuple[Any, ...]:
        """Return what weighs the classes; see `fusion.FUSION`."""
        return self._fusion


def no_language_model(alphabet: Sequence[str], boosts: Mapping[str, float]) -> tuple[Any, ...]:
    """Return what the kernels take for the language model when there are at most hotwords."""
    integers, singles, doubles = np.zeros(0, np.int32), np.zeros(0, np.float32), np.zeros(0)
    space = list(alphabet).index(" ") if " " in alphabet else -1
    return (
        np.zeros(4),
        np.array([space, -1, 0, 0], np.int32),
        (integers, integers, integers, doubles, doubles, doubles),
        (singles, singles, integers, integers, np.zeros(2, np.uint64), integers, np.zeros((1, 2), np.int64)),
        hotword_arrays(alphabet, boosts),
    )


def hotword_arrays(
    alphabet: Sequence[str], boosts: Mapping[str, float]
) -> tuple[NDArray[np.int32], Matrix, NDArray[np.float64]]:
    """Return the hotwords' next states, linear weights and end weights in nats; one state when there are none."""
    if not boosts:
        return np.zeros((1, len(alphabet)), np.int32), np.ones((1, len(alphabet))), np.zeros(1)
    automaton = Hotwords(boosts, alphabet)
    return automaton.next_states, linear(automaton.log_weights), automaton.end_log_weights


def linear(log_weights: Matrix) -> Matrix:
    """Return weights of logarithms, kept where a product of a few of them neither vanishes nor overflows."""
    weights: Matrix = np.exp(np.clip(log_weights, -LARGEST_LOG_WEIGHT, LARGEST_LOG_WEIGHT))
    return weights


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raise ValueError when an argument is not in [low, high]; NaN never is."""
    if not low <= value <= high:
        raise ValueError(f"{name}: expected a number from {low:g} to {high:g}, got {value}")
