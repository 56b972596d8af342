"""CTC prefix beam search fused with a word n-gram language model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hw_asr.config.registry import DECODERS
from hw_asr.decoders.base import check_range
from hw_asr.decoders.beam_search import PrefixSearch
from hw_asr.lm.arpa import LanguageModelError
from hw_asr.lm.language_model import LanguageModel, LanguageModelSource

if TYPE_CHECKING:
    from hw_asr.decoders.batch_search import BatchSearch


@DECODERS.register("lm_beam_search")
@dataclass(eq=False)
class LanguageModelBeamSearchDecoder(PrefixSearch):
    """Ranks texts by ln P(text | audio) + alpha * ln P(words) + beta * number of words + the boosts of hotwords.

    language_model: an ARPA file (.gz too), a KenLM binary, or an object whose `load(alphabet)` returns a LanguageModel;
    unknown_word_offset: nats for each word that the model does not know, in addition to alpha times its <unk>.
    The unfinished word of a prefix counts as the best one that it can become (lookahead; Ortmanns et al. 1996).
    The other arguments are those of beam_search. Making a decoder reads no file; `prepare` and the first batch do.
    """

    language_model: Path | LanguageModelSource
    alpha: float = 0.8
    beta: float = 2.0
    unknown_word_offset: float = -10.0
    name: str = field(default="lm_beam_search", init=False)

    def __post_init__(self) -> None:
        check_range("alpha", self.alpha, 0, 1e6)
        check_range("beta", self.beta, -1e6, 1e6)
        check_range("unknown_word_offset", self.unknown_word_offset, -1e6, 1e6)
        super().__post_init__()
        if " " not in self.text_encoder.alphabet:
            raise LanguageModelError(
                "a word language model needs words: the alphabet has no space character to separate words; "
                "use beam_search"
            )
        longer = [symbol for symbol in self.text_encoder.alphabet[1:] if len(symbol) != 1]
        if longer:
            raise LanguageModelError(
                f"a language model needs classes of one character each, the alphabet has {longer[0]!r}; use beam_search"
            )
        if not isinstance(self.language_model, (str, Path)) and not hasattr(self.language_model, "load"):
            raise ValueError(f"language_model: expected the path of an ARPA file, got {self.language_model!r}")

    def _make_search(self) -> BatchSearch:
        from hw_asr.decoders.fusion_tables import Weights, with_language_model

        if isinstance(self.language_model, (str, Path)):
            model = LanguageModel.load(Path(self.language_model), self.text_encoder.alphabet)
        else:
            model = self.language_model.load(self.text_encoder.alphabet)
        weights = Weights(self.alpha, self.beta, self.unknown_word_offset)
        fusion = with_language_model(model, weights, self._boosts)
        # A table with misses is filled while decoding, which one thread at a time may do.
        self._is_thread_safe = not model.has_misses
        num_threads = self.num_threads if self._is_thread_safe else 1
        return self._compiled(lambda: fusion._replace(ngrams=model.fill_misses()), True, num_threads)
