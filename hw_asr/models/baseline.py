"""The simplest acoustic model: a perceptron that looks at one frame at a time."""

from __future__ import annotations

from torch import Tensor, nn

from hw_asr.config.registry import MODELS


@MODELS.register()
class BaselineModel(nn.Module):
    """Two hidden layers over each frame by itself, so neither padding nor other frames affect the result.

    Args:
        n_feats: features of a frame.
        n_class: output classes, the blank included.
        fc_hidden: size of the hidden layers.
    """

    def __init__(self, n_feats: int, n_class: int, fc_hidden: int = 512) -> None:
        super().__init__()
        for name, value in (("n_feats", n_feats), ("n_class", n_class), ("fc_hidden", fc_hidden)):
            if value < 1:
                raise ValueError(f"{name}: expected a positive integer, got {value}")
        self.net = nn.Sequential(
            nn.Linear(n_feats, fc_hidden),
            nn.ReLU(),
            nn.Linear(fc_hidden, fc_hidden),
            nn.ReLU(),
            nn.Linear(fc_hidden, n_class),
        )

    def forward(self, spectrogram: Tensor, lengths: Tensor) -> Tensor:
        """Map (B, n_feats, T) features to logits (B, T, n_class)."""
        logits: Tensor = self.net(spectrogram.transpose(1, 2))
        return logits

    def transform_input_lengths(self, lengths: Tensor) -> Tensor:
        """Return `lengths`: there is one output frame per input frame."""
        return lengths
