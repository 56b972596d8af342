"""Words that a recogniser invents in sounds without speech, 30 s of each kind.

    python -m benchmarks.noise_words -r saved/models/demo/RUN/model_best.pth --lm saved/demo/lm.arpa

Every kind has a background of white noise at -65 dBFS, except silence, noise and hum.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import hw_asr

SECONDS, EVENTS = 30, 14
Sound = NDArray[np.float32]


def main() -> None:
    """Print the number of words in each kind of sound."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-r", "--resume", type=Path, required=True, help="a checkpoint or an exported model")
    parser.add_argument("--lm", type=Path, help="language model; default: the best decoder of the config")
    options = parser.parse_args()
    recogniser = hw_asr.load(options.resume, language_model=options.lm)
    for name, sound in sounds(recogniser.sample_rate).items():
        text = recogniser.transcribe(sound, recogniser.sample_rate).text
        print(f"{name:42}{len(text.split()):5}  {text[:60]}")


def sounds(rate: int) -> dict[str, Sound]:
    """Return sounds (N,) by name, always the same ones."""
    random, size = np.random.default_rng(0), SECONDS * rate
    noise, time = random.standard_normal(size), np.arange(size) / rate
    hum = 0.01 * np.sum([np.sin(2 * np.pi * 50 * k * time) / k for k in (1, 2, 3, 5)], axis=0)
    background = noise * _amplitude(-65)
    result = {"silence": np.zeros(size), "white noise at -50 dBFS": noise * _amplitude(-50), "mains hum": hum}
    for name, kind, low, high in (
        ("clicks of 0.1 to 1 ms", "click", 0.0001, 0.001),
        ("clicks that ring for 3 to 30 ms", "ring", 0.003, 0.03),
        ("bursts of noise of 10 to 120 ms", "burst", 0.01, 0.12),
        ("thuds that decay in 30 to 120 ms", "thud", 0.03, 0.12),
        ("tones of 0.1 to 0.3 s", "tone", 0.1, 0.3),
    ):
        sound = background.copy()
        for start in (np.arange(EVENTS) + random.uniform(0.1, 0.9, EVENTS)) * size / EVENTS:
            event = _event(kind, random.uniform(low, high), rate, random)
            end = min(size, int(start) + len(event))
            sound[int(start) : end] += event[: end - int(start)]
        result[name] = sound
    return {name: sound.astype(np.float32) for name, sound in result.items()}


def _event(kind: str, seconds: float, rate: int, random: np.random.Generator) -> NDArray[np.float64]:
    """Return one sound of a kind; `seconds` is its length, or the time in which it falls to 1/e."""
    decays = kind in ("ring", "thud")
    time = np.arange(max(1, round((6 if decays else 1) * seconds * rate))) / rate
    pitch = random.uniform(60, 150) if kind == "thud" else random.uniform(300, 4000)
    wave = random.standard_normal(len(time)) / 3 if kind in ("click", "burst") else np.sin(2 * np.pi * pitch * time)
    return random.uniform(0.1, 0.5) * wave * (np.exp(-time / seconds) if decays else 1.0)


def _amplitude(decibels: float) -> float:
    return float(10 ** (decibels / 20))


if __name__ == "__main__":
    main()
