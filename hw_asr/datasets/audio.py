"""Recordings of any format to mono samples at one rate, and how long they are."""

from __future__ import annotations

import re
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from hw_asr.datasets.recording import MAX_AUDIO_HOURS, AudioError, Damage, Decoded, Piece, Recording, Samples

EXTENSIONS = frozenset(
    [".wav", ".flac", ".mp3", ".m4a", ".mp4", ".aac", ".ogg", ".opus", ".aif", ".aiff", ".sph", ".webm", ".wma"]
)
"""What a folder is searched for; decoding itself goes by content."""

BLOCK_FRAMES = 1 << 20
MAX_SAMPLE_RATE = 768_000
MAX_FRAMES_PER_BYTE = 8192
"""Above what any codec reaches (digital silence in FLAC); a header that claims more lies."""
MAX_AMPLITUDE = 10.0
MIN_COMPLETE = 0.98
"""Share of the declared length that must come out; MPEG headers count the encoder's padding."""
SLACK_SECONDS = 0.1
OGG_HEADER = 27
"""Bytes of an Ogg page before its table of segments, whose length is the last of them (RFC 3533, section 6)."""
LARGEST_OGG_PAGE = OGG_HEADER + 255 + 255 * 255


def read_recording(
    path: Path, sample_rate: int, piece: Piece | None = None, max_audio_hours: float = MAX_AUDIO_HOURS
) -> Recording:
    """Decode a recording, or a piece of it, to mono at `sample_rate` Hz, as far as it goes.

    Channels are averaged; resampling is soxr's HQ; what overshoots full scale is clipped. The format is found by
    content, whatever the extension: libsndfile first, FFmpeg for what it refuses.
    Raises AudioError for a file that is missing, empty, longer than the limit or holds no audio.
    """
    decoded = _decode(path)
    samples, seconds = decoded.samples, len(decoded.samples) / decoded.sample_rate
    declared, warning = decoded.declared_seconds, None
    if declared is not None and seconds < MIN_COMPLETE * declared - SLACK_SECONDS:
        warning = f"cut off: its header declares {declared:.1f} s, {seconds:.1f} s could be decoded"
    if seconds > 3600 * max_audio_hours:
        raise AudioError(f"{path}: {seconds / 3600:.1f} h long; the limit is {max_audio_hours:g} h")
    peak = float(np.abs(samples).max(initial=0.0))
    if not peak < MAX_AMPLITUDE:  # also true of NaN
        raise AudioError(f"{path}: its samples reach {peak:.4g} where full scale is 1; write it again as 16-bit PCM")
    if decoded.sample_rate != sample_rate:
        samples = soxr.resample(samples, decoded.sample_rate, sample_rate, quality="HQ")
    if piece is not None:
        start = round(piece.start * sample_rate)
        samples = samples[start : None if piece.seconds is None else start + round(piece.seconds * sample_rate)]
    if len(samples) == 0:
        raise AudioError(f"{path}: holds no audio")
    damage = Damage.NONE if warning is None else Damage.CERTAIN
    return Recording(np.clip(samples, -1.0, 1.0, out=samples), warning, damage)


def read_audio(path: Path, sample_rate: int) -> Samples:
    """Decode a recording to (T,) float32 in [-1, 1] at `sample_rate` Hz; see `read_recording`.

    Raises AudioError for what that cannot read, and for a recording that is certainly incomplete.
    """
    recording = read_recording(path, sample_rate)
    if recording.damage is Damage.CERTAIN:
        raise AudioError(f"{path}: {recording.warning}")
    return recording.samples


def duration(path: Path) -> float:
    """Return the length of a recording in seconds, from its header where that is plausible, else by decoding.

    Raises AudioError for a file that is missing, empty or no audio.
    """
    with _open(path) as file:
        try:
            with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                _check_rate(path, sound.samplerate)
                if 0 < sound.frames <= MAX_FRAMES_PER_BYTE * path.stat().st_size:
                    return float(sound.frames / sound.samplerate)
        except soundfile.LibsndfileError as error:
            from hw_asr.datasets.audio_ffmpeg import declared_duration

            seconds = declared_duration(path, error.error_string.rstrip("."))
            if seconds is not None:
                return seconds
    recording = _decode(path)
    return len(recording.samples) / recording.sample_rate


