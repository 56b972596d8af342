"""Limits on the size of a config: a wrong or hostile one is refused before it costs minutes."""

from __future__ import annotations

from collections.abc import Mapping

from hw_asr.errors import ConfigError

MAX_KEYS = 10_000
"""Keys and components of a config; items of lists in the arguments of a component are not counted."""
MAX_FAULTS = 1000
"""A config with more faults is not examined further."""


def check_size(raw: Mapping[str, object], source: str) -> None:
    """Raise ConfigError for a config with more than `MAX_KEYS` keys and components."""
    count = 0
    waiting: list[tuple[object, bool]] = [(raw, False)]
    while waiting:
        value, is_argument = waiting.pop()
        if isinstance(value, dict):
            count += len(value)
            waiting += [(item, is_argument or key == "args") for key, item in value.items()]
        elif isinstance(value, list) and not is_argument:
            count += len(value)
            waiting += [(item, False) for item in value]
        if count > MAX_KEYS:
            raise ConfigError([f"more than {MAX_KEYS} keys and components; expected a few hundred at most"], source)
