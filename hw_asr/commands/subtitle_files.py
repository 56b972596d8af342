"""The subtitles that `test` writes: a file for each recording, checked before recognition starts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from hw_asr.commands.output_files import OutputError, writing
from hw_asr.report.results import ReportError, Result, read_results
from hw_asr.types import Word


class SubtitleFiles(NamedTuple):
    """Subtitles of one format. Recordings have their own stem as a name; those of the same stem get a number."""

    directory: Path
    suffix: str
    separator: str
    """Between words: a space, or nothing for an alphabet without one."""

    def check(self, recordings: Sequence[str], output: Path) -> None:
        """Raise OutputError if a file would be replaced that is not, as it is, from the run that wrote `output`."""
        paths = [path for path in self._paths(recordings) if path.exists()]
        earlier = self._contents(_earlier_results(output)) if paths else {}
        for path in paths:
            with writing(path, self.option):
                content = path.read_text(encoding="utf-8", errors="replace")
            if content != earlier.get(path):
                raise OutputError(
                    f"{self.option}: {path} exists and is not from an earlier run, or was changed since; delete it, "
                    f"give another {self.option}, or replace it with --overwrite"
                )

    def write(self, entries: Sequence[Result], advice: str = "") -> None:
        """Write the subtitles of every recording that has words, even none; raises OutputError."""
        from hw_asr.report.subtitles import write_subtitles

        for path, entry in self._with_words(entries):
            with writing(path, self.option, advice):
                write_subtitles(_words(entry), path, self.separator)

    @property
    def option(self) -> str:
        """The option that asks for them."""
        return f"--{self.suffix[1:]}"

    def _contents(self, entries: Sequence[Result]) -> dict[Path, str]:
        from hw_asr.report.subtitles import to_srt, to_vtt

        convert = {".srt": to_srt, ".vtt": to_vtt}[self.suffix]
        return {path: convert(_words(entry), self.separator) for path, entry in self._with_words(entries)}

    def _with_words(self, entries: Sequence[Result]) -> Iterator[tuple[Path, Result]]:
        paths = self._paths([entry["audio_path"] for entry in entries])
        return (pair for pair in zip(paths, entries, strict=True) if pair[1].get("words") is not None)

    def _paths(self, recordings: Sequence[str]) -> Iterator[Path]:
        return (self.directory / f"{name}{self.suffix}" for name in distinct([Path(path).stem for path in recordings]))


def distinct(stems: Sequence[str]) -> Iterator[str]:
    """Yield a name for each stem: itself the first time, then the first number that is no other stem or name.

    Names that differ only in case are the same: they are for file systems of macOS and Windows.
    """
    taken, known = set[str](), {stem.casefold() for stem in stems}
    last: dict[str, int] = {}
    for stem in stems:
        name, number = stem, last.get(stem.casefold(), 1)
        while name.casefold() in taken or (number > 1 and name.casefold() in known):
            number += 1
            name = f"{stem}-{number}"
        last[stem.casefold()] = number
        taken.add(name.casefold())
        yield name


def _words(entry: Result) -> list[Word]:
    return [Word(word["word"], word["start"], word["end"], word["confidence"]) for word in entry["words"]]


def _earlier_results(output: Path) -> list[Result]:
    try:
        return read_results(output)
    except ReportError:
        return []
