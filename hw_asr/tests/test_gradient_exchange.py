"""Gradients of two real processes, exchanged during the backward pass, against one process with the double batch."""

from __future__ import annotations

import multiprocessing
import unittest
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from hw_asr.batch import Batch
from hw_asr.features import FeatureExtractor
from hw_asr.loss import CTCLoss
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.deepspeech2_config import CNNConfig, GRUConfig
from hw_asr.runtime.processes import Processes
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.training import gradient_exchange
from hw_asr.training.gradient_exchange import GradientExchange
from hw_asr.training.step import Augmentations, StepSettings, TrainingStep
from hw_asr.training.step_result import StepResult
from hw_asr.training.stream import Placed
from hw_asr.types import Utterance

NUM_UTTERANCES = 8
BUCKET_BYTES = 1024
"""So small that the network below needs a dozen buckets."""


def batch_of(indices: Sequence[int]) -> Batch:
    """Return the utterances of these numbers, noise of 0.2 to 0.4 s; the last one is shorter than a frame."""
    lengths = torch.tensor([3200 + 400 * index for index in range(NUM_UTTERANCES)] + [100])
    samples = 0.1 * torch.randn(NUM_UTTERANCES + 1, 6000, generator=torch.Generator().manual_seed(0))
    samples[torch.arange(6000) >= lengths[:, None]] = 0.0
    chosen = torch.tensor(list(indices), dtype=torch.int64)
    targets = torch.tensor([[1, 2, 3]]).repeat(NUM_UTTERANCES + 1, 1)
    utterances = tuple(Utterance(str(index), "x.wav", "x", 0.3) for index in indices)
    return Batch(utterances, samples[chosen], lengths[chosen], targets[chosen], torch.full((len(chosen),), 3))


def make_step(processes: Processes) -> TrainingStep:
    torch.manual_seed(0)
    layers = CNNConfig([4], [(5, 5)], [(2, 2)])
    model = DeepSpeech2(20, 6, layers, GRUConfig(16, 2, bidirectional=True))
    front_end = FeatureExtractor(MelSpectrogram(16_000, n_mels=20, center=False), log=True)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    settings = StepSettings(grad_norm_clip=1.0)
    return TrainingStep(model, front_end, Augmentations(), CTCLoss(), optimizer, processes, settings)


