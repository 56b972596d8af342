"""The parts of DeepSpeech 2 as written in a config; a scalar applies to every layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class ConvSpec(NamedTuple):
    """One convolution over (frequency, time)."""

    channels: int
    kernel: tuple[int, int]
    stride: tuple[int, int]


@dataclass(frozen=True)
class CNNConfig:
    """Convolutions over [frequency, time]; each value is one for all layers or a list with one per layer.

    Args:
        output_channels: channels of each layer.
        filters: kernel sizes; odd, so that a frame's output is centred on it.
        stride: hops.
    """

    output_channels: int | list[int]
    filters: tuple[int, int] | list[tuple[int, int]]
    stride: tuple[int, int] | list[tuple[int, int]] = (1, 1)

    def layers(self) -> list[ConvSpec]:
        """Return one entry per layer; raises ValueError for invalid values."""
        values: dict[str, object] = {
            "output_channels": self.output_channels,
            "filters": self.filters,
            "stride": self.stride,
        }
        lists = _broadcast("cnn_config", values)
        specs = [ConvSpec(*layer) for layer in zip(*lists.values(), strict=True)]
        for channels, kernel, stride in specs:
            if channels < 1:
                raise ValueError(f"cnn_config.output_channels: expected positive integers, got {channels}")
            if any(size < 1 or size % 2 == 0 for size in kernel):
                raise ValueError(f"cnn_config.filters: expected odd sizes [frequency, time], got {list(kernel)}")
            if any(hop < 1 for hop in stride):
                raise ValueError(f"cnn_config.stride: expected positive integers, got {list(stride)}")
        return specs


@dataclass(frozen=True)
class GRUConfig:
    """The recurrent layers.

    Args:
        hidden_dims: hidden units of each layer, per direction: one value for all or a list.
        num_of_layers: how many; may be omitted if `hidden_dims` is a list.
        bidirectional: whether each layer also runs from the end.
        use_batch_norm: whether each layer's output is batch-normalised.
        dropout: probability of zeroing an activation between two recurrent layers.
    """

    hidden_dims: int | list[int]
    num_of_layers: int | None = None
    bidirectional: bool = False
    use_batch_norm: bool = True
    dropout: float = 0.0

    def layers(self) -> list[int]:
        """Return the hidden units of each layer; raises ValueError for invalid values."""
        dims = (
            self.hidden_dims if isinstance(self.hidden_dims, list) else [self.hidden_dims] * (self.num_of_layers or 1)
        )
        if self.num_of_layers is not None and self.num_of_layers < 1:
            raise ValueError(f"gru_config.num_of_layers: expected a positive integer, got {self.num_of_layers}")
        if self.num_of_layers not in (None, len(dims)):
            raise ValueError(
                f"gru_config.hidden_dims: expected {self.num_of_layers} entries, one per layer, got {len(dims)}"
            )
        if not dims or min(dims) < 1:
            raise ValueError(f"gru_config.hidden_dims: expected positive integers, got {self.hidden_dims}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"gru_config.dropout: expected a probability in [0, 1), got {self.dropout}")
        return dims


@dataclass(frozen=True)
class LookaheadConfig:
    """The lookahead convolution, for networks that run in one direction.

    Args:
        future_time: frames that an output sees: its own and the `future_time - 1` after it.
    """

    future_time: int


def _broadcast(path: str, values: dict[str, object]) -> dict[str, list[object]]:
    """Make a list of one entry per layer from each value; the lists determine the number of layers."""
    given = {name: len(value) for name, value in values.items() if isinstance(value, list)}
    num_layers = max(given.values(), default=1)
    for name, length in given.items():
        if length != num_layers or length == 0:
            raise ValueError(f"{path}.{name}: expected {max(1, num_layers)} entries, one per layer, got {length}")
    return {name: value if isinstance(value, list) else [value] * num_layers for name, value in values.items()}
