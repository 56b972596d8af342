"""What the config of a checkpoint may do.

A config that the user names with `-c` may do everything. One that is received, beside the checkpoint or inside it, is
data: its modules are imported only if they are allowed by name, and its storages, addresses and paths take effect only
if the user trusts the config, names them too, or started the run on this machine.
"""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from hw_asr.config import ConfigError, RawConfig
from hw_asr.experiment.config_effects import MODULE, Effect, dotted, effects
from hw_asr.experiment.remembered_runs import is_remembered
from hw_asr.experiment.validation import specs


class Trust(NamedTuple):
    """What the user allows a received config to do: `--allow-module NAME`, repeatable, and `--trust-config`."""

    modules: frozenset[str] = frozenset()
    config: bool = False


@dataclass(frozen=True)
class Named:
    """Config values from the command line, which are trusted."""

    overlay: Path | None = None
    """`-c` of a command that also takes a checkpoint."""
    assignments: Sequence[str] = ()
    """`--set KEY=VALUE`."""
    config: Mapping[str, object] = field(default_factory=dict)
    """A whole config that is not applied; effects of the received config that it has too are trusted."""
    trust: Trust = field(default_factory=Trust)


def not_allowed(raw: RawConfig, named: Named, replaced: Collection[str], directory: Path) -> list[Effect]:
    """Return the effects of a received config that the user has not allowed.

    `replaced` are the top-level sections that come from the user's overlay, `directory` is that of the checkpoint.
    Raises ConfigError for an allowed module that does not define the type.
    """
    assigned = [assignment.partition("=")[0] for assignment in named.assignments]
    also_named = {effect.canonical() for effect in effects(named.config)}
    refused = []
    for effect in effects(raw):
        path = dotted(effect.path)
        is_named = path.partition(".")[0] in replaced
        is_named = is_named or any(path == key or path.startswith(f"{key}.") for key in assigned)
        is_trusted = named.trust.config and effect.kind != MODULE
        if is_named or is_trusted or effect.canonical() in also_named or is_remembered(directory, effect):
            continue
        if effect.kind == MODULE and isinstance(effect.value, str) and effect.value in named.trust.modules:
            _check_definition(raw, effect)
            continue
        refused.append(effect)
    return refused


def _check_definition(raw: RawConfig, effect: Effect) -> None:
    """Import an allowed module; raise ConfigError for a type that it only imports, `os.system` for one."""
    type_name = next(spec.get("type") for _, spec, path in specs(raw) if f"{path}.module" == effect.path)
    try:
        module = importlib.import_module(effect.value)
    except (Exception, SystemExit):
        return  # validation reports it
    found = getattr(module, type_name, None) if isinstance(type_name, str) else None
    package = effect.value.partition(".")[0]
    if found is not None and (getattr(found, "__module__", None) or "").partition(".")[0] != package:
        raise ConfigError(
            [f"{effect.path}: {type_name!r} is not defined in {effect.value!r}, only imported there; it is not used"]
        )


def refusal(effect: Effect) -> str:
    """Return the message for an effect that is not allowed: what it does and how to allow it."""
    if effect.kind == MODULE:
        return (
            f"{effect.path}: the checkpoint's config asks to import the module {effect.value!r}, which runs its code; "
            f"if you trust it, add --allow-module {effect.value}"
        )
    return (
        f"{effect}: comes from the checkpoint's config, and was not named by you; if you trust it, add --trust-config, "
        "or name your own with -c or --set"
    )
