"""Our training step and the published one with the same weights, and batches of noise as long as speech would be."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.published_step import PaddedDeepSpeech2, PublishedStep
from hw_asr.batch import Batch
from hw_asr.features import FeatureExtractor
from hw_asr.loss import CTCLoss
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.deepspeech2_config import CNNConfig, GRUConfig
from hw_asr.runtime.processes import Processes
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.training.step import Augmentations, StepSettings, TrainingStep
from hw_asr.types import Utterance

SAMPLE_RATE = 16_000
CHARACTERS_PER_SECOND = 14
NUM_CLASSES = 28
MODELS = {
    "1+6": (128, CNNConfig(16, (41, 11)), GRUConfig(512, 6, bidirectional=True)),
    "small": (80, CNNConfig([16, 16], [(21, 11), (11, 11)], [(2, 2), (2, 1)]), GRUConfig(192, 3, bidirectional=True)),
}


class Sides(NamedTuple):
    """Both training steps, with the same weights."""

    ours: TrainingStep
    published: PublishedStep
    flops: Callable[[Batch], float]
    """Floating-point operations of our step on a batch."""


def make_sides(name: str, device: torch.device, precision: str) -> Sides:
    """Build both sides with the same weights."""
    torch.manual_seed(0)
    n_feats, cnn_config, gru_config = MODELS[name]
    model = DeepSpeech2(n_feats, NUM_CLASSES, cnn_config, gru_config)
    padded = PaddedDeepSpeech2(n_feats, NUM_CLASSES, cnn_config, gru_config)
    padded.load_state_dict(model.state_dict())
    ours = make_step(model, n_feats, device, precision)
    time_stride = int(model.transform_input_lengths(torch.tensor([1000])).item())
    published = PublishedStep(padded, -(-1000 // time_stride), n_feats, device)

    front_end = FeatureExtractor(MelSpectrogram(SAMPLE_RATE, n_mels=n_feats), log=True)

    def flops(batch: Batch) -> float:
        frames = model.transform_input_lengths(front_end.num_frames(batch.sample_lengths))
        return 3 * flops_per_frame(name, model) * float(frames.sum())

    return Sides(ours, published, flops)


def make_step(
    model: DeepSpeech2,
    n_feats: int,
    device: torch.device,
    precision: str,
    augmentations: Augmentations = Augmentations(),  # noqa: B008  (immutable)
) -> TrainingStep:
    """Return our step for a model as train.py makes it."""
    model.to(device)
    mel = MelSpectrogram(SAMPLE_RATE, n_mels=n_feats)
    return TrainingStep(
        model,
        FeatureExtractor(mel, log=True).to(device),
        augmentations,
        CTCLoss(),
        torch.optim.Adam(model.parameters(), lr=6e-4, fused=True),
        Processes(device=device),
        StepSettings(precision, grad_norm_clip=400),
    )


def flops_per_frame(name: str, model: DeepSpeech2) -> float:
    """Return the floating-point operations of the matrix products of a forward pass, per output frame."""
    bins, cnn_config, _ = MODELS[name]
    total, channels, hops = 0.0, 1, math.prod(spec.stride[1] for spec in cnn_config.layers())
    for spec in cnn_config.layers():
        bins, hops = -(-bins // spec.stride[0]), hops // spec.stride[1]
        total += 2 * hops * bins * spec.channels * channels * math.prod(spec.kernel)
        channels = spec.channels
    for module in model.modules():
        if isinstance(module, torch.nn.GRU):
            directions = 2 if module.bidirectional else 1
            total += 2 * directions * 3 * module.hidden_size * (module.input_size + module.hidden_size)
        elif isinstance(module, torch.nn.Linear):
            total += 2 * module.in_features * module.out_features
    return total


def make_batches(number: int, batch_size: int, shortest: float, longest: float) -> Iterator[Batch]:
    """Make batches of noise whose lengths are drawn evenly."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(number):
        seconds = shortest + (longest - shortest) * torch.rand(batch_size, generator=generator)
        yield noise_batch(seconds, generator)


def noise_batch(seconds: Tensor, generator: torch.Generator) -> Batch:
    """Make a batch of noise of these durations (B,), with as many characters as speech would have."""
    lengths = (seconds * SAMPLE_RATE).long()
    target_lengths = (seconds * CHARACTERS_PER_SECOND).long()
    samples = 0.1 * torch.randn(len(seconds), int(lengths.max()), generator=generator)
    samples[torch.arange(samples.shape[1]) >= lengths[:, None]] = 0.0
    targets = torch.randint(1, NUM_CLASSES, (len(seconds), int(target_lengths.max())), generator=generator)
    utterances = tuple(Utterance("noise", "noise", None, float(duration)) for duration in seconds)
    return Batch(utterances, samples, lengths, targets, target_lengths)
