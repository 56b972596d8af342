"""CTC heads on inner layers: intermediate CTC (arXiv:2102.03216), optionally self-conditioned (arXiv:2104.02724)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn


class IntermediateHeads(nn.Module):
    """A linear layer to the classes on some layers of an encoder.

    Args:
        layers: numbers of the layers with a head; the first layer is 1, the last one has the model's own output layer.
        sizes: output size of every layer.
        n_class: output classes, the blank included.
        self_conditioning: add a projection of each head's class probabilities to what the next layer reads.

    Raises ValueError for a number that is not an inner layer.
    """

    def __init__(self, layers: Sequence[int], sizes: Sequence[int], n_class: int, self_conditioning: bool) -> None:
        super().__init__()
        for layer in layers:
            if not 1 <= layer < len(sizes):
                raise ValueError(
                    f"intermediate_layers: expected numbers from 1 to {len(sizes) - 1}, the layers before the last, "
                    f"got {layer}"
                )
        if len(set(layers)) < len(layers):
            raise ValueError(f"intermediate_layers: expected each layer once, got {list(layers)}")
        if self_conditioning and not layers:
            raise ValueError("self_conditioning: needs at least one layer in intermediate_layers")
        self.heads = nn.ModuleDict({str(layer): nn.Linear(sizes[layer - 1], n_class) for layer in layers})
        self.feedback = nn.ModuleDict(
            {str(layer): nn.Linear(n_class, sizes[layer - 1]) for layer in layers if self_conditioning}
        )

    def forward(self, layer: int, rows: Tensor, collected: list[Tensor] | None) -> Tensor:
        """Return what the layer after `layer` reads, (N, size) as `rows`.

        The head's logits (N, n_class) are appended to `collected`. Without `collected`, a head is only computed where
        self-conditioning needs it.
        """
        key = str(layer)
        if key not in self.heads or (collected is None and key not in self.feedback):
            return rows
        logits: Tensor = self.heads[key](rows)
        if collected is not None:
            collected.append(logits)
        if key in self.feedback:
            rows = rows + self.feedback[key](logits.softmax(dim=-1))
        return rows
