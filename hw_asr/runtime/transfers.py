"""Copies to an accelerator that do not make the CPU wait for it."""

from __future__ import annotations

import torch
from torch import Tensor


def send(tensor: Tensor, device: torch.device) -> Tensor:
    """Return a copy on `device` of a small tensor on the CPU.

    A copy out of ordinary memory makes the CPU wait until the device has done everything before it; one out of pinned
    memory is queued like any other operation.
    """
    if device.type == "cuda" and tensor.device.type == "cpu" and not tensor.is_pinned():
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
