"""Decoding through PyAV, which carries FFmpeg: m4a, webm, wma and whatever else libsndfile refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np

from hw_asr.datasets.recording import AudioError, Decoded

CONTAINERS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,asf,aac,ogg,flac,wav,w64,mp3,amr,caf,aiff,au,"
    "mpegts,avi,flv,ac3,eac3,dts,tta,wv,ape"
)
"""FFmpeg would also take pictures, raw video, text art, and playlists that reach out to other files and hosts."""


def decode(path: Path, refusal: str) -> Decoded:
    """Decode the first audio stream, its channels averaged; `refusal` is what libsndfile said.

    Raises AudioError.
    """
    try:
        with _open(path) as container:
            stream = container.streams.audio[0]
            resampler = av.AudioResampler(format="fltp", layout=stream.layout.name, rate=stream.rate)
            blocks = [np.empty(0, np.float32)]
            for frame in container.decode(stream):
                blocks += [part.to_ndarray().mean(axis=0, dtype=np.float32) for part in resampler.resample(frame)]
            blocks += [part.to_ndarray().mean(axis=0, dtype=np.float32) for part in resampler.resample(None)]
            return Decoded(np.concatenate(blocks), stream.rate, _declared(container))
    except (av.FFmpegError, ValueError, IndexError) as error:
        raise _error(path, refusal, error) from error


def declared_duration(path: Path, refusal: str) -> float | None:
    """Return the seconds that the header declares, None when it does not; `refusal` is what libsndfile said.

    Raises AudioError.
    """
    try:
        with _open(path) as container:
            return _declared(container) if container.streams.audio else None
    except (av.FFmpegError, ValueError) as error:
        raise _error(path, refusal, error) from error


def _open(path: Path) -> Any:
    options = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file"}
    return av.open(str(path.absolute()), options=options, metadata_errors="replace")


def _declared(container: Any) -> float | None:
    stream = container.streams.audio[0]
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return container.duration / av.time_base if container.duration else None


def _error(path: Path, refusal: str, error: Exception) -> AudioError:
    if isinstance(error, IndexError):
        return AudioError(f"{path}: has no audio stream")
    detail = error.strerror if isinstance(error, av.FFmpegError) else str(error)
    return AudioError(f"{path}: cannot be decoded; libsndfile: {refusal}; FFmpeg: {detail}")
