"""pyctcdecode behind the same protocol, for those who want to compare; an optional package."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from hw_asr.config.registry import DECODERS
from hw_asr.decoders.base import MAX_BEAM_SIZE, Matrix, check_range, utterances
from hw_asr.decoders.hotwords import read_hotwords
from hw_asr.lm.arpa import LanguageModelError
from hw_asr.runtime.optional import MissingPackageError, optional_import
from hw_asr.types import Hypothesis, TensorOrArray, TextEncoder


@DECODERS.register("pyctcdecode")
@dataclass(eq=False)
class PyctcdecodeDecoder:
    """The beam search of pyctcdecode, with KenLM when a language model is given: an ARPA file or a KenLM binary.

    Weights are pyctcdecode's own: unk_score_offset counts in decimal logarithms and is multiplied by alpha, hotwords
    share one weight. The probability of a text is the exact one, the score is pyctcdecode's. Raises
    MissingPackageError when a package is not installed.
    """

    text_encoder: TextEncoder
    language_model: Path | None = None
    alpha: float = 0.5
    beta: float = 1.5
    unk_score_offset: float = -10.0
    beam_size: int = 100
    n_best: int = 10
    token_min_logp: float = -5.0
    beam_prune_logp: float = -10.0
    hotwords: list[str] | None = None
    hotword_weight: float = 10.0
    name: str = "pyctcdecode"
    is_thread_safe: bool = field(default=False, init=False)
    takes_arrays: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 0, 1e6)
        check_range("beta", self.beta, -1e6, 1e6)
        check_range("beam_size", self.beam_size, 1, MAX_BEAM_SIZE)
        check_range("n_best", self.n_best, 1, MAX_BEAM_SIZE)
        self._arguments: dict[str, Any] = {
            "beam_width": self.beam_size,
            "token_min_logp": self.token_min_logp,
            "beam_prune_logp": self.beam_prune_logp,
            "hotwords": list(read_hotwords(self.hotwords, self.hotword_weight, self.text_encoder)) or None,
            "hotword_weight": self.hotword_weight,
        }
        self._decoder: Any = None

    def prepare(self) -> None:
        """Import the packages and read the language model; raises UserError when that is not possible."""
        if self._decoder is not None:
            return
        package = _find_pyctcdecode()
        labels = ["", *self.text_encoder.alphabet[1:]]
        self._log_likelihood = importlib.import_module("hw_asr.decoders.ctc_forward").labelling_log_likelihood
        if self.language_model is None:
            self._decoder = package.build_ctcdecoder(labels)
            return
        with optional_import("pyctcdecode with a language model", "kenlm", "kenlm"):
            importlib.import_module("kenlm")
        if not self.language_model.is_file():
            raise LanguageModelError(f"{self.language_model}: no such language model")
        weights = {
            "alpha": float(self.alpha), "beta": float(self.beta), "unk_score_offset": float(self.unk_score_offset),
        }  # fmt: skip
        self._decoder = package.build_ctcdecoder(labels, str(self.language_model), **weights)

    def __call__(self, log_probs: TensorOrArray, lengths: TensorOrArray) -> list[list[Hypothesis]]:
        """Return up to `n_best` texts for each utterance of `log_probs` (B, T, V), highest score first.

        Raises DecodingError naming the utterance when a frame is not a probability distribution.
        """
        self.prepare()
        return [self._decode(row) for row in utterances(log_probs, lengths, len(self.text_encoder.alphabet))]

    def _decode(self, log_probs: Matrix) -> list[Hypothesis]:
        if not len(log_probs):
            return [Hypothesis("", 0.0, 0.0)]
        hypotheses: dict[str, Hypothesis] = {}
        for text, *_, score in self._decoder.decode_beams(log_probs, **self._arguments):
            if text not in hypotheses:
                log_prob = self._log_likelihood(log_probs, self.text_encoder.encode(text))
                hypotheses[text] = Hypothesis(text, log_prob, float(score))
        return sorted(hypotheses.values(), key=lambda hypothesis: -hypothesis.score)[: self.n_best]


def _find_pyctcdecode() -> ModuleType:
    try:
        return importlib.import_module("pyctcdecode")
    except ImportError as error:
        raise MissingPackageError(
            f"the decoder 'pyctcdecode' needs the package pyctcdecode ({error}); docs/decoding.md shows how to install "
            "it; or use 'beam_search' and 'lm_beam_search'"
        ) from error
