"""Data types that packages share, and the protocols of components."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:  # results and errors are used without torch
    import numpy as np
    import torch
    from numpy.typing import NDArray
    from torch import Tensor

    TensorOrArray: TypeAlias = Tensor | NDArray[Any]
    LogProbs: TypeAlias = NDArray[np.float32]
    """(T, V), natural logarithms; class 0 is the blank."""
else:
    TensorOrArray: TypeAlias = Any  # annotations of constructors are evaluated, without torch too
    LogProbs: TypeAlias = Any


class Utterance(NamedTuple):
    """A recording and its metadata, before it is decoded."""

    id: str
    audio_path: str
    """A string, because making a hundred thousand `Path`s takes longer than reading the rest of an index."""
    text: str | None
    """Normalised reference; None when there is none."""
    duration: float
    """Seconds; 0 when it is not known."""
    speaker: str | None = None
    offset: float | None = None
    """None: the utterance is the whole recording. Otherwise it is the piece of `duration` seconds (of all the rest, if
    that is 0) which starts `offset` seconds into the recording."""


class Hypothesis(NamedTuple):
    """A text that a decoder has found."""

    text: str
    log_prob: float
    """Natural logarithm of the exact CTC probability of `text`: all its alignments, no language model."""
    score: float
    """Natural logarithm by which the search ranks: `log_prob`, plus terms of a language model if there is one."""


@dataclass(frozen=True)
class Word:
    """A word of a transcript with its time."""

    word: str
    start: float
    """Seconds from the beginning of the recording."""
    end: float
    confidence: float
    """In [0, 1]."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data, as in output.json."""
        return asdict(self)


class Selection(NamedTuple):
    """The utterances of a corpus, and how many were left out by reason."""

    utterances: list[Utterance]
    dropped: dict[str, int]


class Corpus(Protocol):
    """A source of utterances, made from the `args` of a config. The constructor uses neither disk nor network."""

    def status(self) -> str:
        """Return one line: what is there, or what would be downloaded, from where to where and how large."""

    def is_here(self) -> bool:
        """Whether `select` downloads nothing."""

    def select(self, normalize: Callable[[str], str]) -> Selection:
        """Download and index what is missing; return the filtered utterances with normalised texts."""


class EpochSampler(Protocol):
    """Batches of one epoch, as lists of indices."""

    def set_epoch(self, epoch: int, start_batch: int = 0) -> None:
        """Choose what the next iteration yields: epoch `epoch`, from 0, without its first `start_batch` batches."""

    def __iter__(self) -> Iterator[list[int]]:
        """Yield the batches of this process."""

    def __len__(self) -> int:
        """Return the number of batches in a whole epoch."""


class AcousticModel(Protocol):
    """A network over spectrograms whose results do not depend on padding."""

    def __call__(self, spectrogram: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, F, T) features, row b having `lengths[b]` frames, to logits (B, T', V)."""

    def transform_input_lengths(self, lengths: Tensor) -> Tensor:
        """Map input lengths (B,) to output lengths (B,)."""


class IntermediateModel(AcousticModel, Protocol):
    """An acoustic model whose inner layers have CTC heads, which only training reads."""

    intermediate_layers: Sequence[int]
    """Numbers of the layers with a head, ascending; empty: none."""

    def forward_all(self, spectrogram: Tensor, lengths: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits (B, T', V) of the output layer and of each intermediate layer."""


@runtime_checkable
class PretrainedModel(Protocol):
    """A model whose initial weights are downloaded for a new run; a checkpoint contains its own."""

    def load_pretrained(self) -> None:
        """Load the weights, downloaded if necessary. Raises UserError."""


class CTCDecoder(Protocol):
    """Turns log-probabilities into texts."""

    name: str
    """The name in result tables and keys, such as argmax or beam_search."""

    # `takes_arrays = True` declares that NumPy arrays are accepted as well, which recognition without torch needs.

    def __call__(self, log_probs: Tensor, lengths: Tensor) -> list[list[Hypothesis]]:
        """Decode `log_probs` (B, T, V), natural logarithms, of which row b has `lengths[b]` frames; `lengths` (B,).

        Returns the hypotheses of each utterance, best first, in the order given.
        """


class Metric(Protocol):
    """A score of one decoder's texts, summed over utterances."""

    name: str
    decoder: str
    """Name of the decoder whose texts are scored."""

    @property
    def totals(self) -> list[float]:
        """All sums. Adding those of several processes gives the sums over all utterances."""

    @totals.setter
    def totals(self, values: list[float]) -> None: ...

    def reset(self) -> None:
        """Remove all utterances."""

    def update(self, reference: str, hypotheses: Mapping[str, str]) -> None:
        """Add one utterance: its normalised reference and the best text of each decoder by its name."""

    def compute(self) -> dict[str, float]:
        """Return the values by the names used in logs and in `monitor`."""

    def names(self) -> list[str]:
        """Return the keys of `compute`."""


class WaveAugmentation(Protocol):
    """Changes a batch of waveforms; values beyond a length stay zero."""

    def __call__(self, samples: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Map (B, T) samples and (B,) lengths to new ones; all random numbers come from `generator` (CPU)."""


class SpectrogramAugmentation(Protocol):
    """Changes a batch of (log-)spectrograms; values beyond a length stay zero."""

    def __call__(self, spectrogram: Tensor, lengths: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Map (B, F, T) and (B,) lengths to new ones; all random numbers come from `generator` (CPU)."""


class TextEncoder(Protocol):
    """Maps text to class indices and back; index 0 is the CTC blank."""

    @property
    def alphabet(self) -> Sequence[str]:
        """One string per class; alphabet[0] is a printable symbol for the blank."""

    def normalize(self, text: str) -> str:
        """Return a transcript in the form used for training and scoring."""

    def encode(self, text: str) -> list[int]:
        """Return the indices of a normalised text."""

    def decode(self, indices: Sequence[int]) -> str:
        """Return the text of a labelling without blanks."""


def best_text(hypotheses: Sequence[Hypothesis]) -> str:
    """Return the text of the first hypothesis; empty for an empty list."""
    return hypotheses[0].text if hypotheses else ""
