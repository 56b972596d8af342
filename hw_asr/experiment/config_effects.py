"""What a config can do beyond computing: run code of a module, read and write files, contact servers.

A config that a person names on the command line may do all of it. A config that came with a checkpoint is data: its
effects are listed here so that `checkpoint_config` can ask for permission.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, get_args

from hw_asr.config import Preprocessing, RawConfig
from hw_asr.config.arguments import parameters
from hw_asr.config.registry import Registry
from hw_asr.experiment.validation import specs
from hw_asr.lm.librispeech import KNOWN_NAMES

MODULE, STORAGE, WRITER, FILES = "module", "external storage", "online writer", "path or address"
LIMIT = "limit above the default"
_ADDRESS_ARGUMENTS = {"url", "base_url", "endpoint"}
_DEFAULT_ROOT_DIR = "data"
_OUTSIDE = re.compile(r"[/\\]|^[$~]")


class Effect(NamedTuple):
    """One thing that a config asks for: where it stands, its kind (one of the constants above) and the JSON value."""

    path: str
    kind: str
    value: Any

    def canonical(self) -> bytes:
        """Return bytes that are equal exactly for equal effects."""
        return json.dumps([dotted(self.path), self.kind, self.value], sort_keys=True).encode()

    def __str__(self) -> str:
        text = json.dumps(self.value, ensure_ascii=True)
        return f"{self.path}: {self.kind} {text if len(text) <= 100 else text[:97] + '...'}"


def effects(raw: RawConfig) -> list[Effect]:
    """Return the effects of a config; values that are defaults of this program are not listed.

    Imports no module that the config names.
    """
    found = []
    for registry, spec, path in specs(raw):
        if path == "trainer.external_storage":
            found.append(Effect(path, STORAGE, dict(spec)))
            continue
        if spec.get("module") is not None:
            found.append(Effect(f"{path}.module", MODULE, spec["module"]))
        args = spec.get("args")
        if isinstance(args, Mapping):
            reaches_outside = _argument_test(registry, spec)
            found += [
                Effect(f"{path}.args.{name}", FILES, value)
                for name, value in args.items()
                if reaches_outside(str(name), value)
            ]
    return [*found, *_section_effects(raw)]


def dotted(path: str) -> str:
    """Return `data.train.datasets[0].args` as `data.train.datasets.0.args`, the form of `--set`."""
    return path.replace("[", ".").replace("]", "")


def _section_effects(raw: RawConfig) -> Iterator[Effect]:
    """Yield the effects of keys that are not specs.

    `trainer.save_dir` is not one: a run that is continued stays in its own directory.
    """
    data, trainer, preprocessing = raw.get("data"), raw.get("trainer"), raw.get("preprocessing")
    if isinstance(preprocessing, Mapping):
        hours = preprocessing.get("max_audio_hours")
        if isinstance(hours, (int, float)) and not hours <= Preprocessing.max_audio_hours:
            yield Effect("preprocessing.max_audio_hours", LIMIT, hours)
    if isinstance(data, Mapping) and data.get("root_dir", _DEFAULT_ROOT_DIR) != _DEFAULT_ROOT_DIR:
        yield Effect("data.root_dir", FILES, data["root_dir"])
    if isinstance(trainer, Mapping):
        writers = trainer.get("visualize")
        if "wandb" in (writers if isinstance(writers, (str, list)) else ()):
            yield Effect("trainer.visualize", WRITER, ["wandb", trainer.get("wandb_project")])


def _argument_test(registry: Registry[object], spec: Mapping[str, object]) -> Callable[[str, object], bool]:
    """Return a function of name and value that tells whether an argument names a file or a server."""
    if spec.get("module") is None:
        try:
            factory = registry.find(spec) if isinstance(spec.get("type"), str) else None
        except LookupError:
            factory = None
        if factory is not None:
            return lambda name, value: _is_outside(factory, name, value)
    return lambda _, value: _looks_outside(value)


def _is_outside(factory: Callable[..., object], name: str, value: object) -> bool:
    known = parameters(factory)
    if name not in known or not value:
        return False
    default = inspect.signature(factory).parameters[name].default
    if value == default or (isinstance(default, Path) and value == default.as_posix()):
        return False
    if name == "model":  # of LibrispeechKenLMCTCCharTextEncoder
        return isinstance(value, str) and value not in KNOWN_NAMES
    annotation = known[name][0]
    if annotation is Any:
        return _looks_outside(value)
    return Path in (annotation, *get_args(annotation)) or name in _ADDRESS_ARGUMENTS


def _looks_outside(value: object) -> bool:
    """Whether a string in a JSON value looks like a path, an address or a `$NAME`."""
    return any(_OUTSIDE.search(text) for text in _strings(value))


def _strings(value: object) -> Iterator[str]:
    """Yield all strings in a JSON value."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield item
        elif isinstance(item, Mapping):
            waiting += [*item.keys(), *item.values()]
        elif isinstance(item, (list, tuple)):
            waiting += item
