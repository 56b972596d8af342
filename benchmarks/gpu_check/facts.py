"""What the machine has, and whether PyTorch can use it."""

from __future__ import annotations

import os
import shutil
import subprocess

import torch

from benchmarks.gpu_check.report import BAD, OK, Options, Report, Row
from hw_asr.runtime.devices import DeviceError, check_precision, choose_device


def run(options: Options, report: Report) -> None:
    """Report versions, devices and memory; BAD if the device cannot be used, with the remedy."""
    report(Row("PyTorch", f"{torch.__version__}, CUDA {torch.version.cuda}"))
    report(Row("CPU", f"{len(os.sched_getaffinity(0))} cores, {torch.backends.cpu.get_cpu_capability()}"))
    if os.path.isdir("/dev/shm"):  # noqa: PTH112
        report(Row("/dev/shm", f"{shutil.disk_usage('/dev/shm').free / 2**20:.0f} MiB free"))
    if not options.on_gpu:
        return
    report(Row("driver", _driver()))
    report(Row("GPUs", f"{torch.cuda.device_count()} found, usable: {torch.cuda.is_available()}"))
    if torch.cuda.device_count() == 0:
        report(Row("device", "no GPU: install a build of PyTorch with CUDA, or use --device cpu", BAD))
        return
    try:
        choose_device("0", 1)
    except DeviceError as error:
        report(Row("device", str(error), BAD))
        return
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.1f} GiB"
        report(Row(f"GPU {index}", f"{properties.name}, {properties.major}.{properties.minor}, {memory}", OK))
    report(Row("cuDNN", f"{torch.backends.cudnn.version()}"))  # type: ignore[no-untyped-call]
    report(Row("built for", ", ".join(torch.cuda.get_arch_list())))
    try:
        check_precision(torch.device("cuda", 0), "bf16")
        report(Row("bf16", "native"))
    except DeviceError as error:
        report(Row("bf16", str(error)))


def _driver() -> str:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.split()[0]
    except (OSError, subprocess.SubprocessError, IndexError) as error:
        return f"unknown ({type(error).__name__})"
