"""The config of a checkpoint: found, combined with overlay and assignments, checked for permissions, validated."""

from __future__ import annotations

import copy
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hw_asr.config import ConfigError, ExperimentConfig, RawConfig, overlay, override, read_json
from hw_asr.config.size import check_size
from hw_asr.experiment import components
from hw_asr.experiment.config_effects import FILES, LIMIT, Effect, dotted, effects
from hw_asr.experiment.config_permissions import Named, not_allowed, refusal
from hw_asr.experiment.validation import for_recognition, validate, without_network
from hw_asr.storage.runs import Run

logger = logging.getLogger(__name__)
_NO_DATA = [{"type": "CustomAudioDataset", "args": {"data": []}}]
"""Replaces the datasets of a split that the command does not read."""


EXPORTED = "exported"
"""The entry of an exported model in the state that `recognition.loading.read_checkpoint` returns."""


class CheckpointConfig(NamedTuple):
    """A validated config, the file or files it comes from, and what it does beyond computing, all of it allowed."""

    config: ExperimentConfig
    source: str
    effects: list[Effect]


class _Read(NamedTuple):
    """A config as it was read, its source, and the top-level sections that the user's overlay replaced."""

    raw: dict[str, object]
    source: str
    overlaid: frozenset[str] = frozenset()


def for_training(checkpoint: Path, named: Named, state: Mapping[str, object] | None = None) -> CheckpointConfig:
    """Return the config to continue a run with. `state` is the loaded checkpoint, if the caller has it.

    Raises ConfigError with every fault; an effect that is not allowed is one.
    """
    read = _read(checkpoint, named, state)
    refused = not_allowed(read.raw, named, read.overlaid, _directory(checkpoint))
    if refused:
        raise ConfigError([refusal(effect) for effect in refused], read.source)
    return CheckpointConfig(validate(read.raw, read.source), read.source, effects(read.raw))


def for_evaluation(
    checkpoint: Path,
    named: Named,
    reads_split: Callable[[str], bool],
    state: Mapping[str, object] | None = None,
) -> CheckpointConfig:
    """Return the config to run a checkpoint's model with; `reads_split` tells which splits' data the command reads.

    Sections that only training uses and data that is not read are left out. If `state` is that of an exported model,
    the config is the one in it, without features and model. Of what is left, a language model and the source of initial
    weights are left out with a warning if they are not allowed. Raises ConfigError with every other fault.
    """
    exported = state is not None and EXPORTED in state
    read = _read(checkpoint, named, state, exported)
    raw, source = _without_unread_data(for_recognition(read.raw), reads_split), read.source
    raw = without_network(raw) if exported else raw
    refused = not_allowed(raw, named, read.overlaid, _directory(checkpoint))
    dispensable = [effect for effect in refused if _is_dispensable(raw, effect)]
    faults = [refusal(effect) for effect in refused if effect not in dispensable]
    if faults:
        raise ConfigError(faults, source)
    raw = _without(raw, dispensable)
    config = validate(raw, source, training=False, network=not exported)
    _check_alphabet(config, (state or {}).get("alphabet"), source)
    return CheckpointConfig(config, source, effects(raw))


def _read(checkpoint: Path, named: Named, state: Mapping[str, object] | None, only_embedded: bool = False) -> _Read:
    """Return the config beside the checkpoint, or else the one inside, with overlay and assignments applied."""
    path = Run.of_checkpoint(checkpoint).config_path
    if path.is_file() and not only_embedded:
        raw, source = read_json(path), str(path)
    else:
        embedded = (_load(checkpoint) if state is None else state).get("config")
        if not isinstance(embedded, Mapping):
            raise ConfigError([f"{path}: no such file, and the checkpoint contains no config; name one with -c"])
        raw, source = _as_json(embedded, checkpoint), f"config in {checkpoint}"
    overlaid: Mapping[str, object] = {}
    if named.overlay is not None:
        overlaid = read_json(named.overlay)
        raw, source = overlay(raw, overlaid), f"{source} with {named.overlay}"
    check_size(raw, source)
    return _Read(override(raw, named.assignments), source, frozenset(overlaid))