def _open(path: Path) -> BinaryIO:
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened: {error.strerror}") from error
    if path.stat().st_size == 0:
        file.close()
        raise AudioError(f"{path}: the file is empty")
    return file


def _decode(path: Path) -> Decoded:
    with _open(path) as file:
        if _ogg_is_cut_off(file):
            raise AudioError(f"{path}: cut off: its last Ogg page is incomplete")
        try:
            recording = _decode_with_libsndfile(path, file)
            refusal = "no samples"
        except soundfile.LibsndfileError as error:
            recording, refusal = None, error.error_string.rstrip(".")
    if recording is None or len(recording.samples) == 0:
        from hw_asr.datasets.audio_ffmpeg import decode

        recording = decode(path, refusal)
    if len(recording.samples) == 0:
        raise AudioError(f"{path}: holds no audio")
    _check_rate(path, recording.sample_rate)
    return recording


def _decode_with_libsndfile(path: Path, file: BinaryIO) -> Decoded:
    """Decode what libsndfile knows; it is given a descriptor, so that it cannot go by the extension."""
    declared_share = _declared_share(file)
    file.seek(0)
    with soundfile.SoundFile(file.fileno(), closefd=False) as sound:
        _check_rate(path, sound.samplerate)
        blocks, remaining = [], sound.frames
        while remaining > 0:  # in blocks: a header may claim more than there is memory
            wanted = min(BLOCK_FRAMES, remaining)
            block = sound.read(wanted, dtype="float32")
            blocks.append(block if block.ndim == 1 else block.mean(axis=1, dtype=np.float32))
            remaining = remaining - wanted if len(block) == wanted else 0
        samples = blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])
        return Decoded(samples, sound.samplerate, declared_share * sound.frames / sound.samplerate)


def _declared_share(file: BinaryIO) -> float:
    """How much longer a RIFF or AIFF file says its samples are than they are: 1 when it tells the truth.

    libsndfile silently reads what is there. Sizes of 0 and of 2 GB or more are what streaming writers put.
    """
    file.seek(0)
    order = {b"RIFF": "little", b"FORM": "big"}.get(file.read(12)[:4])
    end = file.seek(0, 2)
    position = 12
    while order is not None and position + 8 <= end:
        file.seek(position)
        header = file.read(8)
        size = int.from_bytes(header[4:], order)  # type: ignore[arg-type]  # the two literals above
        if header[:4] in (b"data", b"SSND"):
            present = end - position - 8
            return size / present if present and present < size < 0x7FFF0000 else 1.0
        position += 8 + size + size % 2
    return 1.0


def _ogg_is_cut_off(file: BinaryIO) -> bool:
    """Whether an Ogg file ends in the middle of a page; decoders silently leave that page out.

    A last page without the end-of-stream flag proves nothing: Android's own writer, and the voice messages made with
    it, never set it. Bytes behind the last page that begin no other, such as tags, are no cut.
    """
    file.seek(0)
    if file.read(4) != b"OggS":
        return False
    file.seek(max(0, file.seek(0, 2) - LARGEST_OGG_PAGE))
    tail = file.read()
    ends = [_end_of_ogg_page(tail, mark.start()) for mark in re.finditer(b"OggS", tail)]
    if not ends or len(tail) in ends:  # among all: a mark may also be audio that happens to read so
        return False
    return ends[-1] > len(tail) or b"OggS".startswith(tail[ends[-1] :])


def _end_of_ogg_page(data: bytes, start: int) -> int:
    """Return where the page at `start` ends; behind the end of the data where its header is incomplete."""
    segments = start + OGG_HEADER
    table = data[segments : segments + data[segments - 1]] if segments <= len(data) else b""
    is_whole = segments <= len(data) and len(table) == data[segments - 1]
    return segments + len(table) + sum(table) if is_whole else len(data) + 1


def _check_rate(path: Path, sample_rate: int) -> None:
    if not 0 < sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(f"{path}: its header claims an impossible sample rate, {sample_rate} Hz")
