"""The config: its schema, how it is read, how its specs become objects."""

from hw_asr.config.reading import overlay, override, read_json
from hw_asr.config.schema import ExperimentConfig, Preprocessing, Spec, Split, TrainerConfig, parse
from hw_asr.errors import ConfigError

__all__ = [
    "ConfigError", "ExperimentConfig", "Preprocessing", "Spec", "Split", "TrainerConfig", "overlay", "override",
    "parse", "read_json",
]  # fmt: skip
