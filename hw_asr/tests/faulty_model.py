"""A model for tests, named by `module` in a config, that fails in training at given steps."""

from __future__ import annotations

from unittest import mock

import torch
from torch import Tensor

from hw_asr.errors import UserError
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.deepspeech2_config import CNNConfig, GRUConfig

OUT_OF_MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class FaultyModel(DeepSpeech2):
    """A small DeepSpeech2 of which some forward passes in training, numbered from 0, fail; with `rank`, only there."""

    def __init__(
        self,
        n_feats: int,
        n_class: int,
        out_of_memory: list[int] | None = None,
        not_finite: list[int] | None = None,
        error: list[int] | None = None,
        rank: int | None = None,
    ) -> None:
        convolution = CNNConfig(output_channels=4, filters=(5, 5), stride=(2, 2))
        super().__init__(n_feats, n_class, convolution, GRUConfig(hidden_dims=[12, 12], bidirectional=True))
        self._faults = {"out of memory": out_of_memory or [], "not finite": not_finite or [], "error": error or []}
        self._rank = rank
        self._call = -1

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> Tensor:
        """Do what DeepSpeech2 does, or fail half-way."""
        if not self.training:
            return super().forward(spectrogram, lengths)
        self._call += 1
        here = self._rank is None or torch.distributed.get_rank() == self._rank
        faults = {name for name, calls in self._faults.items() if here and self._call in calls}
        if "error" in faults:
            raise UserError("this model is configured to fail")
        if "not finite" in faults:
            spectrogram = spectrogram * float("nan")
        if "out of memory" in faults:
            with mock.patch.object(self.gru_block, "forward", side_effect=OUT_OF_MEMORY):
                return super().forward(spectrogram, lengths)
        return super().forward(spectrogram, lengths)
