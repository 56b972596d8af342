"""The exponential moving average of the weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hw_asr.checkpoints.reading import CheckpointError
from hw_asr.checkpoints.weights import load_weights


class WeightAverage:
    """Follows `model` with `decay` per step (Polyak and Juditsky 1992), buffers included; without decay it is `model`.

    `evaluated` is the network that is evaluated and whose weights a checkpoint stores as `state_dict`.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._model = model
        self._decay = decay
        self._average = None if decay is None else copy.deepcopy(model)
        self._updates = torch.tensor(0)
        for module in self._average.modules() if self._average is not None else ():
            if isinstance(module, nn.RNNBase):
                module.flatten_parameters()  # cuDNN reads them from one block; copying has separated them

    @property
    def evaluated(self) -> nn.Module:
        """The average, or the model itself."""
        return self._model if self._average is None else self._average

    @torch.no_grad()
    def update(self) -> None:
        """Add the model's current weights to the average; the first ones replace what is there."""
        if self._average is None or self._decay is None:
            return
        pairs = list(zip(_tensors(self._average), _tensors(self._model), strict=True))
        floating = [pair for pair in pairs if pair[0].is_floating_point()]
        if self._updates == 0:
            for average, current in pairs:
                average.copy_(current)
        else:
            torch._foreach_lerp_([a for a, _ in floating], [c for _, c in floating], 1 - self._decay)
            for average, current in pairs:
                if not average.is_floating_point():  # counters
                    average.copy_(average + (current - average) * (1 - self._decay))  # exact where both are equal
        self._updates += 1

    def state_dict(self) -> dict[str, object]:
        """Return the evaluated weights and, if they are an average, also the trained ones."""
        if self._average is None:
            return {"state_dict": self._model.state_dict(), "training_state_dict": None, "ema_updates": None}
        return {
            "state_dict": self._average.state_dict(),
            "training_state_dict": self._model.state_dict(),
            "ema_updates": self._updates,
        }

    def load_state_dict(self, state: Mapping[str, Any], source: Path) -> None:
        """Restore both sets of weights. Raises CheckpointError if they do not fit."""
        load_weights(self._model, state.get("training_state_dict") or state["state_dict"], source)
        if self._average is None:
            return
        if state.get("ema_updates") is None:
            raise CheckpointError(f"{source}: it contains no average of the weights; remove trainer.ema_decay")
        load_weights(self._average, state["state_dict"], source)
        self._updates.copy_(state["ema_updates"])


def _tensors(model: nn.Module) -> Iterator[Tensor]:
    yield from (parameter.detach() for parameter in model.parameters())
    yield from model.buffers()