def _directory(checkpoint: Path) -> Path:
    return Run.of_checkpoint(checkpoint).model_dir


def _load(checkpoint: Path) -> dict[str, Any]:
    from hw_asr.checkpoints.reading import load_checkpoint  # imports torch, which exported models do not need

    return load_checkpoint(checkpoint)


def _as_json(embedded: Mapping[str, object], checkpoint: Path) -> dict[str, object]:
    try:
        raw: dict[str, object] = json.loads(json.dumps(embedded))
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError([f"the config in {checkpoint} is not JSON: {error}"]) from error
    return raw


def _without_unread_data(raw: dict[str, object], reads_split: Callable[[str], bool]) -> dict[str, object]:
    """Replace the datasets of splits that are not read, and the root of all data if none is."""
    data = raw.get("data")
    if not isinstance(data, Mapping):
        return raw
    cores = os.cpu_count() or 1
    kept: dict[str, object] = {}
    for name, split in data.items():
        if name == "root_dir":
            continue
        if isinstance(split, Mapping) and not reads_split(name):
            size, workers = split.get("batch_size"), split.get("num_workers")
            split = {
                "batch_size": size if isinstance(size, int) and size > 0 else 8,
                "num_workers": min(workers, cores) if isinstance(workers, int) and workers > 0 else 0,
                "datasets": _NO_DATA,
            }
        kept[name] = split
    if "root_dir" in data and any(map(reads_split, kept)):
        kept["root_dir"] = data["root_dir"]
    return {**raw, "data": kept}


def _is_dispensable(raw: RawConfig, effect: Effect) -> bool:
    """Whether a checkpoint's model runs without an effect: a language model, initial weights, a raised limit."""
    if effect.kind == LIMIT:
        return True
    if effect.kind != FILES:
        return False
    if effect.path.startswith("decoders["):
        return True
    section, _, _ = effect.path.partition(".args.")
    return section in ("arch", "text_encoder") and raw[section].get("module") is None


def _without(raw: dict[str, Any], refused: Sequence[Effect]) -> dict[str, object]:
    """Remove dispensable effects: decoders with a language model, arguments of text encoder and model, limits."""
    result = copy.deepcopy(raw)
    dropped = set()
    for effect in refused:
        logger.warning("%s: from the checkpoint's config, not used; name it with -c, or add --trust-config", effect)
        section, name = dotted(effect.path).split(".")[0], effect.path.rpartition(".")[2]
        if effect.kind == LIMIT:
            del result[section][name]
        elif section == "decoders":
            dropped.add(int(dotted(effect.path).split(".")[1]))
        else:
            del result[section]["args"][name]
        if section == "text_encoder" and name == "model":  # the default of this encoder would be downloaded
            alphabet = {key: value for key, value in result[section]["args"].items() if key == "alphabet"}
            result[section] = {"type": "CTCCharTextEncoder", "args": alphabet}
            specs_left = enumerate(result.get("decoders") or [])
            dropped |= {index for index, spec in specs_left if "language_model" not in spec.get("args", {})
                        and spec.get("type") == "lm_beam_search"}  # fmt: skip
    if dropped:
        kept = [spec for index, spec in enumerate(result["decoders"]) if index not in dropped]
        result["decoders"] = kept or [{"type": "argmax"}]
    return result


def _check_alphabet(config: ExperimentConfig, alphabet: object, source: str) -> None:
    """Raise ConfigError when the text encoder of the config is not the one the checkpoint was trained with."""
    if alphabet is None:
        return
    own = list(components.build_text_encoder(config).alphabet)
    if not isinstance(alphabet, (list, tuple)) or own != list(alphabet):
        shown = "".join(map(str, alphabet)) if isinstance(alphabet, (list, tuple)) else repr(alphabet)
        fault = f"text_encoder: its alphabet {''.join(own)!r} differs from the checkpoint's {shown[:200]!r}"
        raise ConfigError([fault], source)
