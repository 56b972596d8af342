"""Recordings in containers, written by PyAV: tracks with gaps, late starts, and video."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
import soxr

RATE = 16000


class Part(NamedTuple):
    """A stretch of a track: samples (T,) or (T, C) at 16 kHz, from a time in seconds on."""

    samples: np.ndarray
    start: float = 0.0


class Codec(NamedTuple):
    """How tracks are encoded."""

    name: str
    rate: int = RATE
    options: Mapping[str, str] = {}


OPUS, AAC, PCM, MP3 = Codec("libopus", 48000), Codec("aac"), Codec("pcm_s16le"), Codec("libmp3lame")


def write(
    path: Path,
    tracks: Sequence[Sequence[Part]],
    codec: Codec = OPUS,
    container: str | None = None,
    video_seconds: float = 0.0,
    **options: str,
) -> Path:
    """Write audio tracks and, if `video_seconds`, a black video of that length; `options` are the container's."""
    with av.open(str(path), "w", format=container, options=options) as file:
        num_channels = tracks[0][0].samples.shape[1] if tracks[0][0].samples.ndim == 2 else 1
        layout = {1: "mono", 2: "stereo", 8: "7.1"}[num_channels]
        streams = [
            file.add_stream(codec.name, rate=codec.rate, layout=layout, options=dict(codec.options)) for _ in tracks
        ]
        if video_seconds:
            video = file.add_stream("libvpx" if path.suffix == ".webm" else "mpeg4", rate=10)
            video.width = video.height = 64
            video.pix_fmt = "yuv420p"
            for number in range(round(10 * video_seconds)):
                picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
                picture.pts, picture.time_base = number, Fraction(1, 10)
                file.mux(video.encode(picture))
            file.mux(video.encode(None))
        for stream, parts in zip(streams, tracks, strict=True):
            for part in parts:
                for frame in _frames(part, codec.rate, stream.codec_context.format.name, layout):
                    file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    return path


def _frames(part: Part, rate: int, sample_format: str, layout: str) -> list[av.AudioFrame]:
    """Return a part as frames of 20 ms with time stamps."""
    samples = part.samples if rate == RATE else soxr.resample(part.samples, RATE, rate)
    packed = np.ascontiguousarray(samples.reshape(1, -1), dtype=np.float32)
    whole = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
    whole.sample_rate, whole.pts = rate, None
    resampler = av.AudioResampler(format=sample_format, layout=layout, rate=rate, frame_size=rate // 50)
    frames, position = [], round(part.start * rate)
    for frame in [*resampler.resample(whole), *resampler.resample(None)]:
        frame.pts, frame.time_base = position, Fraction(1, rate)
        position += frame.samples
        frames.append(frame)
    return frames
