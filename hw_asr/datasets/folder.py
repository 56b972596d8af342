"""A user's recordings: a directory of them, with or without transcripts, or a single file."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

from hw_asr.datasets.audio import EXTENSIONS
from hw_asr.datasets.audio_signatures import is_media
from hw_asr.datasets.directories import files_under
from hw_asr.datasets.index import measure
from hw_asr.datasets.manifest import DataError
from hw_asr.types import Selection, Utterance

logger = logging.getLogger(__name__)


MAX_TRANSCRIPT_BYTES = 16_000_000
"""A day of speech has less than one."""
MAX_NAMED = 3
"""Most files that the log names of those that are not audio despite their extension."""


def find_recordings(path: Path) -> Selection:
    """List the recordings of a directory, or of one file, with their durations, and count the files left out.

    A directory holds `audio/` and, optionally, `transcriptions/` with a .txt file of the same stem for each
    recording; or it holds recordings. Texts are as written. A broken recording is listed too, with duration 0;
    decoding it gives the reason. A file of a directory that is not audio or video at all is left out.
    Raises DataError when there is no such path or no recording.
    """
    if path.is_file():
        return Selection(measure([Utterance(path.name, str(path), None, 0.0)], str(path)), {})
    if not path.is_dir():
        raise DataError(f"{path}: no such file or directory; expected recordings, or a directory with audio/ in it")
    audio_dir = path / "audio" if (path / "audio").is_dir() else path
    transcription_dir = path / "transcriptions"
    has_texts = audio_dir != path and transcription_dir.is_dir()
    listed = list_folder(audio_dir, transcription_dir if has_texts else None, checks_content=True)
    return listed._replace(utterances=measure(listed.utterances, str(path)))


def list_folder(audio_dir: Path, transcription_dir: Path | None, checks_content: bool = False) -> Selection:
    """List the recordings under `audio_dir` by name, their durations unknown, and count other files by extension.

    The text of `a/b.wav` is that of `a/b.txt` under `transcription_dir`, or of `b.txt`; None where there is neither.
    With `checks_content`, files whose content is neither audio nor video are left out too.
    Raises DataError when there is no recording.
    """
    utterances = []
    left_out: Counter[str] = Counter()
    not_media: list[str] = []
    for path in files_under(audio_dir):
        suffix = path.suffix.lower()
        relative = path.relative_to(audio_dir)
        if suffix in EXTENSIONS:
            if checks_content and not is_media(path):
                not_media.append(relative.as_posix())
                continue
            text = _transcript(transcription_dir, relative) if transcription_dir is not None else None
            utterances.append(Utterance(relative.as_posix(), str(path), text, 0.0))
        elif suffix != ".txt" or transcription_dir is None:
            left_out[f"not a recording ({suffix or 'no extension'})"] += 1
    if not_media:
        names = ", ".join(not_media[:MAX_NAMED]) + ", ..." * (len(not_media) > MAX_NAMED)
        left_out[f"neither audio nor video ({names})"] = len(not_media)
    counts = ", ".join(f"{count} {reason}" for reason, count in left_out.most_common())
    if not utterances:
        known = " ".join(sorted(EXTENSIONS))
        others = f"; left out: {counts}" if counts else ""
        raise DataError(f"{audio_dir}: no recordings here or below{others}; looked for names that end in {known}")
    if counts:
        logger.warning("%s: files left out: %s", audio_dir, counts)
    return Selection(utterances, dict(left_out))


def _transcript(directory: Path, recording: Path) -> str | None:
    for name in (recording.with_suffix(".txt"), Path(f"{recording.stem}.txt")):
        path = directory / name
        try:
            if not path.is_file():
                continue
            if path.stat().st_size <= MAX_TRANSCRIPT_BYTES:
                return path.read_text(encoding="utf-8-sig")
            logger.warning("%s: not a transcript: larger than %d MB", path, MAX_TRANSCRIPT_BYTES // 10**6)
        except (OSError, UnicodeDecodeError) as error:
            logger.warning("%s: the transcript cannot be read: %s", path, error)
        return None
    return None
