"""Mozilla Common Voice, from a directory or an archive that the user has downloaded."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import Literal

from hw_asr.config.registry import DATASETS
from hw_asr.datasets.archive import is_present
from hw_asr.datasets.corpus import FilteredCorpus
from hw_asr.datasets.index import indexed, path_of_index
from hw_asr.datasets.manifest import DataError, Entry, parse_entries
from hw_asr.datasets.manifest_file import parse_table
from hw_asr.runtime.download import waiting_lock
from hw_asr.runtime.unpacking import unpack
from hw_asr.types import Selection

_ADVICE = (
    "Common Voice must be downloaded by hand: get an archive from the Mozilla Data Collective "
    "(https://datacollective.mozillafoundation.org) and set data_dir to it, or to the directory it unpacks to"
)

_SUFFIX = re.compile(r"(\.tar.*|\.zip|\.tgz|\.tbz2?|\.txz)$")


@DATASETS.register()
class CommonVoiceDataset(FilteredCorpus):
    """A split of Common Voice: the clips in SPLIT.tsv (`validation` is Common Voice's dev).

    `data_dir` is the directory with the .tsv files and clips/, its parent, or the archive, which is unpacked once to
    `root_dir/common_voice/ARCHIVE`; by default `root_dir/common_voice`. `language` chooses one of several. The index
    is kept in `index_dir`, by default beside the clips.
    """

    def __init__(
        self,
        split: Literal["train", "dev", "validation", "test", "validated", "invalidated", "other"],
        data_dir: Path | None = None,
        index_dir: Path | None = None,
        language: str | None = None,
        *,
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
        """The name of this corpus in messages."""
        return f"Common Voice {self._split}"

    def is_here(self) -> bool:
        """Whether nothing has to be downloaded."""
        return self._data_dir.exists()

    def status(self) -> str:
        """Return one line: whether it is there."""
        return f"{self.name}: {self._data_dir}{'' if self._data_dir.exists() else ' (missing)'}"

    def utterances(self) -> Selection:
        """Unpack the archive if there is one and return the utterances of the split."""
        table = self._table(self._unpacked())
        clips = table.parent / "clips"
        index_path = path_of_index(clips, self._index_dir, self._split)
        return indexed(clips, index_path, partial(_scan, table), self.name, table)

    def _unpacked(self) -> Path:
        if not self._data_dir.is_file():
            return self._data_dir
        directory = self._root_dir / _SUFFIX.sub("", self._data_dir.name)
        if not is_present(directory):  # the lock needs a directory that can be written
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
            raise DataError(f"{directory}: no {self._split}.tsv beside a clips/ here or below; {_ADVICE}")
        if len(tables) > 1:
            places = ", ".join(str(table.parent) for table in tables)
            raise DataError(f"{directory}: {self._split}.tsv is in {places}; choose one by data_dir or language")
        return tables[0]


def _scan(table: Path, clips: Path) -> Selection:
    """Return the rows of a .tsv with the columns client_id, path and sentence, which has no quoting."""
    text = table.read_bytes().removeprefix(b"\xef\xbb\xbf").decode(errors="surrogateescape")
    entries = parse_table(text, "\t", str(table), quoted=False, needed=["sentence"])
    utterances, left_out = parse_entries(map(_with_id, entries), clips, str(table))
    return Selection(utterances, left_out)


def _with_id(entry: Entry) -> Entry:
    """Name an utterance after its clip; older releases leave out the extension."""
    row = entry.content
    if row is None or not row["path"]:
        return entry
    path = row["path"] if Path(row["path"]).suffix else f"{row['path']}.mp3"
    content = {"path": path, "text": row.get("sentence"), "id": Path(path).stem, "speaker": row.get("client_id")}
    return entry._replace(content=content)
