"""The exponential moving average of the weights."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from hw_asr.checkpoints.reading import CheckpointError
from hw_asr.checkpoints.weights import load_weights


class WeightAverage:
    """Follows `model` with `decay` per step (Polyak and Juditsky 1992), buffers included; with none it is `model`.

    `evaluated` is the network that is evaluated and whose weights a checkpoint carries as `state_dict`.
    """

    def __init__(self, model: nn.Module, decay: float | None) -> None:
        self._model = model
        self._average = None
        if decay is not None:
            follow = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
            self._average = AveragedModel(model, multi_avg_fn=follow, use_buffers=True)
            for module in self._average.modules():
                if isinstance(module, nn.RNNBase):
                    module.flatten_parameters()  # cuDNN reads them from one block, which a copied layer has lost

    @property
    def evaluated(self) -> nn.Module:
        """The average, or the model itself."""
        module: nn.Module = self._model if self._average is None else self._average.module
        return module

    def update(self) -> None:
        """Take the model's weights of this step in."""
        if self._average is not None:
            self._average.update_parameters(self._model)

    def state_dict(self) -> dict[str, Any]:
        """Return the evaluated weights and, where they are an average, the ones that are trained."""
        if self._average is None:
            return {"state_dict": self._model.state_dict(), "training_state_dict": None, "ema_updates": None}
        return {
            "state_dict": self._average.module.state_dict(),
            "training_state_dict": self._model.state_dict(),
            "ema_updates": self._average.n_averaged,
        }

    def load_state_dict(self, state: Mapping[str, Any], source: Path) -> None:
        """Take over both sets of weights. Raises CheckpointError when they do not fit."""
        load_weights(self._model, state.get("training_state_dict") or state["state_dict"], source)
        if self._average is None:
            return
        if state.get("ema_updates") is None:
            raise CheckpointError(f"{source}: it holds no average of the weights; remove trainer.ema_decay")
        load_weights(self._average.module, state["state_dict"], source)
        self._average.n_averaged.copy_(state["ema_updates"])
