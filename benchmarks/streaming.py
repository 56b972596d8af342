"""Live recognition: processor time for pieces of audio of several durations, by decoder, on one core.

    python -m benchmarks.streaming -r saved/models/demo_streaming/RUN/model_best.pth --lm saved/demo/lm.arpa

The recordings are joined with pauses of 0.5 to 2 s and recognised once without being measured, which compiles and
fills caches. `x real time` is audio per processor time; `whole` is `transcribe`. Percentiles are of the processor time
of calls of `accept`. The text has to be that of `transcribe`.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import hw_asr
from hw_asr.datasets.audio import read_audio

PIECES_MS = (20, 80, 320)
PERCENTILES = (50, 95, 99)


def main() -> None:
    """Print a row for each decoder and piece."""
    options = parse_arguments()
    torch.set_num_threads(1)
    decoders: dict[str, dict[str, Path]] = {"argmax": {}, "beam_search": {}}
    if options.lm is not None:
        decoders["lm_beam_search"] = {"language_model": options.lm}
    print(f"{'decoder':16}{'piece':>8}{'x real time':>13}{'p50':>9}{'p95':>9}{'p99':>9}")
    for name, arguments in decoders.items():
        recogniser = hw_asr.load(options.resume, decoder=name, device="cpu", **arguments)  # type: ignore[arg-type]
        samples = joined(options.manifest, options.num, recogniser.sample_rate)
        seconds = len(samples) / recogniser.sample_rate
        expected = recogniser.transcribe(samples, recogniser.sample_rate).text
        begin = time.thread_time()
        recogniser.transcribe(samples, recogniser.sample_rate)
        print(f"{name:16}{'whole':>8}{seconds / (time.thread_time() - begin):>13.0f}")
        for milliseconds in PIECES_MS:
            begin = time.thread_time()
            delays, text = timed(recogniser, samples, round(milliseconds * recogniser.sample_rate / 1000))
            factor = seconds / (time.thread_time() - begin)
            assert text == expected
            columns = "".join(f"{value:>6.2f} ms" for value in np.percentile(1000 * np.array(delays), PERCENTILES))
            print(f"{'':16}{milliseconds:>5} ms{factor:>13.1f}{columns}")
    print(f"{seconds:.0f} s of audio; look-ahead of the network {recogniser.stream().look_ahead_seconds:.3f} s")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-r", "--resume", type=Path, required=True, help="checkpoint that can recognise live")
    parser.add_argument("--lm", type=Path, help="language model for lm_beam_search")
    parser.add_argument(
        "--manifest", type=Path, default=Path("demo/corpus/test.jsonl"), help="default: the demo's test"
    )
    parser.add_argument("--num", type=int, default=40, help="recordings (default 40)")
    return parser.parse_args()


def joined(manifest: Path, num: int, sample_rate: int) -> NDArray[np.float32]:
    """Return the first recordings of a manifest with pauses of faint noise between them."""
    generator = np.random.default_rng(0)
    parts = []
    for line in manifest.read_text(encoding="utf-8").splitlines()[:num]:
        pause = generator.standard_normal(int(generator.uniform(0.5, 2.0) * sample_rate))
        parts += [
            read_audio(manifest.parent / json.loads(line)["path"], sample_rate),
            (1e-4 * pause).astype(np.float32),
        ]
    return np.concatenate(parts)


def timed(recogniser: hw_asr.Recogniser, samples: NDArray[np.float32], size: int) -> tuple[list[float], str]:
    """Return the seconds of each call of `accept` for pieces of `size` samples, and the text."""
    stream, delays = recogniser.stream(), []
    for start in tqdm(range(0, len(samples), size), leave=False, disable=None, unit="piece"):
        begin = time.thread_time()
        stream.accept(samples[start : start + size])
        delays.append(time.thread_time() - begin)
    return delays, stream.finish().text


if __name__ == "__main__":
    main()
