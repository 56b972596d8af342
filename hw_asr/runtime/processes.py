"""One process or several: what torchrun tells them, exact sums over them, and messages that can cancel a step."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor

from hw_asr.errors import UserError
from hw_asr.runtime.devices import choose_device

# torch 2.13 deprecates the name of torch 2.6.
_gather_into = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor

# A thread of gloo may release a tensor only after the process knows its sum. If nobody else refers to the tensor, the
# thread needs Python's lock for that, and a process that leaves the group holds the lock while it waits for the thread.
_exchanged: deque[Tensor] = deque(maxlen=16)


class ProcessLostError(UserError):
    """Another process of this training has died, or the connection to it has failed."""


class PeerOutOfMemoryError(MemoryError):
    """Another process ran out of memory and cannot finish this step."""


@dataclass(frozen=True)
class Processes:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return the sums over all processes, in double precision; every process must call it."""
        if self.size == 1:
            return list(values)
        tensor = self.sum_tensor(torch.tensor(values, dtype=torch.float64, device=self.device))
        return [float(value) for value in tensor.tolist()]

    def sum_tensor(self, values: Tensor) -> Tensor:
        """Replace a tensor on this process's device by its sum over all processes; every process must call it."""
        if self.size > 1:
            _exchanged.append(values)
            dist.all_reduce(values)
        return values

    def union(self, items: Mapping[str, str]) -> dict[str, str]:
        """Return the items of all processes; every process must call it."""
        if self.size == 1:
            return dict(items)
        own = torch.frombuffer(bytearray(json.dumps(dict(items)).encode()), dtype=torch.uint8)
        lengths = [int(size) for size in self.sum([len(own) * float(rank == self.rank) for rank in range(self.size)])]
        texts = torch.zeros(self.size, max(lengths), dtype=torch.uint8)
        texts[self.rank, : len(own)] = own
        texts = self.sum_tensor(texts.to(self.device)).cpu()
        parts = [json.loads(bytes(row[:length].tolist())) for row, length in zip(texts, lengths, strict=True)]
        return {key: value for part in parts for key, value in part.items()}

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the main one's values."""
        if self.size > 1:
            for tensor in tensors:
                _exchanged.append(tensor.detach())
                dist.broadcast(_exchanged[-1], src=0)

    def barrier(self) -> None:
        """Wait until every process has called this."""
        if self.size > 1:
            dist.barrier()


class StepMessages:
    """Messages of one size that all processes exchange during a training step, each with a flag to cancel the step.

    A process that runs out of memory calls `cancel` once and leaves the step. Wherever the others are, their next
    message meets that one, because all messages are alike, and they leave the step as well. The buffers are allocated
    beforehand, since a process that cancels has no memory to allocate them.

    Args:
        processes: with one process alone nothing is exchanged.
        size: the most values a message can hold, float64.
    """

    def __init__(self, processes: Processes, size: int) -> None:
        self._size = processes.size
        if self._size > 1:
            self._own = torch.zeros(size + 1, dtype=torch.float64, device=processes.device)
            self._all = torch.zeros(self._size, size + 1, dtype=torch.float64, device=processes.device)

    def gather(self, values: Tensor) -> Tensor:
        """Return the values (n,) of each of P processes, (P, n) float64.

        Raises PeerOutOfMemoryError if one of the processes has cancelled the step.
        """
        if self._size == 1:
            return values.double()[None]
        self._own[: len(values)] = values
        self._exchange()
        if bool(self._all[:, -1].any()):
            raise PeerOutOfMemoryError("another process ran out of memory")
        return self._all[:, : len(values)].clone()

    def cancel(self) -> None:
        """Tell the others that this process leaves the step."""
        if self._size > 1:
            self._own[-1] = 1.0
            self._exchange()
            self._own[-1] = 0.0

    def _exchange(self) -> None:
        received = self._all.view(-1)
        _exchanged.extend((received, self._own))
        _gather_into(received, self._own)


def join_processes(device: str | None, n_gpu: int) -> Processes:
    """Return this process's rank and device; under torchrun, connect to the others (NCCL on GPUs, gloo on CPUs).

    Raises DeviceError if the device does not exist or cannot be used.
    """
    size, local_rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(device, n_gpu, local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        return Processes(device=chosen)
    if chosen.type == "cuda":
        dist.init_process_group("nccl", device_id=chosen)  # connects now, so that errors come before training
    else:
        dist.init_process_group("gloo")
    return Processes(dist.get_rank(), dist.get_world_size(), chosen)


@contextmanager
def one_message() -> Iterator[None]:
    """Let only one of several failing processes print an error, then leave the process group.

    Before the processes are connected, it is the first process of each machine; afterwards the first one that fails.
    The others, which mostly fail because that one is gone, exit with code 1 and print nothing.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not _is_first_to_fail():
            raise SystemExit(1) from None
        if isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error)):
            reason = " ".join(str(error).split())
            raise ProcessLostError(
                "another process died without an error, possibly out of memory, or the connection between the "
                f"processes failed ({reason[:600]}); continue with: python train.py -r last.pth"
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _is_first_to_fail() -> bool:
    """Return whether this process is the one that prints the error."""
    if not dist.is_initialized():
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        return bool(dist.distributed_c10d._get_default_store().add("hw_asr/failed", 1) == 1)
    except RuntimeError:  # the process that held the store is gone, so another one has failed before
        return False
