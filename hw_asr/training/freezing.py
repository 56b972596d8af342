"""Parts of a model that are not trained, during the first epochs or the whole run."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from hw_asr.checkpoints.weights import belongs_to

logger = logging.getLogger(__name__)


class Freezing:
    """Turns the training of parts of a model off and on; whether they are frozen follows from the epoch alone.

    Frozen parameters require no gradient, so optimisers skip them: no update, no weight decay, no momentum. Batch
    normalisation inside a frozen part uses its running statistics and leaves them as they are.

    Args:
        model: what its own constructor has excluded from training stays excluded.
        parts: beginnings of the names of parameters, up to a dot.
        num_epochs: how many epochs they are frozen, from the first; None: all.
    """

    def __init__(self, model: nn.Module, parts: Sequence[str], num_epochs: int | None) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self._model, self._parts, self._num_epochs = model, parts, num_epochs
        self._parameters = [parameter for name, parameter in named if belongs_to(name, parts)]
        self._norms = [
            module
            for name, module in model.named_modules()
            if isinstance(module, _BatchNorm) and belongs_to(name, parts)
        ]
        self._frozen = False
        if parts:
            self._set(frozen=True)

    def begin_epoch(self, epoch: int) -> None:
        """Freeze or unfreeze for an epoch, from 1."""
        frozen = bool(self._parts) and (self._num_epochs is None or epoch <= self._num_epochs)
        if frozen != self._frozen:
            self._set(frozen=frozen)
            logger.info("epoch %d: %s %s", epoch, ", ".join(self._parts), "frozen" if frozen else "trained as well")

    def set_train_mode(self) -> None:
        """Put the model into training mode, its frozen batch normalisation into evaluation mode."""
        self._model.train()
        for norm in self._norms if self._frozen else ():
            norm.eval()

    def describe(self) -> str:
        """Return what is frozen, for people; empty when nothing is."""
        if not self._frozen:
            return ""
        size = sum(parameter.numel() for parameter in self._parameters)
        total = sum(parameter.numel() for parameter in self._model.parameters())
        until = "" if self._num_epochs is None else f" until the end of epoch {self._num_epochs}"
        return f"{', '.join(self._parts)}{until}: {size:,} of {total:,} parameters"

    def _set(self, *, frozen: bool) -> None:
        self._frozen = frozen
        for parameter in self._parameters:
            parameter.requires_grad_(not frozen)
