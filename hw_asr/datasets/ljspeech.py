"""LJSpeech 1.1 (Ito and Johnson 2017): 24 hours of one reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from hw_asr.config.registry import DATASETS
from hw_asr.datasets.archive import Archive, ArchiveCorpus
from hw_asr.datasets.corpus import read_lines
from hw_asr.datasets.index import indexed, path_of_index
from hw_asr.datasets.manifest import DataError
from hw_asr.types import Selection, Utterance

ARCHIVE = Archive(
    "https://data.keithito.com/data/speech/LJSpeech-1.1.tar.bz2",
    "LJSpeech-1.1",
    2.7,
    sha256="be1a30453f28eb8dd26af4101ae40cbf2c50413b1bb21936cbcdc6fae3de8aa5",
)
TRAIN_SHARE = 0.85


@DATASETS.register()
class LJspeechDataset(ArchiveCorpus):
    """LJSpeech, or a part of it: in the order of the ids, `train` is the first 85 % of the utterances, `test` the rest.

    `data_dir` is the directory with metadata.csv and wavs/, by default `root_dir/LJSpeech-1.1`; what is not there is
    downloaded. The index is kept in `index_dir`, by default in `data_dir`. Texts are those with numbers spelt out.
    """

    def __init__(
        self,
        part: Literal["train", "test", "all"] = "all",
        data_dir: Path | None = None,
        index_dir: Path | None = None,
        limit: int | None = None,
        max_audio_length: float | None = None,
        max_text_length: int | None = None,
        root_dir: Path = Path("data"),
    ) -> None:
        directory = data_dir or root_dir / "LJSpeech-1.1"
        super().__init__(f"LJSpeech {part}", ARCHIVE, directory, index_dir, limit, max_audio_length, max_text_length)
        self._part = part

    def utterances(self) -> Selection:
        """Download it if it is missing and return the utterances of the part."""
        directory = self._fetched()
        index_path = path_of_index(directory, self._index_dir, "ljspeech")
        everything, left_out = indexed(directory, index_path, _scan, "LJSpeech")
        everything.sort(key=lambda utterance: utterance.id)
        border = round(TRAIN_SHARE * len(everything))
        parts = {"train": everything[:border], "test": everything[border:], "all": everything}
        return Selection(parts[self._part], left_out)


def _scan(directory: Path) -> Iterator[Utterance]:
    """Yield the lines of metadata.csv: `ID|text|text with numbers spelled out`, without quoting."""
    path = directory / "metadata.csv"
    if not path.is_file():
        raise DataError(f"{directory}: not LJSpeech: no metadata.csv; check data_dir")
    for line in read_lines(path):
        identifier, *texts = line.split("|")
        if identifier and texts:
            yield Utterance(identifier, f"{directory}/wavs/{identifier}.wav", texts[-1] or texts[0], 0.0, "LJ")
