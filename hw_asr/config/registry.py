"""Registries: the names of components in a config, and the factories that make them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from hw_asr.config.arguments import call, check_call, parameters
from hw_asr.errors import nearest

if TYPE_CHECKING:  # what the registries hold; at run time this module needs neither torch nor the components
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from hw_asr.storage.external import ExternalStorage
    from hw_asr.types import (
        Corpus,
        CTCDecoder,
        EpochSampler,
        Metric,
        SpectrogramAugmentation,
        TextEncoder,
        WaveAugmentation,
    )
    from hw_asr.writers.base import Writer

T = TypeVar("T")
Factory = TypeVar("Factory", bound=Callable[..., Any])


class Registry(Generic[T]):
    """Factories of one kind, found by the `type` of a spec `{"type", "args", "module"?}`.

    `parts` names the packages of this program that register factories; they are imported at the first look-up, so that
    recognition without torch imports no part that needs it. `library` names a module whose public classes are known as
    well (torch.optim). It is imported only for a name that is not registered, and may be missing.
    """

    def __init__(self, kind: str, *parts: str, library: str | None = None) -> None:
        self.kind = kind
        self.library = library
        self._parts = parts
        self._library_error = ""
        self._factories: dict[str, Callable[..., T]] = {}

    def register(self, name: str | None = None) -> Callable[[Factory], Factory]:
        """Return a decorator that registers a class or function under `name`, by default its own name."""

        def add(factory: Factory) -> Factory:
            key = name or factory.__name__
            assert key not in self._factories, f"{self.kind} {key!r} is registered twice"
            self._factories[key] = factory
            return factory

        return add

    def names(self) -> list[str]:
        """Return all known type names."""
        return sorted(set(self.registered()) | set(self._library_classes()))

    def registered(self) -> list[str]:
        """Return the type names of registered factories, without those of the library."""
        self._import_parts()
        return sorted(self._factories)

    def check(self, spec: object, path: str, provided: Collection[str] = ()) -> list[str]:
        """List every fault of a spec, each as `path: what is wrong`.

        `provided` names arguments that the program adds in `build`.
        """
        if not isinstance(spec, Mapping):
            return [f'{path}: expected {{"type": ..., "args": {{...}}}}, got {spec!r}']
        faults = [
            f"{path}.{key}: unknown key{nearest(str(key), ('type', 'args', 'module'))}"
            for key in spec
            if key not in ("type", "args", "module")
        ]
        if not isinstance(spec.get("type"), str):
            return [
                *faults,
                f"{path}.type: missing; expected the name of a {self.kind}{nearest('', self.names())}",
            ]
        try:
            factory = self.find(spec)
        except LookupError as error:
            return [*faults, f"{path}.{error.args[0]}"]
        return faults + check_call(factory, spec.get("args", {}), f"{path}.args", provided)

    def build(self, spec: Mapping[str, Any], **provided: object) -> T:
        """Make the object of a checked spec, with those arguments of `provided` that it accepts."""
        return call(self.find(spec), spec.get("args", {}), **provided)

    def accepts(self, spec: Mapping[str, object], argument: str) -> bool:
        """Whether the factory of a checked spec has a parameter of this name."""
        return argument in parameters(self.find(spec))

    def find(self, spec: Mapping[str, Any]) -> Callable[..., T]:
        """Return the factory of a spec.

        Raises LookupError with `key: reason` when the module or the type is not known.
        """
        name, module_name = spec["type"], spec.get("module")
        if module_name is not None:
            if not isinstance(module_name, str) or not all(map(str.isidentifier, module_name.split("."))):
                raise LookupError(f"module: expected the name of a Python module, got {module_name!r}")
            try:
                module = importlib.import_module(module_name)
            except (ImportError, SyntaxError) as error:
                raise LookupError(f"module: cannot import {module_name!r}: {error}") from error
            except (Exception, SystemExit) as error:  # whatever its code does
                reason = " ".join(f"{type(error).__name__}: {error}".split())
                raise LookupError(f"module: importing {module_name!r} failed: {reason}") from error
            factory: Callable[..., T] | None = getattr(module, name, None)
            if not callable(factory):
                raise LookupError(f"type: module {module_name!r} has no class or function {name!r}")
            return factory
        self._import_parts()
        if name in self._factories:
            return self._factories[name]
        classes = self._library_classes()
        if name in classes:
            return classes[name]
        missing = f"; {self._library_error}" if self._library_error else ""
        raise LookupError(f"type: unknown {self.kind} {name!r}{nearest(name, self.names())}{missing}")

    def _import_parts(self) -> None:
        for part in self._parts:
            importlib.import_module(f"hw_asr.{part}")

    def _library_classes(self) -> dict[str, Callable[..., T]]:
        """Return the public classes of the library by name; none if it cannot be imported."""
        if self.library is None:
            return {}
        try:
            module = importlib.import_module(self.library)
        except (ImportError, OSError) as error:  # OSError: its binaries were built for another torch
            package = self.library.partition(".")[0]
            self._library_error = (
                f"cannot import {self.library}, which has more: {error}; pip install 'hw_asr[{package}]'"
            )
            return {}
        return {
            name: value
            for name, value in vars(module).items()
            if isinstance(value, type) and not name.startswith("_") and value.__module__.startswith(self.library)
        }


MODELS: Registry[nn.Module] = Registry("arch", "models", "pretrained")
"""Modules that implement the protocol `types.AcousticModel`."""
DATASETS: Registry[Corpus] = Registry("dataset", "datasets")
SAMPLERS: Registry[EpochSampler] = Registry("batch sampler", "datasets")
WAVE_AUGMENTATIONS: Registry[WaveAugmentation] = Registry("wave augmentation", "augmentations")
SPECTROGRAM_AUGMENTATIONS: Registry[SpectrogramAugmentation] = Registry("spectrogram augmentation", "augmentations")
SPECTROGRAMS: Registry[nn.Module] = Registry(
    "spectrogram", "spectrograms", "pretrained", library="torchaudio.transforms"
)
TEXT_ENCODERS: Registry[TextEncoder] = Registry("text encoder", "text", "lm")
DECODERS: Registry[CTCDecoder] = Registry("decoder", "decoders")
LOSSES: Registry[nn.Module] = Registry("loss", "loss")
METRICS: Registry[Metric] = Registry("metric", "metrics")
OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", library="torch.optim")
SCHEDULERS: Registry[LRScheduler] = Registry("lr scheduler", library="torch.optim.lr_scheduler")
WRITERS: Registry[Writer] = Registry("writer", "writers")
STORAGES: Registry[ExternalStorage] = Registry("external storage", "storage")
