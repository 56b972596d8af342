"""All faults of a config at once, before anything is created, downloaded or written."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hw_asr.config import ConfigError, ExperimentConfig, RawConfig, Split, parse, registry
from hw_asr.config.partial import is_sound, parse_sound_part
from hw_asr.config.registry import Registry
from hw_asr.config.size import MAX_FAULTS, check_size
from hw_asr.datasets.audio_mono import MAX_SAMPLE_RATE, MIN_SAMPLE_RATE
from hw_asr.errors import nearest
from hw_asr.experiment import components
from hw_asr.experiment.construction import construction_faults
from hw_asr.experiment.optimizer_groups import check_groups
from hw_asr.experiment.schedule_arguments import schedule_faults
from hw_asr.experiment.schedule_length import resolved
from hw_asr.storage.secrets import secrets_in

_SINGLE: dict[str, Registry[Any]] = {
    "arch": registry.MODELS,
    "text_encoder": registry.TEXT_ENCODERS,
    "optimizer": registry.OPTIMIZERS,
    "loss": registry.LOSSES,
    "lr_scheduler": registry.SCHEDULERS,
    "preprocessing.spectrogram": registry.SPECTROGRAMS,
    "trainer.external_storage": registry.STORAGES,
}
_TRAINING_ONLY = ("augmentations", "loss", "lr_scheduler", "metrics", "optimizer")
_TRAINER_KEYS_OF_RECOGNITION = ("beam_size", "seed")
_POSITIVE = (
    "epochs", "len_epoch", "save_period", "keep_last", "keep_every", "save_steps", "early_stop", "log_step",
    "beam_size", "accumulate_grad_steps", "max_bad_steps",
)  # fmt: skip
_LISTS: dict[str, Registry[Any]] = {
    "metrics": registry.METRICS,
    "decoders": registry.DECODERS,
    "augmentations.wave": registry.WAVE_AUGMENTATIONS,
    "augmentations.spectrogram": registry.SPECTROGRAM_AUGMENTATIONS,
}
MAX_WORKERS = 1024
_PLACEHOLDER: dict[str, object] = {"type": "unused"}
_NETWORK = ("arch", "preprocessing.spectrogram")


class Examination(NamedTuple):
    """All faults of a config, and the config itself; if keys or types are faulty, the rest of it."""

    config: ExperimentConfig | None
    faults: list[str]


def validate(
    raw: RawConfig, source: str = "config", *, training: bool = True, network: bool = True
) -> ExperimentConfig:
    """Return the parsed config; without `training`, sections that only training uses are neither read nor built.

    Without `network`, neither are features and model: an exported model contains them. Raises ConfigError listing every
    fault of `examine`.
    """
    config, faults = examine(raw, training=training, network=network)
    if faults or config is None:
        raise ConfigError(faults, source)
    return config


def examine(raw: RawConfig, *, training: bool = True, network: bool = True) -> Examination:
    """Return a config with every fault, each with its path.

    Faults are wrong keys and types, unknown names and arguments of components, values their constructors refuse, and
    parts that do not fit each other. Nothing is created, downloaded or written.
    """
    raw = raw if training else for_recognition(raw)
    raw = raw if network else without_network(raw)
    unread = (*(() if training else ("optimizer",)), *(() if network else _NETWORK))
    faults: list[str] = []
    try:
        check_size(raw, "config")
    except ConfigError as error:
        return Examination(None, error.faults)
    try:
        config: ExperimentConfig | None = parse(raw)
    except ConfigError as error:
        faults += error.faults
        config = parse_sound_part(raw, faults)
    faults += _group_faults(raw)
    for kind, spec, path in specs(raw):
        if path in unread:
            continue
        if path == "lr_scheduler":
            found = schedule_faults(resolved(spec, 1), path, _provided(kind))
        else:
            found = kind.check(spec, path, _provided(kind))
        faults += [fault for fault in found if fault not in faults]
        if len(faults) > MAX_FAULTS:
            return Examination(None, [*faults[:MAX_FAULTS], "config: more faults are not listed"])
    if config is not None:
        faults += [fault for fault in _value_faults(config) if fault not in faults]
        faults += _writer_faults(config) if training else []
        if training and "train" not in config.data and is_sound("data.train", faults):
            faults.append(f"data.train: missing; splits given: {', '.join(config.data) or 'none'}")
        faults += construction_faults(config, faults, training=training, network=network)
    if training:  # the config is copied into the run, its checkpoints and its exports
        faults += [f'{fault}; put it into an environment variable and write "$NAME"' for fault in secrets_in(raw)]
    return Examination(config, faults)


def _group_faults(raw: RawConfig) -> list[str]:
    optimizer = raw.get("optimizer")
    return check_groups(optimizer, "optimizer") if isinstance(optimizer, Mapping) else []


def _provided(kind: Registry[object]) -> tuple[str, ...]:
    return components.PROVIDED.get(kind.kind, ())


def for_recognition(raw: RawConfig) -> dict[str, object]:
    """Return a config without its training sections; the required optimizer is a placeholder."""
    kept = {key: value for key, value in raw.items() if key not in _TRAINING_ONLY}
    trainer = raw.get("trainer")
    settings = trainer if isinstance(trainer, Mapping) else {}
    used = {key: settings[key] for key in _TRAINER_KEYS_OF_RECOGNITION if key in settings}
    return {**kept, "optimizer": _PLACEHOLDER, "trainer": {"epochs": 1, **used}}


def without_network(raw: RawConfig) -> dict[str, object]:
    """Return a config without the sections of the features and the model; the required arch is a placeholder."""
    result = {**raw, "arch": _PLACEHOLDER}
    if isinstance(raw.get("preprocessing"), Mapping):
        result["preprocessing"] = {**raw["preprocessing"], "spectrogram": _PLACEHOLDER}
    return result


def specs(raw: RawConfig) -> Iterator[tuple[Registry[Any], Any, str]]:
    """Yield every spec of a config with its registry and path."""
    for path, kind in _SINGLE.items():
        spec = _at(raw, path)
        if isinstance(spec, Mapping):
            # `groups` is not an argument of the optimizer's constructor and are checked apart.
            yield kind, {key: value for key, value in spec.items() if (path, key) != ("optimizer", "groups")}, path
    for path, kind in _LISTS.items():
        for index, spec in enumerate(_items(_at(raw, path))):
            if isinstance(spec, Mapping):
                yield kind, spec, f"{path}[{index}]"
    for name, split in (_at(raw, "data") or {}).items() if isinstance(_at(raw, "data"), Mapping) else ():
        if not isinstance(split, Mapping):
            continue
        for index, spec in enumerate(_items(split.get("datasets"))):
            if isinstance(spec, Mapping):
                yield registry.DATASETS, spec, f"data.{name}.datasets[{index}]"
        if isinstance(split.get("batch_sampler"), Mapping):
            yield registry.SAMPLERS, split["batch_sampler"], f"data.{name}.batch_sampler"


def _value_faults(config: ExperimentConfig) -> list[str]:
    faults = []
    for name, split in config.data.items():
        faults += [f"data.{name}{fault}" for fault in _batching_faults(split)]
    for key in _POSITIVE:
        value = getattr(config.trainer, key)
        if value is not None and value < 1:
            faults.append(f"trainer.{key}: expected a positive integer, got {value}")
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


def _writer_faults(config: ExperimentConfig) -> list[str]:
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


def _at(raw: object, path: str) -> Any:
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []
