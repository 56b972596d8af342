"""Mozilla Common Voice, from a directory or an archive that one has fetched oneself."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Literal

from hw_asr.config.registry import DATASETS
from hw_asr.datasets.archive import is_present
from hw_asr.datasets.corpus import FilteredCorpus
from hw_asr.datasets.index import indexed, path_of_index
from hw_asr.datasets.manifest import DataError
from hw_asr.runtime.download import waiting_lock
from hw_asr.runtime.unpacking import unpack
from hw_asr.types import Utterance

_ADVICE = (
    "Common Voice is not downloaded for you: fetch an archive from commonvoice.mozilla.org "
    "and give it, or the directory it unpacks to, as data_dir"
)


@DATASETS.register()
class CommonVoiceDataset(FilteredCorpus):
    """A split of Common Voice: the clips a SPLIT.tsv lists (`validation` is Common Voice's dev).

    `data_dir` is the directory with the .tsv files and clips/, one above it, or the archive, which is unpacked once to
    `root_dir/common_voice/ARCHIVE`; by default `root_dir/common_voice`. With several languages there, `language` says
    which. The index is kept in `index_dir`, by default beside the clips.
    """

    def __init__(
        self,
        split: Literal["train", "dev", "validation", "test", "validated", "invalidated", "other"],
        data_dir: Path | None = None,
        index_dir: Path | None = None,
        language: str | None = None,
        limit: int | None = None,
        max_audio_length: float | None = None,
        max_text_length: int | None = None,
        root_dir: Path = Path("data"),
    ) -> None:
        super().__init__(limit, max_audio_length, max_text_length)
        self._split = "dev" if split == "validation" else split
        self._root_dir = root_dir / "common_voice"
        self._data_dir = data_dir or self._root_dir
        self._index_dir, self._language = index_dir, language

    @property
    def name(self) -> str:
        """What messages call this corpus."""
        return f"Common Voice {self._split}"

    def is_here(self) -> bool:
        """Whether nothing has to be downloaded."""
        return self._data_dir.exists()

    def status(self) -> str:
        """Say whether it is there."""
        return f"{self.name}: {self._data_dir}{'' if self._data_dir.exists() else ' (missing)'}"

    def utterances(self) -> tuple[list[Utterance], Mapping[str, int]]:
        """Unpack the archive if there is one and return the utterances of the split."""
        table = self._table(self._unpacked())
        clips = table.parent / "clips"
        index_path = path_of_index(clips, self._index_dir, self._split)
        return indexed(clips, index_path, partial(_scan, table), self.name, table), {}

    def _unpacked(self) -> Path:
        if not self._data_dir.is_file():
            return self._data_dir
        directory = self._root_dir / self._data_dir.name.split(".tar")[0].removesuffix(".zip")
        with waiting_lock(directory):
            if not is_present(directory):
                unpack(self._data_dir, directory)
        return directory

    def _table(self, directory: Path) -> Path:
        """Return SPLIT.tsv beside a clips/, at most two directories down."""
        levels = [directory.glob(f"{depth}{self._split}.tsv") for depth in ("", "*/", "*/*/")]
        tables = sorted(table for level in levels for table in level if (table.parent / "clips").is_dir())
        if self._language is not None:
            tables = [table for table in tables if table.parent.name == self._language]
        if not tables:
            raise DataError(f"{directory}: {self._split}.tsv beside a clips/ was looked for here or below; {_ADVICE}")
        if len(tables) > 1:
            found = ", ".join(str(table.parent) for table in tables)
            raise DataError(f"{directory}: {self._split}.tsv is in {found}; say which by data_dir or language")
        return tables[0]


def _scan(table: Path, clips: Path) -> Iterator[Utterance]:
    """Yield the rows of a .tsv with the columns client_id, path and sentence; nothing is quoted in it."""
    with table.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        if not {"path", "sentence"} <= set(reader.fieldnames or ()):
            raise DataError(f"{table}: expected the columns path and sentence, got {reader.fieldnames}")
        for row in reader:
            name = row["path"] if Path(row["path"]).suffix else f"{row['path']}.mp3"
            yield Utterance(Path(name).stem, str(clips / name), row["sentence"], 0.0, row.get("client_id"))
