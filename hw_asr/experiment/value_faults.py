"""Values of a config's own keys that have the right type and cannot be used."""

from __future__ import annotations

import math
from collections.abc import Iterator

from hw_asr.config import ExperimentConfig, Split, registry
from hw_asr.datasets.audio_mono import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from hw_asr.decoders.base import MAX_BEAM_SIZE
from hw_asr.errors import nearest

_POSITIVE = (
    "epochs", "len_epoch", "save_period", "keep_last", "keep_every", "save_steps", "early_stop", "log_step",
    "beam_size", "accumulate_grad_steps", "max_bad_steps",
)  # fmt: skip
_MAX_COUNT = 2**53
"""Floats hold no larger integers exactly."""
MAX_WORKERS = 1024


def value_faults(config: ExperimentConfig) -> list[str]:
    """Return which numbers are out of range, and which splits are batched in two ways or none."""
    faults = []
    for name, split in config.data.items():
        faults += [f"data.{name}{fault}" for fault in _batching_faults(split)]
    for key in _POSITIVE:
        value = getattr(config.trainer, key)
        most = MAX_BEAM_SIZE if key == "beam_size" else _MAX_COUNT
        if value is not None and not 1 <= value <= most:
            expected = "a positive integer" if value < 1 else f"at most {most}"
            faults.append(f"trainer.{key}: expected {expected}, got {value}")
    for key in ("save_minutes", "export_minutes", "heartbeat_seconds", "grad_norm_clip"):
        value = getattr(config.trainer, key)
        if value is not None and not value > 0:
            faults.append(f"trainer.{key}: expected a positive number, got {value}")
    epochs = config.trainer.transfer.unfreeze_after_epochs
    if epochs is not None and epochs < 1:
        faults.append(f"trainer.transfer.unfreeze_after_epochs: expected a positive integer, got {epochs}")
    if not 0 <= config.trainer.seed < 2**63:
        faults.append(f"trainer.seed: expected 0 to 2**63 - 1, got {config.trainer.seed}")
    if not MIN_SAMPLE_RATE <= config.preprocessing.sr <= MAX_SAMPLE_RATE:
        rate = config.preprocessing.sr
        faults.append(f"preprocessing.sr: expected {MIN_SAMPLE_RATE} to {MAX_SAMPLE_RATE} Hz, got {rate}")
    if not 0 < config.preprocessing.max_audio_hours < math.inf:
        hours = config.preprocessing.max_audio_hours
        faults.append(f"preprocessing.max_audio_hours: expected a positive number, got {hours}")
    threads = config.trainer.num_threads
    if threads is not None and not 1 <= threads <= MAX_WORKERS:
        faults.append(f"trainer.num_threads: expected 1 to {MAX_WORKERS}, or null, got {threads}")
    decay = config.trainer.ema_decay
    if decay is not None and not 0 < decay < 1:
        faults.append(f"trainer.ema_decay: expected a number in (0, 1), such as 0.999, got {decay}")
    return faults


def writer_faults(config: ExperimentConfig) -> list[str]:
    """Return which writers are unknown or repeated."""
    writers, known = config.trainer.visualize, registry.WRITERS.names()
    names = [writers] if isinstance(writers, str) else writers
    faults = [
        f"trainer.visualize: unknown writer {name!r}{nearest(name, known)}"
        for name in dict.fromkeys(names)
        if name not in known
    ]
    return faults or ["trainer.visualize: names a writer more than once"] * (len(set(names)) < len(names))


def _batching_faults(split: Split) -> Iterator[str]:
    if split.batch_size is not None and split.batch_sampler is not None:
        yield ": batch_size and batch_sampler exclude each other; remove one of them"
    if split.batch_size is None and split.batch_sampler is None:
        yield ": batch_size or batch_sampler is needed"
    if split.batch_size is not None and split.batch_size < 1:
        yield f".batch_size: expected a positive integer, got {split.batch_size}"
    if not 0 <= split.num_workers <= MAX_WORKERS:
        yield f".num_workers: expected 0 to {MAX_WORKERS}, got {split.num_workers}"
