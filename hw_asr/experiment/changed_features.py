"""Whether weights were trained on other features than those of a config."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from hw_asr.config import Preprocessing
from hw_asr.config.arguments import check_value, convert
from hw_asr.config.registry import SPECTROGRAMS


def changed_features(before: object, now: object) -> list[str]:
    """Return the paths at which the features of two raw configs differ; none where one of them has no valid section.

    Arguments that are left out count as their defaults. Imports no module that a config names.
    """
    old, new = _preprocessing(before), _preprocessing(now)
    if old is None or new is None:
        return []
    names = ("sr", "log_spec", "normalize")
    changed = [f"preprocessing.{name}" for name in names if getattr(old, name) != getattr(new, name)]
    path, both = "preprocessing.spectrogram", (old.spectrogram, new.spectrogram)
    changed += [f"{path}.{key}" for key in ("type", "module") if both[0].get(key) != both[1].get(key)]
    try:
        factory = None if "module" in new.spectrogram else SPECTROGRAMS.find(new.spectrogram)
    except LookupError:
        factory = None
    parameters = inspect.signature(factory).parameters if factory is not None else {}
    defaults = {name: parameter.default for name, parameter in parameters.items()}
    first, second = ({**defaults, **spec.get("args", {})} for spec in both)
    return changed + [f"{path}.args.{name}" for name in {**first, **second} if first.get(name) != second.get(name)]


def _preprocessing(raw: object) -> Preprocessing | None:
    section = raw.get("preprocessing", {}) if isinstance(raw, Mapping) else None
    if section is None or check_value(Preprocessing, section, ""):
        return None
    result: Preprocessing = convert(Preprocessing, section)
    spec = result.spectrogram
    return result if isinstance(spec.get("type"), str) and isinstance(spec.get("args", {}), Mapping) else None
