"""CTC prefix beam search over whole batches: the decoder, and what it shares with the one with a language model."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hw_asr.config.registry import DECODERS
from hw_asr.decoders.base import MAX_BEAM_SIZE, check_range
from hw_asr.decoders.hotwords import read_hotwords
from hw_asr.runtime.optional import MissingPackageError
from hw_asr.types import Hypothesis, TensorOrArray, TextEncoder

if TYPE_CHECKING:
    from hw_asr.decoders.batch_search import BatchSearch
    from hw_asr.decoders.fusion_tables import Fusion


@dataclass(eq=False, kw_only=True)
class PrefixSearch(ABC):
    """A beam search that is compiled and loaded when it is first used, or by `prepare`.

    The arguments are those that all prefix beam searches have, see `BeamSearchDecoder`. Raises ValueError for values
    out of range.
    """

    takes_arrays = True
    text_encoder: TextEncoder = field(kw_only=False)
    beam_size: int = 100
    n_best: int = 10
    symbol_floor: float | None = -6.0
    beam_threshold: float | None = 10.0
    num_threads: int | None = None
    hotwords: dict[str, float] | list[str] | None = None
    hotword_weight: float = 10.0

    def __post_init__(self) -> None:
        floor, threshold = self.symbol_floor, self.beam_threshold
        check_range("beam_size", self.beam_size, 1, MAX_BEAM_SIZE)
        check_range("n_best", self.n_best, 1, MAX_BEAM_SIZE)
        check_range("symbol_floor", -math.inf if floor is None else floor, -math.inf, 0)
        check_range("beam_threshold", math.inf if threshold is None else threshold, 0, math.inf)
        if self.num_threads is not None and self.num_threads < 1:
            raise ValueError(f"num_threads: expected at least 1, or null for all cores, got {self.num_threads}")
        self._boosts = read_hotwords(self.hotwords, self.hotword_weight, self.text_encoder)
        self._search: BatchSearch | None = None
        self._is_thread_safe = True

    def prepare(self) -> None:
        """Compile the kernels and read the language model; raises UserError when that is not possible."""
        if self._search is None:
            try:
                importlib.import_module("numba")
            except (ImportError, OSError) as error:  # not installed, made for another NumPy, or damaged
                raise MissingPackageError(
                    f"the beam searches need the package numba ({error}): pip install --upgrade numba, or use argmax"
                ) from error
            self._search = self._make_search()

    @property
    def is_thread_safe(self) -> bool:
        """Whether threads may call the decoder at the same time."""
        self.prepare()
        return self._is_thread_safe

    @property
    def search(self) -> BatchSearch:
        """The compiled search; see `prepare`."""
        self.prepare()
        assert self._search is not None
        return self._search

    def __call__(self, log_probs: TensorOrArray, lengths: TensorOrArray) -> list[list[Hypothesis]]:
        """Return up to `n_best` texts for each utterance of `log_probs` (B, T, V), highest score first.

        Raises DecodingError naming the utterance when a frame is not a probability distribution.
        """
        return self.search(log_probs, lengths)

    @abstractmethod
    def _make_search(self) -> BatchSearch:
        """Return the compiled search; called once."""

    def _compiled(self, fusion: Callable[[], Fusion], fused: bool, num_threads: int | None) -> BatchSearch:
        from hw_asr.decoders.batch_search import BatchSearch  # the first import compiles
        from hw_asr.decoders.prefix_search import Options

        floor, threshold = self.symbol_floor, self.beam_threshold
        options = Options(
            beam_size=self.beam_size,
            n_best=self.n_best,
            floor=0.0 if floor is None else math.exp(floor),
            threshold=0.0 if threshold is None else math.exp(-threshold),
            fused=fused,
        )
        return BatchSearch(self.text_encoder.alphabet, options, fusion, num_threads)


@DECODERS.register("beam_search")
@dataclass(eq=False)
class BeamSearchDecoder(PrefixSearch):
    """Finds the most probable texts rather than the most probable alignments (Hannun et al. 2014, arXiv:1408.2873).

    beam_size: prefixes kept after each frame; n_best: texts returned, at most; symbol_floor: classes with a lower
    log-probability are skipped in a frame, null for none; beam_threshold: prefixes that many nats below the best are
    dropped, null for none; num_threads: null for all cores; hotwords: phrases, or phrases with a boost each in nats;
    listed phrases get `hotword_weight`. Without floor and threshold, and with a beam that holds all prefixes, the
    search is exact.
    """

    name: str = field(default="beam_search", init=False)

    def _make_search(self) -> BatchSearch:
        from hw_asr.decoders.fusion_tables import without_language_model

        fusion = without_language_model(self.text_encoder.alphabet, self._boosts)
        return self._compiled(lambda: fusion, bool(self._boosts), self.num_threads)
