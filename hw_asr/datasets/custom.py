"""A user's own corpora: a list in the config, a manifest, or a directory."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hw_asr.config.registry import DATASETS
from hw_asr.datasets.corpus import FilteredCorpus, existing_directory
from hw_asr.datasets.folder import list_folder
from hw_asr.datasets.index import indexed, measure, path_of_index
from hw_asr.datasets.manifest import UNREADABLE, Entry, parse_entries
from hw_asr.datasets.manifest_file import as_entries, read_manifest
from hw_asr.types import Selection


@DATASETS.register()
class CustomAudioDataset(FilteredCorpus):
    """Recordings listed in the config or in a manifest (JSON, JSONL, CSV, TSV).

    `data` is a list of objects with `path` and, optionally, `text`, `duration` (seconds), `id` and `speaker`, or the
    path of a file with such objects, below the current directory or, if it is not there, below the config's
    data.root_dir. With `offset` (seconds) an object is the piece of `duration` seconds that starts there. Paths are
    relative to `data_dir`, by default the manifest's directory or, for a list in the config, the current one. Missing
    durations are read from the recordings.
    """

    def __init__(
        self,
        data: list[dict[str, Any]] | Path,
        data_dir: Path | None = None,
        root_dir: Path = Path(),
        limit: int | None = None,
        max_audio_length: float | None = None,
        max_text_length: int | None = None,
    ) -> None:
        super().__init__(limit, max_audio_length, max_text_length)
        self._data: list[dict[str, object]] | Path = Path(data) if isinstance(data, str) else data
        self._data_dir, self._root_dir = data_dir, root_dir

    @property
    def _manifest(self) -> Path | None:
        if isinstance(self._data, list):
            return None
        below_root = self._root_dir / self._data
        return below_root if below_root.is_file() and not self._data.is_file() else self._data

    def _entries(self) -> Iterable[Entry]:
        if isinstance(self._data, list):
            return as_entries(self._data)
        assert self._manifest is not None
        return read_manifest(self._manifest)

    @property
    def name(self) -> str:
        """The name of this corpus in messages."""
        return str(self._manifest or "CustomAudioDataset")

    def is_here(self) -> bool:
        """Whether the manifest is there."""
        return self._manifest is None or self._manifest.is_file()

    def status(self) -> str:
        """Return one line: whether the manifest is there."""
        if isinstance(self._data, list):
            return f"CustomAudioDataset: {len(self._data)} recordings listed in the config"
        assert self._manifest is not None
        return f"CustomAudioDataset: {self._manifest}{'' if self._manifest.is_file() else ' (missing)'}"

    def utterances(self) -> Selection:
        """Return the listed utterances; malformed entries are counted."""
        manifest = self._manifest
        directory = self._data_dir or (manifest.parent if manifest is not None else Path())
        utterances, left_out = parse_entries(self._entries(), directory, self.name)
        unknown = [number for number, utterance in enumerate(utterances) if utterance.duration == UNREADABLE]
        measured = measure([utterances[number] for number in unknown], self.name)
        for number, utterance in zip(unknown, measured, strict=True):
            utterances[number] = utterance
        return Selection(utterances, left_out)


@DATASETS.register()
class CustomDirAudioDataset(FilteredCorpus):
    """All recordings under `audio_dir`, with the texts of the .txt files of the same stem in `transcription_dir`.

    An index is kept in `index_dir`, by default hidden in `audio_dir`.
    """

    def __init__(
        self,
        audio_dir: Path,
        transcription_dir: Path | None = None,
        index_dir: Path | None = None,
        limit: int | None = None,
        max_audio_length: float | None = None,
        max_text_length: int | None = None,
    ) -> None:
        super().__init__(limit, max_audio_length, max_text_length)
        self._audio_dir, self._transcription_dir = audio_dir, transcription_dir
        self._index_path = path_of_index(audio_dir, index_dir, audio_dir.name)

    @property
    def name(self) -> str:
        """The name of this corpus in messages."""
        return str(self._audio_dir)

    def is_here(self) -> bool:
        """Whether the directory is there."""
        return self._audio_dir.is_dir()

    def status(self) -> str:
        """Return one line: whether the directory is there."""
        return f"CustomDirAudioDataset: {self._audio_dir}{'' if self._audio_dir.is_dir() else ' (missing)'}"

    def utterances(self) -> Selection:
        """Return the recordings under `audio_dir`."""
        directory = existing_directory(self._audio_dir, "a directory of recordings")
        texts = self._transcription_dir
        if texts is not None:
            existing_directory(texts, "a directory of transcripts (audio_dir's stems with .txt)")
        return indexed(directory, self._index_path, lambda path: list_folder(path, texts), self.name, texts)
