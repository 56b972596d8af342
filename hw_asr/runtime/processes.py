"""One process or many: what torchrun says of them, and exact sums over them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hw_asr.errors import UserError


class DeviceError(UserError):
    """A device that is not there."""


class ProcessLostError(UserError):
    """A process that this one trains with is gone."""


class PeerOutOfMemoryError(MemoryError):
    """Another process cannot finish this step."""


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
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replace every gradient by its sum over all processes, in one message; a missing one counts as zero."""
        if self.size == 1:
            return
        trained = [each for each in parameters if each.requires_grad]
        gradients = [torch.zeros_like(each) if each.grad is None else each.grad for each in trained]
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        dist.all_reduce(flat)
        parts = torch.split(flat, [each.numel() for each in trained])
        for parameter, gradient in zip(trained, parts, strict=True):
            parameter.grad = gradient.view_as(parameter)

    def broadcast(self, tensors: Iterable[Tensor]) -> None:
        """Give every process the main one's values."""
        if self.size > 1:
            for tensor in tensors:
                dist.broadcast(tensor.detach(), src=0)

    def barrier(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()


def go_on_together(ready: bool = True) -> None:
    """Tell the other processes whether this one can go on, where all of them are about to exchange something.

    A process that ran out of memory says so once, with `ready` false, and leaves the step; the others, wherever in the
    step they are, meet that message at their next exchange and leave the step as well.

    Raises PeerOutOfMemoryError when one cannot, on every process that can.
    """
    if not dist.is_initialized() or dist.get_world_size() == 1:
        return
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    failed = torch.tensor([float(not ready)], device=device)
    dist.all_reduce(failed)
    if ready and float(failed) > 0:
        raise PeerOutOfMemoryError("another process ran out of memory")


def join_processes(device: str | None, n_gpu: int) -> Processes:
    """Return this process's place and device; under torchrun, meet the others first (NCCL on GPUs, gloo on CPUs).

    Raises DeviceError for a device that is not there.
    """
    size, local_rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("LOCAL_RANK", "0"))
    chosen = choose_device(device, n_gpu, local_rank)
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size == 1:
        return Processes(device=chosen)
    dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Processes(dist.get_rank(), dist.get_world_size(), chosen)


@contextmanager
def one_message() -> Iterator[None]:
    """Let one process of those that fail together speak, then leave the group.

    Before the processes have met, it is the first of each machine; afterwards the first to fail. The others, which
    mostly fail because that one is gone, end with exit code 1 and without a word.
    """
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        if not _speaks():
            raise SystemExit(1) from None
        if isinstance(error, RuntimeError) and ("gloo" in str(error) or "NCCL" in str(error)):
            raise ProcessLostError(
                "another process ended without a word, killed perhaps for its memory; go on with train.py -r last.pth"
            ) from error
        raise
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def _speaks() -> bool:
    """Whether this process is the one to say what went wrong."""
    if not dist.is_initialized():
        return os.environ.get("LOCAL_RANK", "0") == "0"
    try:
        return bool(dist.distributed_c10d._get_default_store().add("hw_asr/failed", 1) == 1)
    except RuntimeError:  # the process that held the store is gone, so another has failed before
        return False


def choose_device(device: str | None, n_gpu: int, local_rank: int = 0) -> torch.device:
    """Return the device for `-d` (`cpu`, or GPU indices as `0,1`), by default a GPU where there is one.

    Raises DeviceError naming what there is.
    """
    available = torch.cuda.device_count()
    if device == "cpu" or (device is None and (available == 0 or n_gpu == 0)):
        return torch.device("cpu")
    try:
        indices = [int(index) for index in device.split(",")] if device else list(range(available))
    except ValueError:
        raise DeviceError(f"device {device!r}: expected cpu, or GPU indices such as 0 or 0,1") from None
    if local_rank >= len(indices):
        raise DeviceError(f"process {local_rank} has no GPU: {len(indices)} given by --device or present")
    if not 0 <= indices[local_rank] < available:
        raise DeviceError(f"GPU {indices[local_rank]} is not there; this machine has {available}; use --device cpu")
    return torch.device("cuda", indices[local_rank])


def set_numerics(*, tf32: bool, deterministic: bool) -> None:
    """Choose how float32 matrices are multiplied on CUDA, and whether only deterministic kernels may be used."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS asks for it
        torch.use_deterministic_algorithms(True, warn_only=True)


def set_threads(num_threads: int | None, num_workers: int) -> int:
    """Give this process the cores that its workers leave, at least one; return how many.

    More threads than free cores cost far more than they bring: each step waits for the slowest of them.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = num_threads or max(1, cores // local - num_workers)
    torch.set_num_threads(threads)
    return threads
