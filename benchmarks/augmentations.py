"""Milliseconds per utterance of each augmentation, beside torchaudio's: `python -m benchmarks.augmentations`.

Ours and torchaudio's run alternately on the same batch; printed are medians. Ours draws anew for each utterance;
torchaudio's gets one fixed setting for the whole batch, which saves work, and no lengths.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch
import torchaudio
from torch import Tensor

from hw_asr import augmentations
from hw_asr.types import SpectrogramAugmentation, WaveAugmentation

SAMPLE_RATE = 16_000
HOP = 200
Peer = Callable[[Tensor], object]


def torchaudio_peers(slow: bool) -> dict[str, Peer]:
    """Return what torchaudio has of each; with `slow` its pitch shift makes its filter anew, as a random shift must."""
    functional, transforms = torchaudio.functional, torchaudio.transforms
    cached_shift = transforms.PitchShift(SAMPLE_RATE, 3, n_fft=512)
    stretch = transforms.TimeStretch(hop_length=128, n_freq=257, fixed_rate=1.2)
    window = torch.hann_window(512)
    response = torch.randn(1, int(0.35 * SAMPLE_RATE))

    def time_stretching(samples: Tensor) -> Tensor:
        frames = torch.stft(samples, 512, 128, window=window, return_complex=True)
        return torch.istft(stretch(frames), 512, 128, window=window)

    return {
        "Gain": lambda samples: functional.gain(samples, -6.0),
        "PitchShift": (lambda samples: functional.pitch_shift(samples, SAMPLE_RATE, 3, n_fft=512))
        if slow
        else cached_shift,
        "TimeStretching": time_stretching,
        "SpeedPerturbation": lambda samples: functional.speed(samples, SAMPLE_RATE, 1.1),
        "RandomNoise": lambda samples: functional.add_noise(
            samples, torch.randn_like(samples), samples.new_full((len(samples),), 15.0)
        ),
        "RoomImpulseResponse": lambda samples: functional.fftconvolve(samples, response),
        "FrequencyMasking": transforms.FrequencyMasking(24, iid_masks=True),
        "TimeMasking": transforms.TimeMasking(50, iid_masks=True),
        "SpecAugment": transforms.SpecAugment(2, 50, 2, 24, iid_masks=True),
    }


def milliseconds(run: Callable[[], object], device: torch.device) -> float:
    """Return how long one run takes."""
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return 1000 * (time.perf_counter() - start)


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="Time the augmentations.")
    parser.add_argument("--seconds", type=float, default=15.0, help="length of an utterance (%(default)s)")
    parser.add_argument("--batch", type=int, default=4, help="utterances in a batch (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="(%(default)s)")
    parser.add_argument("--device", default="cpu", help="(%(default)s)")
    parser.add_argument("--slow", action="store_true", help="torchaudio's pitch shift as a random one needs it: > 10 s")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    num_samples = int(arguments.seconds * SAMPLE_RATE)
    samples = 0.1 * torch.randn(arguments.batch, num_samples, device=device)
    spectrogram = torch.randn(arguments.batch, 128, num_samples // HOP, device=device)
    print(
        f"ms per utterance of {arguments.seconds:g} s, batch {arguments.batch}, {arguments.threads} thread(s), {device}"
    )
    print(f"{'':22}{'ours':>9}{'torchaudio':>12}{'ratio':>8}")
    for name, peer in torchaudio_peers(arguments.slow).items():
        batch = spectrogram if name.endswith(("Masking", "Augment")) else samples
        augment: WaveAugmentation | SpectrogramAugmentation = getattr(augmentations, name)(p=1.0)
        ours, theirs = compare(augment, peer, batch, arguments.repeats, device)
        print(f"{name:22}{ours:9.2f}{theirs:12.2f}{theirs / ours:8.1f}")


def compare(
    augment: WaveAugmentation | SpectrogramAugmentation, peer: Peer, batch: Tensor, repeats: int, device: torch.device
) -> tuple[float, float]:
    """Return the medians of both, per utterance, after a warm-up of each."""
    generator = torch.Generator().manual_seed(0)
    lengths = torch.full((len(batch),), batch.shape[-1], device=device)
    if isinstance(peer, torch.nn.Module):
        peer = peer.to(device)
    runs = (lambda: augment(batch, lengths, generator), lambda: peer(batch))
    taken: tuple[list[float], list[float]] = ([], [])
    with torch.no_grad():
        for repeat in range(repeats + 1):
            for run, times in zip(runs, taken, strict=True):
                elapsed = milliseconds(run, device) / len(batch)
                if repeat > 0:
                    times.append(elapsed)
    return statistics.median(taken[0]), statistics.median(taken[1])


if __name__ == "__main__":
    main()
