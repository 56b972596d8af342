"""CTC prefix beam search fused with a word n-gram language model."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_asr.config.registry import DECODERS
from hw_asr.decoders.base import Threads
from hw_asr.decoders.beam_search import BeamSearchDecoder, check_range, hotword_arrays, linear
from hw_asr.lm.arpa import LanguageModelError
from hw_asr.lm.language_model import LanguageModel, LanguageModelSource
from hw_asr.types import TextEncoder


@DECODERS.register("lm_beam_search")
class LanguageModelBeamSearchDecoder(BeamSearchDecoder):
    """Ranks texts by ln P(text | audio) + alpha * ln P(words) + beta * number of words + what hotwords add.

    language_model: an ARPA file (.gz too), a KenLM binary, or an object whose `load(alphabet)` returns a LanguageModel;
    unknown_word_offset: nats added for each word the model does not know, beyond alpha times what it gives <unk>.
    The unfinished word of a prefix counts as the best one that it can become (lookahead; Ortmanns et al. 1996).
    The other arguments are those of beam_search.
    """

    name = "lm_beam_search"

    def __init__(
        self,
        text_encoder: TextEncoder,
        language_model: Path | LanguageModelSource,
        alpha: float = 0.8,
        beta: float = 2.0,
        unknown_word_offset: float = -10.0,
        beam_size: int = 100,
        n_best: int = 10,
        symbol_floor: float | None = -8.0,
        beam_threshold: float | None = 12.0,
        num_threads: int | None = None,
        hotwords: dict[str, float] | list[str] | None = None,
        hotword_weight: float = 10.0,
    ) -> None:
        check_range("alpha", alpha, 0, 1e6)
        check_range("beta", beta, -1e6, 1e6)
        check_range("unknown_word_offset", unknown_word_offset, -1e6, 1e6)
        super().__init__(
            text_encoder, beam_size, n_best, symbol_floor, beam_threshold, num_threads, hotwords, hotword_weight
        )
        if " " not in text_encoder.alphabet:
            raise LanguageModelError(
                "a word language model needs words: the alphabet has no space to part them; use beam_search"
            )
        if isinstance(language_model, (str, Path)):
            model = LanguageModel.load(Path(language_model), text_encoder.alphabet)
        elif hasattr(language_model, "load"):
            model = language_model.load(text_encoder.alphabet)
        else:
            raise ValueError(f"language_model: expected the path of an ARPA file, got {language_model!r}")
        boosts = {
            phrase: boost - unknown_word_offset * sum(word not in model for word in phrase.split())
            for phrase, boost in self._hotwords.items()
        }
        self._fused = True
        self._model = model
        self._fusion = language_model_arrays(model, alpha, beta, unknown_word_offset, boosts)
        self.is_thread_safe = not model.asks
        if model.asks:  # its table is filled in while decoding, by one thread
            self._threads = Threads(1)

    def _arrays(self) -> tuple[Any, ...]:
        return (*self._fusion[:3], self._model.ngrams, self._fusion[4])


def language_model_arrays(
    model: LanguageModel, alpha: float, beta: float, unknown_word_offset: float, boosts: Mapping[str, float]
) -> tuple[Any, ...]:
    """Return what the kernels take for a language model: weights, ids, trie, n-grams and hotwords (`fusion.FUSION`)."""
    first, classes, words, best = model.trie
    _, end, unknown = model.special
    log_probs: NDArray[np.float32] = model.ngrams[0]
    log_unknown = log_probs[unknown] if model.has_unknown else best[words >= 0].min()
    penalty = alpha * float(log_unknown) + unknown_word_offset
    lookahead = alpha * best.astype(np.float64)
    parents = np.repeat(np.arange(len(classes)), np.diff(first))
    gains = np.ones(len(classes))
    gains[1:] = linear(lookahead[1:] - lookahead[parents])
    return (
        np.array([alpha, beta, penalty, linear(np.array(beta + 2 * max(0.0, unknown_word_offset) - penalty))]),
        np.array([model.alphabet.index(" "), model.start_state, end, unknown], np.int32),
        (first, classes, words, lookahead, gains, linear(penalty - lookahead)),
        model.ngrams,
        hotword_arrays(model.alphabet, boosts),
    )
