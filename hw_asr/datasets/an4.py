"""AN4, the CMU census database (Acero 1991): an hour of names, numbers and spelled words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from hw_asr.config.registry import DATASETS
from hw_asr.datasets.archive import Archive, ArchiveCorpus
from hw_asr.datasets.corpus import read_lines
from hw_asr.datasets.directories import files_under
from hw_asr.datasets.index import indexed, path_of_index
from hw_asr.datasets.manifest import DataError
from hw_asr.types import Selection, Utterance

ARCHIVE = Archive(
    "https://dldata-public.s3.us-east-2.amazonaws.com/an4_sphere.tar.gz",
    "an4",
    0.07,
    sha256="a0525579493735d32b60fb6fa5975dd0eaacde087b0a4eeb7f13b7ef33077b12",
)
_LINE = re.compile(r"(?:<s>)?\s*(?P<text>.*?)\s*(?:</s>)?\s*\((?P<id>\S+)\)\s*")


@DATASETS.register()
class AN4Dataset(ArchiveCorpus):
    """The train or the test split of AN4, as published.

    `data_dir` is the directory with etc/ and wav/, by default `root_dir/an4`; it is downloaded if it is missing. The
    index is kept in `index_dir`, by default in `data_dir`.
    """

    def __init__(
        self,
        split: Literal["train", "test"],
        data_dir: Path | None = None,
        index_dir: Path | None = None,
        limit: int | None = None,
        max_audio_length: float | None = None,
        max_text_length: int | None = None,
        root_dir: Path = Path("data"),
    ) -> None:
        directory = data_dir or root_dir / "an4"
        super().__init__(f"AN4 {split}", ARCHIVE, directory, index_dir, limit, max_audio_length, max_text_length)
        self._split = split

    def utterances(self) -> Selection:
        """Download it if it is missing and return the utterances of the split."""
        directory = self._fetched()
        index_path = path_of_index(directory, self._index_dir, f"an4_{self._split}")
        return indexed(directory, index_path, partial(_scan, self._split), self.name)


def _scan(split: str, directory: Path) -> Iterator[Utterance]:
    """Yield the lines of etc/an4_SPLIT.transcription: `<s> TEXT </s> (ID)`; an id ends in -SPEAKER-b."""
    path = directory / "etc" / f"an4_{split}.transcription"
    if not path.is_file():
        raise DataError(f"{directory}: not AN4: no etc/{path.name}; check data_dir")
    recordings = {recording.stem: str(recording) for recording in files_under(directory / "wav")}
    for line in read_lines(path):
        match = _LINE.fullmatch(line)
        if match is not None:
            identifier = match["id"]
            missing = f"{directory}/wav/{identifier}.sph"
            speaker = identifier.split("-")[1] if "-" in identifier else None
            yield Utterance(identifier, recordings.get(identifier, missing), match["text"], 0.0, speaker)
