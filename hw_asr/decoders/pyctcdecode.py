"""pyctcdecode behind the same protocol, for those who want to compare; an optional package."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from hw_asr.config.registry import DECODERS
from hw_asr.decoders.base import Matrix, utterances
from hw_asr.decoders.beam_search import check_range
from hw_asr.decoders.hotwords import read_hotwords
from hw_asr.lm.arpa import LanguageModelError
from hw_asr.runtime.optional import MissingPackageError, optional_import
from hw_asr.types import Hypothesis, TextEncoder


@DECODERS.register("pyctcdecode")
class PyctcdecodeDecoder:
    """The beam search of pyctcdecode, with KenLM when a language model is given: an ARPA file or a KenLM binary.

    Weights are pyctcdecode's own: unk_score_offset counts in decimal logarithms and is multiplied by alpha, hotwords
    share one weight. The probability of a text is the exact one, the score is pyctcdecode's. Raises
    MissingPackageError when a package is not installed.
    """

    is_thread_safe = False

    def __init__(
        self,
        text_encoder: TextEncoder,
        language_model: Path | None = None,
        alpha: float = 0.5,
        beta: float = 1.5,
        unk_score_offset: float = -10.0,
        beam_size: int = 100,
        n_best: int = 10,
        token_min_logp: float = -5.0,
        beam_prune_logp: float = -10.0,
        hotwords: list[str] | None = None,
        hotword_weight: float = 10.0,
        name: str = "pyctcdecode",
    ) -> None:
        check_range("alpha", alpha, 0, 1e6)
        check_range("beta", beta, -1e6, 1e6)
        check_range("beam_size", beam_size, 1, math.inf)
        check_range("n_best", n_best, 1, math.inf)
        self.name = name
        self._num_classes = len(text_encoder.alphabet)
        self._encode = text_encoder.encode
        self._n_best = n_best
        package = _find_pyctcdecode()
        labels = ["", *text_encoder.alphabet[1:]]
        if language_model is None:
            self._decoder = package.build_ctcdecoder(labels)
        else:
            with optional_import("pyctcdecode with a language model", "kenlm", "kenlm"):
                importlib.import_module("kenlm")
            if not language_model.is_file():
                raise LanguageModelError(f"{language_model}: there is no such language model")
            weights = {"alpha": float(alpha), "beta": float(beta), "unk_score_offset": float(unk_score_offset)}
            self._decoder = package.build_ctcdecoder(labels, str(language_model), **weights)
        self._arguments: dict[str, Any] = {
            "beam_width": beam_size,
            "token_min_logp": token_min_logp,
            "beam_prune_logp": beam_prune_logp,
            "hotwords": list(read_hotwords(hotwords, hotword_weight, text_encoder)) or None,
            "hotword_weight": hotword_weight,
        }
        self._log_likelihood = importlib.import_module("hw_asr.decoders.ctc_forward").log_likelihood

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Return up to `n_best` texts for each utterance of `log_probs` (B, T, V), highest score first.

        Raises DecodingError naming the utterance when a frame is no distribution.
        """
        return [self._decode(row) for row in utterances(log_probs, lengths, self._num_classes)]

    def _decode(self, log_probs: Matrix) -> list[Hypothesis]:
        if not len(log_probs):
            return [Hypothesis("", 0.0, 0.0)]
        peaks = log_probs.max(axis=1)
        probs = np.exp(log_probs - peaks[:, None])
        totals, log_scale = probs.sum(axis=1), float(peaks.sum())
        found: dict[str, Hypothesis] = {}
        for text, *_, score in self._decoder.decode_beams(log_probs, **self._arguments):
            labels = np.array(self._encode(text), np.int32)
            log_prob = self._log_likelihood(probs, totals, log_scale, labels)
            found.setdefault(text, Hypothesis(text, log_prob, float(score)))
        return sorted(found.values(), key=lambda hypothesis: -hypothesis.score)[: self._n_best]


def _find_pyctcdecode() -> Any:
    try:
        return importlib.import_module("pyctcdecode")
    except ImportError as error:
        raise MissingPackageError(
            f"the decoder 'pyctcdecode' needs the package pyctcdecode ({error}); docs/decoding.md shows how to install "
            "it; or use 'beam_search' and 'lm_beam_search'"
        ) from error
