"""Decoding through PyAV, which includes FFmpeg: every format that libsndfile does not read completely."""

from __future__ import annotations

from typing import Any, BinaryIO

import av
import numpy as np
from av import AudioFrame
from av.container import InputContainer
from numpy.typing import NDArray

from hw_asr.datasets.audio_clock import Clock
from hw_asr.datasets.audio_containers import (
    CAF,
    CLOCKED,
    COUNTED,
    FLAC,
    MATROSKA,
    MP3,
    PADDED,
    can_seek,
    has_format,
    open_container,
    time_origin,
)
from hw_asr.datasets.audio_damage import PacketReader, Verdict, mp3_verdict
from hw_asr.datasets.audio_mono import MonoSignal
from hw_asr.datasets.recording import INT16_SCALE, Decoded, DecodingError, Samples, Target

PREROLL_SECONDS = 1.0
"""Decoded before a piece and dropped: decoders need what came before, MP3 half a second."""
BLOCK_FRAMES = 1 << 15
SILENT_PEAK = 1e-3
UNSAFE_PLANES = 8
"""PyAV reads past the pointers of a planar frame with so many channels; such frames are packed first."""


def decode_with_ffmpeg(file: BinaryIO, target: Target) -> Decoded:
    """Decode the best audio track as far as it goes; if that is silent, the first one that is not.

    Raises DecodingError.
    """
    with open_container(file) as container:
        best = container.streams.best("audio")
        if best is None:
            raise DecodingError("has no audio track")
        tracks = [stream.index for stream in container.streams.audio]
        used = best.index
        decoded = _decode_track(container, best, file, target)
    if len(tracks) == 1:
        return decoded
    for index in (index for index in tracks if index != used):
        if not _is_silent(decoded):
            break
        with open_container(file) as container:
            other = _decode_track(container, container.streams[index], file, target)
        if not _is_silent(other):
            decoded, used = other, index
    note = f"{len(tracks)} audio tracks, of which only track {tracks.index(used) + 1} is used"
    return decoded._replace(warning="; ".join(filter(None, [note, decoded.warning])))


def _is_silent(decoded: Decoded) -> bool:
    samples = decoded.samples
    peak = max(float(samples.max(initial=0)), -float(samples.min(initial=0)))
    return peak < (SILENT_PEAK * INT16_SCALE if samples.dtype == np.int16 else SILENT_PEAK)


def _decode_track(container: InputContainer, stream: Any, file: BinaryIO, target: Target) -> Decoded:
    """Decode one track of an open container; from the start of the file where seeking went wrong."""
    start = target.piece.start - PREROLL_SECONDS if target.piece is not None else 0.0
    codec = "" if stream.codec_context is None else stream.codec_context.name
    if start > 0 and can_seek(container, codec):
        origin = time_origin(container) or 0.0
        container.seek(int((start + origin) / stream.time_base), stream=stream)
        decoded = _TrackDecoder(container, stream, file, target).run(seeks=True)
        if decoded is not None:
            return decoded
        container.seek(0)
    decoded = _TrackDecoder(container, stream, file, target).run()
    assert decoded is not None
    return decoded


class _TrackDecoder:
    """Decodes one track: packets to frames, and frames to their places in the recording."""

    def __init__(self, container: InputContainer, stream: Any, file: BinaryIO, target: Target) -> None:
        if stream.codec_context is None:
            raise DecodingError("cannot be decoded: unknown codec")
        stream.codec_context.thread_count = 1
        self._container, self._stream, self._file, self._target = container, stream, file, target
        self._signal = MonoSignal(target)
        self._blocks = _Blocks(self._signal)
        self._clock = Clock(time_origin(container))
        self._reader = PacketReader(container, stream, file)
        self._is_clocked = has_format(container, CLOCKED)

    def run(self, seeks: bool = False) -> Decoded | None:
        """Decode up to the end of the piece; return None when the position after seeking is unknown."""
        for frame in self._reader.frames():
            if seeks:
                assert self._target.piece is not None
                position = None if frame.time is None else frame.time - (time_origin(self._container) or 0.0)
                if position is None or not 0 <= position <= self._target.piece.start:
                    return None
                self._clock.position = self._signal.position = position
                self._reader.forget()  # decoders lack what came before
                seeks = False
            gap = self._clock.gap_before(frame.time if self._is_clocked else None, frame.samples / frame.sample_rate)
            if gap:
                self._blocks.flush()
                self._signal.append_silence(gap)
            self._blocks.add(frame)
            if self._signal.is_complete:
                break
        self._blocks.flush()
        return Decoded(self._signal.finish(), self._signal.opposed_channel, *self._verdict())

    def _verdict(self) -> Verdict:
        if self._signal.is_complete:  # the rest was not read
            return self._reader.verdict_on_packets()
        container, stream, seconds = self._container, self._stream, self._clock.position
        estimate = float(stream.duration * stream.time_base) if stream.duration else 0.0
        if has_format(container, FLAC):  # cut without encoding, it still declares the length of the whole
            estimate -= time_origin(container) or 0.0
        if has_format(container, MATROSKA):
            declared = container.duration / av.time_base if container.duration else None
            return self._reader.verdict(self._reader.end, declared)
        if has_format(container, PADDED) and not stream.codec_context.name.startswith("pcm_"):
            return self._reader.verdict(seconds, estimate if has_format(container, CAF) else None)
        if has_format(container, COUNTED):
            return self._reader.verdict(seconds, estimate, decoded=seconds - self._clock.silence)
        verdict = self._reader.verdict(seconds, None)
        if has_format(container, MP3):
            by_tag = mp3_verdict(self._file, self._reader.last_packet, seconds)
            return by_tag if by_tag.damage > verdict.damage else verdict
        return verdict


class _Blocks:
    """Joins the small frames of a track into larger blocks of one rate and layout."""

    def __init__(self, signal: MonoSignal) -> None:
        self._signal = signal
        self._parts: list[NDArray[np.generic]] = []
        self._num_frames = 0
        self._key: tuple[int, int, str] | None = None
        self._packer: av.AudioResampler | None = None

    def add(self, frame: AudioFrame) -> None:
        """Add an audio frame of any format, rate and layout."""
        num_channels = frame.layout.nb_channels
        key = frame.sample_rate, num_channels, frame.format.name
        if key != self._key or self._num_frames >= BLOCK_FRAMES:
            self.flush()
        if key != self._key:
            is_safe = not frame.format.is_planar or num_channels < UNSAFE_PLANES
            self._packer = None if is_safe else av.AudioResampler(format=frame.format.packed.name)
        self._key = key
        for part in [frame] if self._packer is None else self._packer.resample(frame):
            values = part.to_ndarray()
            values = values if part.format.is_planar else values.reshape(-1, num_channels).T
            self._parts.append(values)
            self._num_frames += values.shape[1]

    def flush(self) -> None:
        """Append the collected frames to the signal."""
        if self._parts and self._key is not None:
            values = np.concatenate(self._parts, axis=1)
            self._signal.append(_to_float(values).T, self._key[0])
        self._parts, self._num_frames = [], 0


def _to_float(values: NDArray[np.generic]) -> Samples:
    """Map integers of any width to [-1, 1)."""
    if values.dtype.kind == "f":
        return values.astype(np.float32, copy=False)
    floats: Samples = values.astype(np.float32)
    if values.dtype == np.uint8:
        floats -= 128
    floats *= np.float32(2.0 ** (1 - 8 * values.dtype.itemsize))
    return floats
