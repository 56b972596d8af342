"""All faults of a config at once, before anything is created, downloaded or written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from hw_asr.config import ConfigError, ExperimentConfig, RawConfig, parse, registry
from hw_asr.config.partial import is_sound, parse_sound_part
from hw_asr.config.registry import Registry
from hw_asr.config.size import MAX_FAULTS, check_size
from hw_asr.experiment import components
from hw_asr.experiment.construction import construction_faults
from hw_asr.experiment.optimizer_groups import check_groups
from hw_asr.experiment.schedule_arguments import schedule_faults
from hw_asr.experiment.schedule_length import resolved
from hw_asr.experiment.value_faults import value_faults, writer_faults
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
_LISTS: dict[str, Registry[Any]] = {
    "metrics": registry.METRICS,
    "decoders": registry.DECODERS,
    "augmentations.wave": registry.WAVE_AUGMENTATIONS,
    "augmentations.spectrogram": registry.SPECTROGRAM_AUGMENTATIONS,
}
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
        faults += [fault for fault in value_faults(config) if fault not in faults]
        faults += writer_faults(config) if training else []
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


def _at(raw: object, path: str) -> Any:
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, Mapping) else None
    return raw


def _items(value: object) -> list[object]:
    return value if isinstance(value, list) else []
