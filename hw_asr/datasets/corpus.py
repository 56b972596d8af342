"""The base of all corpora: their filters, and how a selection is made."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from hw_asr.datasets.audio import duration
from hw_asr.datasets.manifest import UNREADABLE, DataError, consume, select
from hw_asr.datasets.recording import AudioError
from hw_asr.types import Selection, Utterance


class FilteredCorpus(ABC):
    """A `hw_asr.types.Corpus` whose utterances are filtered.

    `limit` keeps a sample of so many utterances, the same every time; `max_audio_length` is in seconds,
    `max_text_length` in characters of the normalised text. Raises ValueError when one of them is not positive.
    """

    can_download = False
    """Whether `select` downloads a corpus that is not here; otherwise it raises DataError."""

    def __init__(
        self, limit: int | None = None, max_audio_length: float | None = None, max_text_length: int | None = None
    ) -> None:
        named = {"limit": limit, "max_audio_length": max_audio_length, "max_text_length": max_text_length}
        for name, value in named.items():
            if value is not None and not value > 0:
                raise ValueError(f"{name}: expected a positive number or null, got {value}")
        self._limit, self._max_audio_length, self._max_text_length = limit, max_audio_length, max_text_length

    @property
    @abstractmethod
    def name(self) -> str:
        """The name of this corpus in messages."""

    @abstractmethod
    def is_here(self) -> bool:
        """Whether `select` needs no download."""

    @abstractmethod
    def status(self) -> str:
        """Return one line: where it is, or what would be downloaded, from where to where, and its size."""

    @abstractmethod
    def utterances(self) -> Selection:
        """Return all utterances, texts as they are written, and counts of what was left out by reason.

        Raises DataError when there is none.
        """

    def select(self, normalize: Callable[[str], str]) -> Selection:
        """Download and index what is missing, then return the utterances, filtered, their texts normalised.

        Raises DataError when the corpus is missing or no utterance is left, DownloadError when the download fails.
        """
        utterances, dropped = self.utterances()
        if utterances and all(utterance.duration == UNREADABLE for utterance in utterances):
            raise DataError(_none_can_be_opened(utterances, self.name))
        utterances = utterances.copy()  # the corpus may keep its list
        return select(
            consume(utterances),
            normalize,
            self.name,
            limit=self._limit,
            max_audio_length=self._max_audio_length,
            max_text_length=self._max_text_length,
            dropped=dropped,
        )


def existing_directory(path: Path, what: str, advice: str = "") -> Path:
    """Return the path of a directory that holds `what`; raises DataError when it is not a directory."""
    if path.is_dir():
        return path
    problem = "is a file" if path.exists() else "no such directory"
    raise DataError(f"{path}: {problem}; expected {what}{f'; {advice}' if advice else ''}")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a file of transcripts; raises DataError when it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")  # splitlines() would also split at U+2028 and others
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: the transcripts cannot be read: {error}; expected a file in UTF-8") from error


def _none_can_be_opened(utterances: list[Utterance], source: str) -> str:
    try:
        duration(Path(utterances[0].audio_path))
        reason = "it is empty"
    except AudioError as error:
        reason = str(error)
    return f"{source}: none of its {len(utterances)} recordings can be opened; the first one: {reason}"
