"""Batch normalisation of frames against torch's, in one process and in two."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from hw_asr.models.normalization import FrameBatchNorm, synchronize_batch_norm
from hw_asr.runtime.processes import Processes

NUM_CHANNELS = 3
SHARES = ((0, 5), (5, 21), (21, 21))
"""Rows of each process: few, many, none."""


def rows_of(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Rows away from mean 0 and variance 1, and a direction to differentiate along."""
    generator = torch.Generator().manual_seed(7)
    rows = 3 + 2 * torch.randn(shape, generator=generator, dtype=torch.float64)
    return rows, torch.randn(shape, generator=generator, dtype=torch.float64)


def layer_with_weights() -> FrameBatchNorm:
    layer = FrameBatchNorm(NUM_CHANNELS).double()
    layer.weight.data.copy_(torch.tensor([0.5, 1.0, -2.0]))
    layer.bias.data.copy_(torch.tensor([0.1, 0.0, 3.0]))
    return layer


def results(layer: nn.Module, rows: Tensor, direction: Tensor) -> dict[str, Tensor]:
    """What a training pass leaves: output, gradients, running statistics."""
    rows = rows.clone().requires_grad_()
    output = layer(rows)
    (output * direction).sum().backward()
    gradients = {f"grad.{name}": each.grad for name, each in layer.named_parameters()}
    return {"output": output.detach(), "rows": rows.grad, **gradients, **dict(layer.named_buffers())}


def run_share(rank: int, folder: str, shape: tuple[int, ...]) -> None:
    """One process of a group: its share of the rows."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=len(SHARES))
    layer = layer_with_weights()
    synchronize_batch_norm(layer, Processes(rank, len(SHARES)))
    begin, end = SHARES[rank]
    rows, direction = rows_of(shape)
    torch.save(results(layer, rows[begin:end], direction[begin:end]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


class FrameBatchNormTest(unittest.TestCase):
    def test_equals_torch_on_frames_without_padding(self) -> None:
        rows, direction = rows_of((21, NUM_CHANNELS, 4))
        ours = layer_with_weights()
        stock = nn.BatchNorm2d(NUM_CHANNELS).double()
        stock.load_state_dict(ours.state_dict())
        mine, theirs = results(ours, rows, direction), results(stock, rows[..., None], direction[..., None])
        for name, expected in theirs.items():
            torch.testing.assert_close(mine[name], expected.view_as(mine[name]), msg=name)
        torch.testing.assert_close(ours.eval()(rows), stock.eval()(rows[..., None])[..., 0])

    def test_a_single_value_has_no_variance(self) -> None:
        layer = layer_with_weights()
        one = torch.ones(1, NUM_CHANNELS, dtype=torch.float64)
        torch.testing.assert_close(layer(one), layer.eval()(one))
        self.assertEqual(layer(one[:0]).shape, (0, NUM_CHANNELS))
        self.assertEqual(int(layer.num_batches_tracked), 0)

    def test_processes_share_their_statistics(self) -> None:
        shape = (21, NUM_CHANNELS, 4)
        rows, direction = rows_of(shape)
        whole = results(layer_with_weights(), rows, direction)
        with tempfile.TemporaryDirectory() as folder:
            torch.multiprocessing.spawn(run_share, (folder, shape), nprocs=len(SHARES))
            parts = [torch.load(Path(folder, f"{rank}.pt"), weights_only=True) for rank in range(len(SHARES))]
        for name, expected in whole.items():
            if name in ("output", "rows"):
                torch.testing.assert_close(torch.cat([part[name] for part in parts]), expected, msg=name)
            elif name.startswith("grad."):
                torch.testing.assert_close(sum(part[name] for part in parts), expected, msg=name)
            else:
                for part in parts:
                    torch.testing.assert_close(part[name], expected, msg=name)


if __name__ == "__main__":
    unittest.main()
