"""LibriSpeech (Panayotov et al. 2015, openslr.org/12): 1000 hours of read English."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from hw_asr.config.registry import DATASETS
from hw_asr.datasets.archive import Archive, describe, ensure, is_present
from hw_asr.datasets.corpus import FilteredCorpus, read_lines
from hw_asr.datasets.directories import files_under
from hw_asr.datasets.index import indexed, path_of_index
from hw_asr.datasets.manifest import DataError
from hw_asr.types import Selection, Utterance

URL = "https://www.openslr.org/resources/12"
MINI_URL = "https://www.openslr.org/resources/31"
PARTS = {  # MD5 from the site's md5sum.txt, and size in GB
    "dev-clean": ("42e2234ba48799c1f50f24a7926300a1", 0.34),
    "dev-other": ("c8d0bcc9cca99d4f8b62fcc847357931", 0.31),
    "test-clean": ("32fa31d27d2e1cad72775fee3f4849a9", 0.35),
    "test-other": ("fb5a50374b501bb3bac4815ee91d3135", 0.33),
    "train-clean-100": ("2a93770f6d5c6c964bc36631d331a522", 6.4),
    "train-clean-360": ("c0e676e450a7ff2f54aeade5171606fa", 23.0),
    "train-other-500": ("d1a0fd59409feb2c614ce4d30c387708", 30.6),
    "dev-clean-2": ("6d7ab67ac6a1d2c993d050e16d61080d", 0.13),
    "train-clean-5": ("5df7d4e78065366204ca6845bb08f490", 0.33),
}
MINI = ("dev-clean-2", "train-clean-5")
"""Parts of Mini LibriSpeech (openslr.org/31), a five-hour selection."""
TRAIN_ALL = ("train-clean-100", "train-clean-360", "train-other-500")


@DATASETS.register()
class LibrispeechDataset(FilteredCorpus):
    """A part of LibriSpeech, or `train_all`: the 960 hours of training data.

    `train-clean-5` and `dev-clean-2` are Mini LibriSpeech. A part lies in `data_dir/PART` or
    `data_dir/LibriSpeech/PART`; one that is in neither is downloaded to the first, from openslr.org or from `url`, a
    mirror of openslr.org/resources/12 (31 for Mini LibriSpeech). `data_dir` is `root_dir/librispeech` by default.
    Indexes are kept in `index_dir`, by default with the parts.
    """

    can_download = True

    def __init__(
        self,
        part: Literal[
            "dev-clean",
            "dev-other",
            "test-clean",
            "test-other",
            "train-clean-100",
            "train-clean-360",
            "train-other-500",
            "train_all",
            "dev-clean-2",
            "train-clean-5",
        ],
        data_dir: Path | None = None,
        index_dir: Path | None = None,
        url: str | None = None,
        *,
        limit: int | None = None,
        max_audio_length: float | None = None,
        max_text_length: int | None = None,
        root_dir: Path = Path("data"),
    ) -> None:
        super().__init__(limit, max_audio_length, max_text_length)
        self._part = part
        self._parts = TRAIN_ALL if part == "train_all" else (part,)
        self._data_dir = data_dir or root_dir / "librispeech"
        self._index_dir = index_dir
        self._url = (url or (MINI_URL if part in MINI else URL)).rstrip("/")

    @property
    def name(self) -> str:
        """The name of this corpus in messages."""
        return f"LibriSpeech {self._part}"

    def is_here(self) -> bool:
        """Whether nothing has to be downloaded."""
        return all(is_present(self._directory(part)) for part in self._parts)

    def status(self) -> str:
        """Return one line: where each part is, or from where it would be downloaded."""
        return "; ".join(
            describe(f"LibriSpeech {part}", self._directory(part), self._archive(part)) for part in self._parts
        )

    def utterances(self) -> Selection:
        """Download missing parts and return the utterances of all parts."""
        utterances: list[Utterance] = []
        for part in self._parts:
            directory = ensure(self._directory(part), self._archive(part))
            index_path = path_of_index(directory, self._index_dir, part)
            utterances += indexed(directory, index_path, _scan, f"LibriSpeech {part}").utterances
        return Selection(utterances, {})

    def _directory(self, part: str) -> Path:
        original = self._data_dir / "LibriSpeech" / part
        return original if is_present(original) else self._data_dir / part

    def _archive(self, part: str) -> Archive:
        md5, gigabytes = PARTS[part]
        return Archive(f"{self._url}/{part}.tar.gz", f"LibriSpeech/{part}", gigabytes, md5)


def _scan(directory: Path) -> Iterator[Utterance]:
    """Yield the lines of SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt: `ID TEXT`, with the audio in ID.flac."""
    transcripts = files_under(directory, ".trans.txt")
    if not transcripts:
        raise DataError(f"{directory}: not a LibriSpeech part: no .trans.txt; check data_dir")
    for path in transcripts:
        for line in read_lines(path):
            identifier, _, text = line.strip().partition(" ")
            if identifier:
                speaker = identifier.split("-")[0]
                yield Utterance(identifier, f"{path.parent}/{identifier}.flac", text, 0.0, speaker)
