"""The forward pass that training, evaluation and recognition share: batches to log-probabilities, at a precision."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from hw_asr.batch import Batch
from hw_asr.features import FrontEnd

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def autocast(device: torch.device, precision: str) -> AbstractContextManager[None]:
    """Return the context for a precision of the config."""
    context: AbstractContextManager[None] = torch.autocast(
        device.type, dtype=PRECISIONS[precision], enabled=precision != "fp32"
    )
    return context


def run_model(model: nn.Module, features: Tensor, lengths: Tensor, precision: str) -> tuple[Tensor, Tensor]:
    """Map features (B, F, T) and lengths (B,), on the CPU, to float32 log-probabilities (B, T', V) and lengths (B,)."""
    with autocast(features.device, precision):
        logits = model(features, lengths)
    return logits.float().log_softmax(dim=-1), model.transform_input_lengths(lengths)  # type: ignore[operator]


class LayerLogProbs(NamedTuple):
    """Log-probabilities (B, T', V) of the output layer and of inner layers with a CTC head, and their lengths (B,)."""

    log_probs: Tensor
    lengths: Tensor
    intermediate: list[Tensor]


def run_all_layers(model: nn.Module, features: Tensor, lengths: Tensor, precision: str) -> LayerLogProbs:
    """As `run_model`, with the intermediate layers of a model that has some (see `IntermediateModel`)."""
    if not getattr(model, "intermediate_layers", ()):
        return LayerLogProbs(*run_model(model, features, lengths, precision), [])
    with autocast(features.device, precision):
        logits, inner = model.forward_all(features, lengths)  # type: ignore[operator]
    output_lengths = model.transform_input_lengths(lengths)  # type: ignore[operator]
    inner = [layer.float().log_softmax(dim=-1) for layer in inner]
    return LayerLogProbs(logits.float().log_softmax(dim=-1), output_lengths, inner)


class Emissions(NamedTuple):
    """A batch, on the model's device, and its log-probabilities (B, T, V) with their lengths (B,), on the CPU."""

    batch: Batch
    log_probs: Tensor
    lengths: Tensor


@torch.inference_mode()
def emissions(
    model: nn.Module,
    front_end: FrontEnd,
    batches: Iterable[Batch],
    device: torch.device,
    precision: str = "fp32",
) -> Iterator[Emissions]:
    """Yield the log-probabilities of each batch; those of a batch that holds only failures have no rows."""
    model.eval()
    for batch in batches:
        on_device = batch.to(device)
        if len(batch) == 0:
            yield Emissions(on_device, torch.zeros(0, 0, 0), torch.zeros(0, dtype=torch.int64))
            continue
        features, lengths = front_end(on_device.samples, on_device.sample_lengths)
        yield Emissions(on_device, *run_model(model, features, lengths, precision))
