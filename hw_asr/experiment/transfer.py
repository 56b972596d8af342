"""Initial weights of a new run from a checkpoint, whose alphabet or parts may differ: `train.py -c CONFIG -r CKPT`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.checkpoints.tensors import check_tensors
from hw_asr.checkpoints.weights import belongs_to, check_finite, check_parts
from hw_asr.config import ConfigError, ExperimentConfig
from hw_asr.experiment import components
from hw_asr.experiment.changed_features import changed_features
from hw_asr.experiment.network import Network
from hw_asr.text.encoder import BLANK, CTCCharTextEncoder

logger = logging.getLogger(__name__)
_MAX_SHOWN = 50


class Weights(NamedTuple):
    """Initial weights of a new run, the file they come from, and the alphabet they were trained with if it is known."""

    state_dict: Mapping[str, object]
    source: Path
    alphabet: Sequence[str] | None = None
    config: object = None
    """The raw config they were trained with."""


def read_weights(path: Path) -> Weights:
    """Read the weights of a checkpoint; raises CheckpointError."""
    state = load_checkpoint(path)
    return Weights(state["state_dict"], path, _alphabet_of(state, path), state.get("config"))


def load_initial_weights(config: ExperimentConfig, network: Network, weights: Weights) -> str:
    """Load a checkpoint's weights into the model and return one line about what was carried, started and dropped.

    Outputs (and inputs) per class are carried over by character; classes that the checkpoint lacks keep the weights of
    the new model, and so does everything in `trainer.transfer.allow`. Raises CheckpointError listing every other
    difference, and ConfigError for a part in `allow` that neither side has.
    """
    allow = config.trainer.transfer.allow
    own: dict[str, Tensor] = network.model.state_dict()
    tensors = check_tensors(weights.state_dict, weights.source)
    saved = {name.removeprefix("module."): value for name, value in tensors.items()}
    faults = check_parts(allow, [*own, *saved], "trainer.transfer.allow")
    if faults:
        raise ConfigError(faults, str(weights.source))
    classes = _Classes(weights.alphabet, network.text_encoder.alphabet, _class_axes(config, network))
    values, differences = _carried(saved, {name: own[name] for name in own if not belongs_to(name, allow)}, classes)
    differences += [f"the model has no {name}" for name in saved if name not in own and not belongs_to(name, allow)]
    if not classes.axes and classes.differ() and not allow:
        differences.append("the alphabets differ, and no weight of the model depends on `n_class`")
    if differences:
        raise CheckpointError(_refusal(weights, classes, differences))
    check_finite(values, weights.source)
    network.model.load_state_dict({**own, **values})
    changed = changed_features(weights.config, config.raw)
    if changed:
        logger.warning("%s was trained on other features; these keys differ: %s", weights.source, ", ".join(changed))
    parts = [f"{part} ({sum(belongs_to(name, [part]) for name in own)} tensors)" for part in allow]
    dropped = [name for name in saved if name not in own]
    return "; ".join(
        [
            f"{len(values)} of {len(own)} tensors carried over from {weights.source}",
            classes.summary(),
            *([f"newly initialised: {', '.join(parts)}"] if parts else []),
            *([f"dropped: {len(dropped)} tensors that the model does not have"] if dropped else []),
        ]
    )


def _carried(
    saved: Mapping[str, Tensor], wanted: Mapping[str, Tensor], classes: _Classes
) -> tuple[dict[str, Tensor], list[str]]:
    """Return the values of a checkpoint for the tensors of a model, and a message for each one that does not fit."""
    values, differences = {}, []
    for name, target in wanted.items():
        if name not in saved:
            differences.append(f"the checkpoint lacks {name}")
        elif classes.fit(name, saved[name], target):
            values[name] = classes.carried(name, saved[name], target)
        elif saved[name].shape == target.shape and name not in classes.axes:
            values[name] = saved[name]
        else:
            differences.append(classes.difference(name, saved[name], target))
    return values, differences


class _Classes:
    """The classes of a checkpoint, `old`, and of a new model, `new`; `axes` gives the class axis of tensors."""

    def __init__(self, old: Sequence[str] | None, new: Sequence[str], axes: Mapping[str, int]) -> None:
        self._old, self._new, self.axes = old, new, axes
        # The blank is the first class under any name. Of a repeated character the first one counts.
        before = {character: index for index, character in reversed(list(enumerate(old or new)))}
        pairs = [(before[character], index) for index, character in enumerate(new) if index and character in before]
        self._pairs = [(BLANK, BLANK), *[(source, index) for source, index in pairs if source != BLANK]]

    def differ(self) -> bool:
        """Whether the alphabets are known to differ, the order included."""
        return self._old is not None and list(self._old[1:]) != list(self._new[1:])

    def fit(self, name: str, value: Tensor, target: Tensor) -> bool:
        """Whether a tensor depends on the classes, and has those of the checkpoint's alphabet where `target` has ours.

        Without an alphabet in the checkpoint, the classes are taken to be ours.
        """
        axis = self.axes.get(name)
        if axis is None or value.dim() != target.dim():
            return False
        expected = list(target.shape)
        expected[axis] = len(self._old or self._new)
        return list(value.shape) == expected

    def carried(self, name: str, value: Tensor, target: Tensor) -> Tensor:
        """Return `target` with the rows of `value` for the characters that both alphabets have."""
        axis = self.axes[name]
        sources, indices = (torch.tensor(indices) for indices in zip(*self._pairs, strict=True))
        rows = value.index_select(axis, sources).to(target)
        return target.clone().index_copy_(axis, indices.to(target.device), rows)

    def difference(self, name: str, value: Tensor, target: Tensor) -> str:
        """Describe a tensor that does not fit."""
        if value.shape == target.shape:
            return (
                f"{name} has {value.shape[self.axes[name]]} classes, the checkpoint's alphabet {len(self._old or ())}"
            )
        return f"{name} is {list(value.shape)} in the checkpoint and {list(target.shape)} in the model"

    def summary(self) -> str:
        """Return what happens to the characters."""
        if self._old is None:
            return "the checkpoint does not contain its alphabet, classes carried over by position"
        old, new = self._old[1:], self._new[1:]
        kept = len(self._pairs) - 1
        parts = [f"{kept} of {len(new)} characters carried over"]
        parts += [f"new: {_shown([character for character in new if character not in old])}"] * (kept < len(new))
        lost = [character for character in old if character not in new]
        return ", ".join([*parts, *([f"dropped: {_shown(lost)}"] if lost else [])])


def _class_axes(config: ExperimentConfig, network: Network) -> dict[str, int]:
    """Return the class axis of each tensor that has one: the axis that grows when the model gets one more class."""
    num_classes = len(network.text_encoder.alphabet)
    args = {name: value for name, value in config.arch.get("args", {}).items() if name != "n_class"}
    larger = replace(config, arch={**config.arch, "args": args})
    with torch.device("meta"):
        grown = components.build_model(larger, network.front_end.n_feats, num_classes + 1).state_dict()
    axes = {}
    for name, value in network.model.state_dict().items():
        other = grown[name].shape if name in grown else value.shape
        changed = [axis for axis, (size, more) in enumerate(zip(value.shape, other, strict=True)) if size != more]
        if len(changed) == 1 and value.shape[changed[0]] == num_classes:
            axes[name] = changed[0]
    return axes


def _alphabet_of(state: Mapping[str, Any], source: Path) -> tuple[str, ...] | None:
    """Return the alphabet of a checkpoint, blank first; from its config where it is a published one.

    None if neither says it. Raises CheckpointError for an alphabet that is not a list of strings.
    """
    alphabet = state.get("alphabet")
    if alphabet is not None:
        if not isinstance(alphabet, (list, tuple)) or not all(isinstance(character, str) for character in alphabet):
            raise CheckpointError(f"{source}: its alphabet is not a list of strings")
        return tuple(alphabet)
    config = state.get("config")
    if not isinstance(config, Mapping):
        return None
    spec = config.get("text_encoder", {})
    args = spec.get("args", {}) if isinstance(spec, Mapping) else None
    if not isinstance(args, Mapping) or spec.get("module") is not None:
        return None
    try:
        return CTCCharTextEncoder(args.get("alphabet")).alphabet
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{source}: the alphabet in its config is not valid: {error}") from error


def _refusal(weights: Weights, classes: _Classes, differences: Sequence[str]) -> str:
    unknown = "; the checkpoint does not contain its alphabet" if weights.alphabet is None and classes.axes else ""
    return "\n  ".join(
        [
            f"{weights.source}: its weights do not fit the model of the config{unknown}; undo the differences, or name "
            "the modules that may start with new weights in trainer.transfer.allow:",
            *differences,
        ]
    )


def _shown(characters: Sequence[str]) -> str:
    more = f" and {len(characters) - _MAX_SHOWN} more" if len(characters) > _MAX_SHOWN else ""
    return " ".join(repr(character[:10]) for character in characters[:_MAX_SHOWN]) + more
