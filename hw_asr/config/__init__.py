"""Configs: schema, reading, and the registries that turn specs into objects."""

from hw_asr.config.reading import overlay, override, read_json
from hw_asr.config.schema import ExperimentConfig, Preprocessing, RawConfig, Spec, Split, TrainerConfig, parse
from hw_asr.errors import ConfigError

__all__ = [
    "ConfigError", "ExperimentConfig", "Preprocessing", "RawConfig", "Spec", "Split", "TrainerConfig", "overlay",
    "override", "parse", "read_json",
]  # fmt: skip
