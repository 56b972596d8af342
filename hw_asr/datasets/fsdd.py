"""The Free Spoken Digit Dataset (Jackson et al. 2018): 3000 spoken digits of six speakers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from hw_asr.config.registry import DATASETS
from hw_asr.datasets.archive import Archive, ArchiveCorpus, is_present
from hw_asr.datasets.directories import files_under
from hw_asr.datasets.index import indexed, path_of_index
from hw_asr.datasets.manifest import DataError
from hw_asr.types import Selection, Utterance

ARCHIVE = Archive(  # a zip: its members carry checksums, while GitHub promises none for the archive
    "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/refs/tags/v1.0.10.zip",
    "free-spoken-digit-dataset-1.0.10",
    0.02,
)
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
NUM_TEST_INDICES = 5
_NAME = re.compile(r"(\d)_([^_]+)_(\d+)")


@DATASETS.register()
class FSDDDataset(ArchiveCorpus):
    """Spoken digits; the text is the digit as a word.

    By the published convention `test` is each speaker's first five recordings of each digit, and `train` the others.
    With `held_out_speaker`, `test` is all of that speaker and `train` all of the others. `data_dir` is the repository
    or its recordings/, by default `root_dir/fsdd`; it is downloaded if it is missing.
    """

    def __init__(
        self,
        split: Literal["train", "test"],
        data_dir: Path | None = None,
        index_dir: Path | None = None,
        held_out_speaker: str | None = None,
        *,
        limit: int | None = None,
        max_audio_length: float | None = None,
        max_text_length: int | None = None,
        root_dir: Path = Path("data"),
    ) -> None:
        directory = data_dir or root_dir / "fsdd"
        super().__init__(f"FSDD {split}", ARCHIVE, directory, index_dir, limit, max_audio_length, max_text_length)
        self._split, self._held_out_speaker = split, held_out_speaker

    def utterances(self) -> Selection:
        """Download it if it is missing and return the utterances of the split."""
        directory = self._fetched()
        if is_present(directory / "recordings"):
            directory = directory / "recordings"
        everything, left_out = indexed(directory, path_of_index(directory, self._index_dir, "fsdd"), _scan, "FSDD")
        speakers = sorted({utterance.speaker or "" for utterance in everything})
        if self._held_out_speaker is not None and self._held_out_speaker not in speakers:
            raise DataError(
                f"{directory}: no held_out_speaker {self._held_out_speaker!r}; the speakers are {', '.join(speakers)}"
            )
        is_test = self._split == "test"
        return Selection([utterance for utterance in everything if self._is_test(utterance) == is_test], left_out)

    def _is_test(self, utterance: Utterance) -> bool:
        if self._held_out_speaker is not None:
            return utterance.speaker == self._held_out_speaker
        return int(utterance.id.rsplit("_", 1)[1]) < NUM_TEST_INDICES


def _scan(directory: Path) -> Iterator[Utterance]:
    """Yield the recordings, named DIGIT_SPEAKER_INDEX.wav."""
    named = [(path, _NAME.fullmatch(path.stem)) for path in files_under(directory, ".wav")]
    if not any(match for _, match in named):
        raise DataError(f"{directory}: not FSDD: no recordings named DIGIT_SPEAKER_INDEX.wav; check data_dir")
    for path, match in named:
        if match is not None:
            yield Utterance(path.stem, str(path), DIGITS[int(match[1])], 0.0, match[2])
