"""Processor time to read 15 s of speech, by format and decoder: `python -m benchmarks.audio [--audio FILE]`.

The same audio in each format, decoded to 16 kHz mono float32 by `hw_asr.datasets.audio` (libsndfile, or FFmpeg where
libsndfile does not read the format whole) and by FFmpeg alone. The decoders take turns; the best of `--repeat` counts.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

from hw_asr.datasets.audio import read_recording
from hw_asr.datasets.audio_ffmpeg import decode_with_ffmpeg
from hw_asr.datasets.audio_file import open_recording
from hw_asr.datasets.recording import Samples, Target

RATE, SECONDS = 16_000, 15
DEMO = Path(__file__).resolve().parents[1] / "demo" / "corpus" / "dev"
KINDS = {
    "wav": ("wav", "PCM_16", RATE),
    "wav, 44.1 kHz": ("wav", "PCM_16", 44_100),
    "flac": ("flac", "PCM_16", RATE),
    "ogg (Vorbis)": ("ogg", "VORBIS", RATE),
    "ogg (Opus)": ("ogg", "OPUS", 48_000),
    "mp3": ("mp3", "MPEG_LAYER_III", RATE),
}


def speech(rate: int, source: list[Path]) -> Samples:
    """Return 15 s of the recordings, one after the other and again from the first, at `rate` Hz."""
    parts = [read_recording(path, rate).samples for path in source]
    joined = np.concatenate(parts)
    return np.resize(joined, SECONDS * rate)


def by_ffmpeg(path: Path) -> None:
    """Decode a file with FFmpeg, whatever its format."""
    with open_recording(path) as file:
        decode_with_ffmpeg(file, Target(RATE))


def milliseconds(run: Callable[[], object], times: int = 10) -> float:
    """Return the processor time of one call."""
    start = time.process_time()
    for _ in range(times):
        run()
    return 1e3 * (time.process_time() - start) / times


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--audio", type=Path, help="a recording; the demo's by default")
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args()
    source = [options.audio] if options.audio else sorted(DEMO.iterdir())[:12]
    print(f"{SECONDS} s of audio, ms of processor time\n{'format':16}{'ours':>8}{'FFmpeg':>8}")
    with tempfile.TemporaryDirectory() as directory:
        for name, (container, subtype, rate) in KINDS.items():
            path = Path(directory, f"a.{container}")
            soundfile.write(path, speech(rate, source), rate, format=container.upper(), subtype=subtype)
            times = [
                (milliseconds(lambda p=path: read_recording(p, RATE)), milliseconds(lambda p=path: by_ffmpeg(p)))  # type: ignore[misc]
                for _ in range(options.repeat)
            ]
            ours, ffmpeg = (min(values) for values in zip(*times, strict=True))
            print(f"{name:16}{ours:8.1f}{ffmpeg:8.1f}")


if __name__ == "__main__":
    main()
