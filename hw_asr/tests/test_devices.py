"""Which device is chosen, what users read if PyTorch cannot use it, and how lack of memory is recognised."""

from __future__ import annotations

import unittest
from contextlib import ExitStack, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch

from hw_asr.runtime import processes
from hw_asr.runtime.devices import (
    DeviceError,
    check_precision,
    choose_device,
)
from hw_asr.runtime.memory import MemoryExhaustedError, explain_out_of_memory, is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

ACCELERATOR_ERROR: type[Exception] = getattr(torch, "AcceleratorError", RuntimeError)
"""From torch 2.8 on; before, CUDA's errors are RuntimeErrors."""
WHEEL = ["sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120", "compute_120"]
"""What the wheel of torch 2.11 with CUDA 13.0 contains."""


@contextmanager
def machine(
    *, gpus: int = 1, driver_works: bool = True, capability: tuple[int, int] = (7, 5), architectures: Any = WHEEL
) -> Iterator[None]:
    """Let torch report these GPUs."""
    answers = {
        "device_count": gpus, "is_available": driver_works, "get_device_capability": capability,
        "get_arch_list": list(architectures), "get_device_name": "Tesla X",
    }  # fmt: skip
    with ExitStack() as stack:
        for name, answer in answers.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, return_value=answer))
        yield


class ChooseDeviceTest(unittest.TestCase):
    def test_devices_that_do_not_exist(self) -> None:
        with self.assertRaisesRegex(DeviceError, "expected cpu, or GPU indices"):
            choose_device("gpu", 1)
        with self.assertRaisesRegex(DeviceError, f"this machine has {torch.cuda.device_count()}"):
            choose_device("63", 1)
        with self.assertRaisesRegex(DeviceError, "process 1 has no GPU"):
            choose_device("0", 1, local_rank=1)

    def test_what_is_chosen(self) -> None:
        with machine(gpus=2):
            self.assertEqual(choose_device(None, 1), torch.device("cuda", 0))
            self.assertEqual(choose_device(None, 1, local_rank=1), torch.device("cuda", 1))
            self.assertEqual(choose_device("1", 1), torch.device("cuda", 1))
            self.assertEqual(choose_device("1,0", 1, local_rank=1), torch.device("cuda", 0))
            self.assertEqual(choose_device(None, 0), torch.device("cpu"))
        with machine(gpus=0):
            self.assertEqual(choose_device(None, 1), torch.device("cpu"))

    def test_a_driver_that_is_too_old(self) -> None:
        with machine(driver_works=False):
            for device in (None, "0"):
                with self.assertRaisesRegex(DeviceError, "has 1 GPU, .*driver.*too old.*whl/cu126.*--device cpu"):
                    choose_device(device, 1)
            self.assertEqual(choose_device("cpu", 1), torch.device("cpu"))
            self.assertEqual(choose_device(None, 0), torch.device("cpu"))

    def test_gpus_that_the_build_has_code_for(self) -> None:
        for capability in ((7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0), (12, 1), (13, 0)):
            with self.subTest(capability), machine(capability=capability):
                self.assertEqual(choose_device(None, 1).type, "cuda")
        for architectures in ([], ["gfx90a", "gfx942"]):  # unknown, or ROCm
            with machine(capability=(6, 0), architectures=architectures):
                self.assertEqual(choose_device(None, 1).type, "cuda")

    def test_gpus_that_the_build_has_no_code_for(self) -> None:
        for capability in ((6, 0), (6, 1), (7, 0)):
            with self.subTest(capability), machine(capability=capability):
                expected = (
                    rf"Tesla X\) has compute capability {capability[0]}.{capability[1]}.*sm_75.*cu126.*T4.*--device"
                )
                with self.assertRaisesRegex(DeviceError, expected):
                    choose_device("0", 1)
        only_older = [name for name in WHEEL if not name.startswith("compute")]
        with machine(capability=(13, 0), architectures=only_older), self.assertRaisesRegex(DeviceError, "newer build"):
            choose_device("0", 1)

    def test_bf16_has_to_be_native(self) -> None:
        device = torch.device("cuda", 0)

        def supported(including_emulation: bool = True) -> bool:
            return including_emulation  # a T4

        with (
            machine(),
            mock.patch.object(torch.cuda, "is_bf16_supported", supported),
            mock.patch.object(torch.cuda, "device", lambda index: nullcontext()),
        ):
            with self.assertRaisesRegex(DeviceError, "Tesla X has no bfloat16.*trainer.precision=fp16"):
                check_precision(device, "bf16")
            check_precision(device, "fp16")
            check_precision(torch.device("cpu"), "bf16")


class OutOfMemoryTest(unittest.TestCase):
    def test_what_is_recognised(self) -> None:
        for error in (
            RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
            RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: not enough memory"),
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
            RuntimeError("GET was unable to find an engine to execute this computation"),
            ACCELERATOR_ERROR("CUDA error: out of memory\nSearch for `cudaErrorMemoryAllocation' in the manual"),
            torch.OutOfMemoryError("CUDA out of memory."),
            MemoryError(),
        ):
            self.assertTrue(is_out_of_memory(error), error)

    def test_what_is_not(self) -> None:
        for error in (
            ACCELERATOR_ERROR("CUDA error: an illegal memory access was encountered"),
            RuntimeError("CUDA error: no kernel image is available for execution on the device"),
            ValueError("out of memory"),
        ):
            self.assertFalse(is_out_of_memory(error), error)

    def test_the_explanation(self) -> None:
        with (
            self.assertRaisesRegex(MemoryExhaustedError, r"out of memory: CUDA error: out of memory; lower -b$"),
            explain_out_of_memory("lower -b"),
        ):
            raise ACCELERATOR_ERROR("CUDA error: out of memory\nSearch for more")
        with self.assertRaisesRegex(RuntimeError, "shape"), explain_out_of_memory("lower -b"):
            raise RuntimeError("shape mismatch")


class LostProcessTest(unittest.TestCase):
    def test_the_reason_of_nccl_is_shown(self) -> None:
        reason = (
            "NCCL error in: ProcessGroupNCCL.cpp:94, unhandled system error\nncclSystemError: System call failed.\n"
            "Last error:\nError while creating shared memory segment /dev/shm/nccl-1 (size 9637888)"
        )
        with (
            self.assertRaisesRegex(
                processes.ProcessLostError, r"died.*Error while creating shared memory.*-r last.pth"
            ),
            processes.one_message(),
        ):
            raise torch.distributed.DistBackendError(reason)

    def test_nccl_connects_at_once(self) -> None:
        environment = {"WORLD_SIZE": "2", "LOCAL_RANK": "0"}
        with (
            machine(), mock.patch.dict("os.environ", environment), mock.patch.object(torch.cuda, "set_device"),
            mock.patch.multiple(processes.dist, get_rank=lambda: 0, get_world_size=lambda: 2),
            mock.patch.object(processes.dist, "init_process_group") as init,
        ):  # fmt: skip
            processes.join_processes(None, 1)
        init.assert_called_once_with("nccl", device_id=torch.device("cuda", 0))


if __name__ == "__main__":
    unittest.main()
