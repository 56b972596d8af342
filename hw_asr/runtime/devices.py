"""Devices and their settings: which GPU to use, whether PyTorch can use it, numerics, threads."""

from __future__ import annotations

import os
import re

import torch

from hw_asr.errors import UserError
from hw_asr.runtime.cores import available_cores

_VERSION = torch.__version__.split("+")[0]
OLD_BUILD = f"pip install torch=={_VERSION} --index-url https://download.pytorch.org/whl/cu126; see docs/install.md"
"""A build with CUDA 12.6, for older drivers and for compute capabilities 5.0 to 9.0."""


class DeviceError(UserError):
    """The device that was asked for is missing or cannot do what was asked."""


def choose_device(device: str | None, n_gpu: int, local_rank: int = 0) -> torch.device:
    """Return the device for `-d` (`cpu`, or GPU indices as `0,1`); by default a GPU if there is one.

    Raises DeviceError if the device does not exist, or if PyTorch cannot run on it, and names the remedy.
    """
    available = torch.cuda.device_count()
    if device == "cpu" or (device is None and (available == 0 or n_gpu == 0)):
        return torch.device("cpu")
    try:
        indices = [int(index) for index in device.split(",")] if device else list(range(available))
    except ValueError:
        raise DeviceError(f"device {device!r}: expected cpu, or GPU indices such as 0 or 0,1") from None
    if local_rank >= len(indices):
        raise DeviceError(
            f"process {local_rank} has no GPU: --device or this machine provides {len(indices)}; start fewer processes"
        )
    index = indices[local_rank]
    if not 0 <= index < available:
        raise DeviceError(f"GPU {index} does not exist: this machine has {available}; use --device cpu")
    _check_driver(available)
    _check_capability(index)
    return torch.device("cuda", index)


def _check_driver(available: int) -> None:
    """Raise DeviceError if the driver reports GPUs that this build of PyTorch cannot open."""
    if not torch.cuda.is_available():
        raise DeviceError(
            f"this machine has {available} GPU{'s' * (available != 1)}, but PyTorch {torch.__version__} cannot use the "
            f"installed driver, which is probably too old for CUDA {torch.version.cuda} (13.0 needs 580.65 or later); "
            f"update the driver, install an older build ({OLD_BUILD}), or use --device cpu"
        )


def _check_capability(index: int) -> None:
    """Raise DeviceError if this build of PyTorch contains no code for the GPU."""
    capability = torch.cuda.get_device_capability(index)
    architectures = torch.cuda.get_arch_list()
    if not architectures or any(_runs_on(architecture, capability) for architecture in architectures):
        return
    name, version = torch.cuda.get_device_name(index), ".".join(map(str, capability))
    if capability < (7, 5):
        remedy = f"install a build that does ({OLD_BUILD}), choose another GPU (a T4, for example)"
    else:
        remedy = "install a newer build of PyTorch, choose another GPU"
    raise DeviceError(
        f"GPU {index} ({name}) has compute capability {version}, but PyTorch {torch.__version__} supports only "
        f"{', '.join(architectures)}; {remedy}, or use --device cpu"
    )


def _runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    """Return whether code for an entry of `get_arch_list()` runs on a GPU of that compute capability.

    Binaries (sm_XY) run within a major version from their minor version on; PTX (compute_XY) on all later GPUs.
    """
    match = re.fullmatch(r"(sm|compute)_(\d+)(\d)[a-z]?", architecture)
    if match is None:
        return True  # a naming scheme that this function does not know, ROCm's for example
    target = (int(match[2]), int(match[3]))
    return target <= capability and (match[1] == "compute" or target[0] == capability[0])


def check_precision(device: torch.device, precision: str) -> None:
    """Raise DeviceError if the device would only emulate `precision`, which is slower than float32."""
    if precision != "bf16" or device.type != "cuda":
        return
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    if not native:
        raise DeviceError(
            f"trainer.precision bf16: {torch.cuda.get_device_name(device)} has no bfloat16 arithmetic (Ampere and "
            "later GPUs have); use --set trainer.precision=fp16"
        )


def set_numerics(*, tf32: bool, deterministic: bool) -> None:
    """Choose how float32 matrices are multiplied on CUDA, and whether only deterministic kernels may be used."""
    torch.backends.cuda.matmul.allow_tf32 = tf32
    torch.backends.cudnn.allow_tf32 = tf32
    torch.backends.cudnn.deterministic = deterministic
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # required by cuBLAS
        torch.use_deterministic_algorithms(True, warn_only=True)
        # With warn_only the fused attention keeps adding up gradients in any order.
        torch.backends.cuda.enable_mem_efficient_sdp(False)
        torch.backends.cuda.enable_flash_sdp(False)
        torch.backends.cuda.enable_cudnn_sdp(False)


def set_threads(num_threads: int | None, num_workers: int) -> int:
    """Give this process the cores that its workers do not need, at least one; return the number of threads.

    More threads than free cores are much slower than fewer: each step waits for the slowest thread.
    """
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    threads = num_threads or max(1, available_cores() // local - num_workers)
    torch.set_num_threads(threads)
    return threads


def synchronize(device: torch.device) -> None:
    """Wait until the device has finished what it was given; clocks are read after that."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