@contextmanager
def out_of_memory(step: TrainingStep, point: str | None) -> Iterator[None]:
    """Make the network run out of memory: in the forward pass, or in the backward pass of its first layer."""

    def fail(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    handles = []
    if point == "forward":
        handles.append(step.model.linear.register_forward_hook(fail))
    elif point == "backward":
        handles.append(step.model.gru_block.rnn_layers[0].register_full_backward_hook(fail))
    yield
    for handle in handles:
        handle.remove()


def run_steps(step: TrainingStep, groups: Sequence[Sequence[Batch]], fault: str | None = None) -> dict[str, Any]:
    """Take a step per group; in the second one, run out of memory at `fault`."""
    results: list[StepResult] = []
    for number, group in enumerate(groups):
        with out_of_memory(step, fault if number == 1 else None):
            results.append(step.run([Placed(batch, 0, position) for position, batch in enumerate(group)]))
    return {
        "weights": step.model.state_dict(),
        "norms": [result.grad_norm for result in results],
        "losses": [result.loss_sum for result in results],
        "problems": [result.problem for result in results],
    }


def run_rank(rank: int, folder: str, groups: Sequence[Sequence[Sequence[int]]], fault: str | None) -> None:
    """One of two processes, forked from the test; the second one has the faults."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    sent: list[int] = []
    send = GradientExchange._send

    def recorded(exchange: GradientExchange, end: int) -> None:
        sent.append(end)
        send(exchange, end)

    with (
        mock.patch.object(gradient_exchange, "BUCKET_BYTES", BUCKET_BYTES),
        mock.patch.object(GradientExchange, "_send", recorded),
    ):
        step = make_step(Processes(rank, 2))
        batches = [[batch_of(indices) for indices in group] for group in groups]
        outcome = run_steps(step, batches, fault if rank == 1 else None)
    outcome["union"] = Processes(rank, 2).union({f"{rank}.wav": "x" * rank, "both.wav": "broken"})
    torch.save({**outcome, "sent": sent, "buckets": len(step._exchange._buckets)}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def run_two(
    groups: tuple[Sequence[Sequence[Sequence[int]]], Sequence[Sequence[Sequence[int]]]], fault: str | None = None
) -> list[dict[str, Any]]:
    context = multiprocessing.get_context("fork")
    with TemporaryDirectory() as folder:
        processes = [context.Process(target=run_rank, args=(r, folder, groups[r], fault)) for r in range(2)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        assert [process.exitcode for process in processes] == [0, 0]
        return [torch.load(Path(folder, f"{rank}.pt"), weights_only=True) for rank in range(2)]


class GradientExchangeTest(unittest.TestCase):
    def assert_equal_outcomes(self, two: list[dict[str, Any]], one: dict[str, Any]) -> None:
        for result in two:
            for name, weight in one["weights"].items():
                torch.testing.assert_close(result["weights"][name], weight, rtol=1e-4, atol=1e-5, msg=name)
            for key in ("norms", "losses"):
                torch.testing.assert_close(torch.tensor(result[key]), torch.tensor(one[key]), rtol=1e-4, atol=1e-4)
        for first, second in zip(two[0]["weights"].values(), two[1]["weights"].values(), strict=True):
            self.assertTrue(torch.equal(first, second))

    def test_two_processes_equal_one_with_the_double_batch(self) -> None:
        # Three steps, the last of two accumulated batches; the shares differ in size.
        shares = ([[[0, 1, 2]], [[4]], [[0, 1], [2]]], [[[3]], [[5, 6, 7]], [[3], [4, 5]]])
        two = run_two(shares)
        together = [[a + b for a, b in zip(*groups, strict=True)] for groups in zip(*shares, strict=True)]
        one = run_steps(make_step(Processes()), [[batch_of(indices) for indices in group] for group in together])
        self.assert_equal_outcomes(two, one)
        for result in two:
            self.assertGreater(result["buckets"], 8)
            self.assertEqual({"0.wav": "", "1.wav": "x", "both.wav": "broken"}, result["union"])
            # Buckets leave during the backward pass; `finish` finds all of them gone.
            self.assertGreater(len(set(result["sent"])), 4)
            self.assertEqual(result["sent"].count(result["buckets"]), 6)

    def test_a_batch_without_frames_is_left_out_on_both(self) -> None:
        two = run_two(([[[0, 1]], [[4]], [[2], [5]]], [[[3]], [[NUM_UTTERANCES]], [[NUM_UTTERANCES], [6]]]))
        one = run_steps(make_step(Processes()), [[batch_of([0, 1, 3])], [batch_of([5, 6])]])
        for result in two:
            self.assertEqual(0.0, result["losses"].pop(1))
            self.assertEqual(0.0, result["norms"].pop(1))
        self.assert_equal_outcomes(two, one)

    def test_out_of_memory_anywhere_cancels_the_step_on_both(self) -> None:
        shares = ([[[0, 1]], [[4, 5]], [[0, 2]]], [[[3]], [[6]], [[1]]])
        one = run_steps(make_step(Processes()), [[batch_of([0, 1, 3])], [batch_of([0, 2, 1])]])
        for fault in ("forward", "backward"):
            with self.subTest(fault):
                two = run_two(shares, fault)
                for result in two:
                    self.assertEqual(result["problems"], [None, "out of memory", None])
                    for key in ("norms", "losses"):
                        del result[key][1]
                self.assert_equal_outcomes(two, one)


if __name__ == "__main__":
    unittest.main()
