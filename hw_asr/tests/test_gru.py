"""The CPU recurrence against torch.nn.GRU: values, gradients, packed lengths, types; and its matrix products."""

from __future__ import annotations

import unittest
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence

from hw_asr.models import matmul as matmul_module
from hw_asr.models.gru import FrameGRU
from hw_asr.models.matmul import matmul
from hw_asr.models.packing import Packing

LENGTHS = ([1], [5], [9, 9, 9], [4, 11, 1, 7], [0, 6, 0, 2], [13, 1, 1, 1, 1, 1, 12])
CPU = torch.device("cpu")


def twins(input_size: int, hidden: int, bidirectional: bool, dtype: torch.dtype) -> tuple[FrameGRU, nn.GRU]:
    torch.manual_seed(input_size + hidden)
    ours = FrameGRU(input_size, hidden, bidirectional).to(dtype)
    stock = nn.GRU(input_size, hidden, bidirectional=bidirectional).to(dtype)
    stock.load_state_dict(ours.state_dict())
    return ours, stock


def gradients(output: Tensor, direction: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad((output * direction).sum(), inputs))


class AgainstTorchTest(unittest.TestCase):
    def compare(self, dtype: torch.dtype, tolerance: float) -> None:
        for lengths in LENGTHS:
            for input_size, hidden in ((3, 4), (10, 7), (32, 16)):
                for bidirectional in (False, True):
                    with self.subTest(lengths, input_size=input_size, hidden=hidden, bidirectional=bidirectional):
                        ours, stock = twins(input_size, hidden, bidirectional, dtype)
                        packing = Packing(torch.tensor(lengths), max(lengths), CPU)
                        rows = torch.randn(packing.num_rows, input_size, dtype=dtype, requires_grad=True)
                        output = ours(rows, packing)
                        expected = stock(PackedSequence(rows, packing.batch_sizes))[0].data
                        torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
                        direction = torch.randn_like(expected)
                        pairs = zip(
                            gradients(output, direction, [rows, *ours.parameters()]),
                            gradients(expected, direction, [rows, *stock.parameters()]),
                            strict=True,
                        )
                        for mine, theirs in pairs:
                            torch.testing.assert_close(mine, theirs, rtol=tolerance, atol=tolerance)

    def test_double_precision(self) -> None:
        self.compare(torch.float64, 1e-10)

    def test_single_precision(self) -> None:
        self.compare(torch.float32, 2e-4)

    def test_single_precision_without_onednn(self) -> None:
        with mock.patch.object(matmul_module, "_onednn_takes", return_value=False):
            self.compare(torch.float32, 2e-4)

    @unittest.skipUnless(matmul_module.HAS_ONEDNN, "this build of torch has no oneDNN")
    def test_single_precision_with_onednn_however_small(self) -> None:
        with mock.patch.multiple(matmul_module, _SMALL=0, _ONEDNN=True):
            self.compare(torch.float32, 2e-4)

    def test_gradcheck(self) -> None:
        for bidirectional in (False, True):
            layer, _ = twins(3, 2, bidirectional, torch.float64)
            packing = Packing(torch.tensor([3, 1, 4]), 4, CPU)
            names = [name for name, _ in layer.named_parameters()]

            def run(rows: Tensor, *weights: Tensor, layer=layer, packing=packing, names=names) -> Tensor:
                parameters = dict(zip(names, weights, strict=True))
                return torch.func.functional_call(layer, parameters, (rows, packing))

            rows = torch.randn(8, 3, dtype=torch.float64, requires_grad=True)
            self.assertTrue(torch.autograd.gradcheck(run, (rows, *layer.parameters())))

    def test_padded_sequences_in_any_order(self) -> None:
        ours, stock = twins(5, 6, True, torch.float64)
        lengths = torch.tensor([2, 8, 5, 8])
        padded = torch.randn(4, 9, 5, dtype=torch.float64)
        packing = Packing(lengths, 9, CPU)
        output = packing.unpack(ours(packing.pack(padded), packing))
        packed = stock(pack_padded_sequence(padded, lengths, batch_first=True, enforce_sorted=False))[0]
        expected, _ = nn.utils.rnn.pad_packed_sequence(packed, batch_first=True, total_length=9)
        torch.testing.assert_close(output, expected, rtol=1e-10, atol=1e-10)


