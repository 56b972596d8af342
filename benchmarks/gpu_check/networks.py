"""Training steps and batches that several parts use."""

from __future__ import annotations

import torch

from benchmarks.gpu_check.report import Options
from benchmarks.training_steps import MODELS, NUM_CLASSES, make_batches, make_step, noise_batch
from hw_asr.augmentations import FrequencyMasking, Gain, PitchShift, TimeMasking
from hw_asr.batch import Batch
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.training.step import Augmentations, TrainingStep
from hw_asr.training.step_result import StepResult
from hw_asr.training.stream import Placed

PUBLISHED = Augmentations(
    (Gain(0.3), PitchShift(0.3)), (FrequencyMasking(0.3, freq_mask_param=24), TimeMasking(0.3, time_mask_param=50))
)
"""The augmentations of the published recipe."""


def model_name(options: Options) -> str:
    """Return which network of `benchmarks.training_steps` is used."""
    return "small" if options.quick else "1+6"


def new_model(name: str) -> DeepSpeech2:
    """Return the network with its initial weights, always the same."""
    torch.manual_seed(0)
    n_feats, cnn_config, gru_config = MODELS[name]
    return DeepSpeech2(n_feats, NUM_CLASSES, cnn_config, gru_config)


def new_step(
    options: Options,
    precision: str = "fp32",
    augmentations: Augmentations = Augmentations(),  # noqa: B008  (immutable)
    device: torch.device | None = None,
) -> TrainingStep:
    """Return a training step on the device of the options, or another one."""
    name = model_name(options)
    return make_step(new_model(name), MODELS[name][0], device or options.device, precision, augmentations)


def short_batches(options: Options, number: int) -> list[Batch]:
    """Return batches of a few short utterances."""
    size, shortest, longest = (3, 0.3, 0.7) if options.quick else (4, 1.0, 3.0)
    return [pinned(options, batch) for batch in make_batches(number, size, shortest, longest)]


def speech_durations(number: int) -> torch.Tensor:
    """Return durations distributed about as in train-clean-100: most of 12 to 16 s, a fifth of 2 to 12 s."""
    generator = torch.Generator().manual_seed(1)
    long = 14.2 + 1.2 * torch.randn(number, generator=generator)
    short = 2 + 10 * torch.rand(number, generator=generator)
    return torch.where(torch.rand(number, generator=generator) < 0.2, short, long.clamp(2.0, 24.0))


def speech_batches(options: Options, number: int, batch_size: int, *, grouped: bool) -> list[Batch]:
    """Return batches of speech-like durations, at random or grouped by duration; in the quick form much shorter."""
    durations = speech_durations(20 * batch_size) / (20 if options.quick else 1)
    batches = (durations.sort().values if grouped else durations).view(20, batch_size)
    chosen = torch.linspace(0, 19, number).round().long() if grouped else torch.arange(number)
    generator = torch.Generator().manual_seed(2)
    return [pinned(options, noise_batch(batches[index], generator)) for index in chosen.tolist()]


def pinned(options: Options, batch: Batch) -> Batch:
    """Return the batch as the data loader gives it."""
    return batch.pin_memory() if options.on_gpu else batch


def take(step: TrainingStep, batch: Batch, position: int) -> StepResult:
    """Take one optimiser step."""
    return step.run([Placed(batch, 0, position)])