class BehaviourTest(unittest.TestCase):
    def test_repeats_bit_for_bit(self) -> None:
        layer, _ = twins(24, 16, True, torch.float32)
        packing = Packing(torch.tensor([30, 12, 25]), 30, CPU)
        rows = torch.randn(packing.num_rows, 24, requires_grad=True)
        first, second = (gradients(layer(rows, packing), torch.ones(()), [rows, *layer.parameters()]) for _ in "ab")
        self.assertTrue(all(torch.equal(one, other) for one, other in zip(first, second, strict=True)))

    def test_no_rows(self) -> None:
        layer, _ = twins(3, 4, True, torch.float32)
        packing = Packing(torch.tensor([0, 0]), 5, CPU)
        output = layer(torch.zeros(0, 3), packing)
        self.assertEqual(output.shape, (0, 8))
        output.sum().backward()
        self.assertTrue(all(not each.grad.any() for each in layer.parameters()))

    def test_autocast_on_the_cpu_computes_in_float32(self) -> None:
        layer, stock = twins(8, 4, True, torch.float32)
        packing = Packing(torch.tensor([6, 3]), 6, CPU)
        rows = torch.randn(9, 8).bfloat16()
        expected = stock(PackedSequence(rows.float(), packing.batch_sizes))[0].data
        with torch.autocast("cpu", torch.bfloat16):
            output = layer(rows, packing)
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)

    def test_bfloat16_reaches_the_recurrence_of_a_gpu(self) -> None:
        layer, stock = twins(8, 4, True, torch.float32)
        packing = Packing(torch.tensor([6, 3]), 6, CPU)
        rows = torch.randn(9, 8)
        recurrence, seen = torch.gru, []

        def record(data: Tensor, *args: Any) -> Any:
            seen.extend([data.dtype, *(weight.dtype for weight in args[2])])
            return recurrence(data, *args)

        with mock.patch.object(torch, "gru", record), torch.autocast("cpu", torch.bfloat16):
            output = layer._by_torch(rows, packing)
        self.assertEqual(set(seen), {torch.bfloat16})
        expected = stock(PackedSequence(rows, packing.batch_sizes))[0].data
        torch.testing.assert_close(output.float(), expected, rtol=0, atol=0.02)
        output.float().sum().backward()
        expected.sum().backward()
        for weight, exact in zip(layer.parameters(), stock.parameters(), strict=True):
            self.assertEqual(weight.grad.dtype, torch.float32)
            torch.testing.assert_close(weight.grad, exact.grad, rtol=0.05, atol=0.05)

    def test_the_path_of_a_gpu_is_torch(self) -> None:
        layer, stock = twins(8, 4, True, torch.float64)
        packing = Packing(torch.tensor([2, 6, 3]), 6, CPU)
        rows = torch.randn(11, 8, dtype=torch.float64)
        expected = stock(PackedSequence(rows, packing.batch_sizes))[0].data
        torch.testing.assert_close(layer._by_torch(rows, packing), expected, rtol=0, atol=0)

    def test_frozen_weights_and_inference_keep_nothing(self) -> None:
        layer, _ = twins(8, 4, True, torch.float32)
        packing = Packing(torch.tensor([6, 3]), 6, CPU)
        with torch.inference_mode():
            expected = layer(torch.ones(9, 8), packing)
        layer.requires_grad_(False)
        rows = torch.ones(9, 8, requires_grad=True)
        output = layer(rows, packing)
        torch.testing.assert_close(output.detach(), expected.clone())
        output.sum().backward()
        self.assertIsNotNone(rows.grad)


class MatmulTest(unittest.TestCase):
    def test_products(self) -> None:
        for dtype, tolerance in ((torch.float64, 1e-12), (torch.float32, 2e-4), (torch.bfloat16, 0.2)):
            for rows, inner, columns in ((1, 3, 5), (7, 16, 33), (0, 4, 4), (200, 100, 48)):
                left = torch.randn(rows, inner).to(dtype)
                right = torch.randn(columns, inner).to(dtype)
                bias = torch.randn(columns).to(dtype)
                expected = left.double() @ right.double().t()
                for product in (matmul(left, right.t()), matmul(left, right.t().contiguous())):
                    torch.testing.assert_close(product.double(), expected, rtol=tolerance, atol=tolerance)
                for addend in (bias, bias.expand(rows, columns).contiguous()):
                    total = matmul(left, right.t(), addend)
                    torch.testing.assert_close(total.double(), expected + bias.double(), rtol=tolerance, atol=tolerance)
                transposed = matmul(right[:, :rows].t(), right)
                torch.testing.assert_close(
                    transposed.double(), right[:, :rows].double().t() @ right.double(), rtol=tolerance, atol=tolerance
                )


if __name__ == "__main__":
    unittest.main()
