"""On a pretended device: no operation mixes it with the CPU, results are the same, and the CPU seldom waits for it."""

import re
import unittest
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import nn

from hw_asr.augmentations.noise import RandomNoise
from hw_asr.augmentations.resampling import resample_to
from hw_asr.augmentations.reverberation import RoomImpulseResponse
from hw_asr.augmentations.spectrogram import FrequencyMasking, SpecAugment, TimeMasking
from hw_asr.augmentations.wave import Gain, PitchShift, SpeedPerturbation, TimeStretching, _plan
from hw_asr.batch import Batch
from hw_asr.features import FeatureExtractor
from hw_asr.loss import CTCLoss
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.deepspeech2_config import CNNConfig, GRUConfig, LookaheadConfig
from hw_asr.models.forward import run_model
from hw_asr.runtime.processes import Processes
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.tests.pretended_device import MixedDevicesError, Pretended, counted_waits, pretended_device, values_of
from hw_asr.training.average import WeightAverage
from hw_asr.training.step import Augmentations, StepSettings, TrainingStep
from hw_asr.training.step_result import NOT_FINITE, SCALE_LOWERED, StepResult
from hw_asr.training.stream import Placed
from hw_asr.types import Utterance

WAVE: tuple[Any, ...] = (
    Gain(1.0), PitchShift(1.0), TimeStretching(1.0), SpeedPerturbation(1.0), RoomImpulseResponse(1.0), RandomNoise(1.0)
)  # fmt: skip
SPECTROGRAM: tuple[Any, ...] = (FrequencyMasking(1.0, 4), TimeMasking(1.0, 10), SpecAugment(1.0, 1, 4, 1, 10))


def batch() -> Batch:
    """Return three utterances of noise, the second of which ends early."""
    lengths = torch.tensor([8000, 5000, 8000])
    samples = 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    samples[1, 5000:] = 0.0
    targets = torch.tensor([[1, 2, 2, 3], [4, 0, 0, 0], [1, 5, 0, 0]])
    utterances = tuple(Utterance(str(index), "x.wav", "x", 0.5) for index in range(3))
    return Batch(utterances, samples, lengths, targets, torch.tensor([4, 1, 2]))


def model() -> DeepSpeech2:
    """Return a network with all of its parts."""
    torch.manual_seed(0)
    layers = CNNConfig([4, 4], [(5, 5), (5, 5)], [(2, 2), (2, 1)])
    return DeepSpeech2(20, 6, layers, GRUConfig(8, 2, bidirectional=True, dropout=0.1), LookaheadConfig(3))


def published_augmentations() -> Augmentations:
    """Return the augmentations of the published recipe, each always applied."""
    return Augmentations((Gain(1.0), PitchShift(1.0)), (FrequencyMasking(1.0, 4), TimeMasking(1.0, 10)))


def train(
    device: torch.device, augmentations: Augmentations, precision: str = "fp32"
) -> tuple[StepResult, nn.Module, list[str]]:
    """Take two steps with clipping and an average of weights; also return where the second one waited."""
    network = model().to(device)
    mel = MelSpectrogram(16_000, n_mels=20)
    front_end = FeatureExtractor(mel, log=True, normalize="utterance").to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    place, settings = Processes(device=device), StepSettings(precision, grad_norm_clip=1.0)
    step = TrainingStep(network, front_end, augmentations, CTCLoss(), optimizer, place, settings)
    average = WeightAverage(network, 0.9)
    for position in range(2):
        with counted_waits() as waits:
            result = step.run([Placed(batch(), 0, position)])
            average.update()
    return result, average.evaluated, list(waits)


class PretendedDeviceTest(unittest.TestCase):
    def test_it_refuses_what_a_gpu_refuses(self) -> None:
        with pretended_device() as device:
            here, there = torch.ones(2, device=device), torch.ones(2)
            for mix in (lambda: here + there, lambda: torch.cat([here, there]), lambda: there[here.long()]):
                self.assertRaises(MixedDevicesError, mix)
            generator = torch.Generator().manual_seed(0)
            self.assertRaises(MixedDevicesError, lambda: torch.rand(2, generator=generator, device=device))
            self.assertIsInstance(here * torch.tensor(2.0), Pretended)  # numbers may be anywhere, and indices
            self.assertEqual(here[torch.tensor([1])].tolist(), [1.0])
            self.assertEqual((here.to("cpu") + there).tolist(), [2.0, 2.0])

    def test_it_counts_what_waits(self) -> None:
        with pretended_device() as device:
            here, mask = torch.ones(4, device=device), torch.ones(4, device=device) > 0
            waiting = (
                here.tolist, here.sum().item, here.cpu, mask.nonzero, lambda: here[mask], lambda: bool(mask.all()),
                lambda: torch.ones(4).to(device), lambda: torch.tensor([1.0], device=device),
                lambda: here[torch.tensor([1])], lambda: here.copy_(torch.ones(4)),
                lambda: torch.istft(torch.ones(257, 4, device=device) + 0j, 512, window=torch.ones(512, device=device)),
            )  # fmt: skip
            queued = (
                lambda: torch.ones(4).to(device, non_blocking=True), lambda: here + 1, lambda: here[1:].sum(),
                lambda: torch.full((), 2.0, device=device), lambda: here.copy_(torch.ones(4), non_blocking=True),
            )  # fmt: skip
            for expected, operations in ((1, waiting), (0, queued)):
                for number, operation in enumerate(operations):
                    with self.subTest(expected, number=number), counted_waits() as waits:
                        operation()
                        self.assertEqual(len(waits), expected, waits)

    def test_training_steps_are_the_same_and_wait_for_the_device_once(self) -> None:
        # The loss scale of fp16 is a power of two, so it changes no digit.
        for augmentations, precisions in (
            (published_augmentations(), ("fp32", "fp16")),
            (Augmentations(WAVE, SPECTROGRAM), ("fp32",)),
        ):
            expected, own, _ = train(torch.device("cpu"), augmentations)
            for precision in precisions:
                with self.subTest(precision), pretended_device() as device:
                    result, moved, waits = train(device, augmentations, precision)
                    weights = [values_of(each) for each in moved.state_dict().values()]
                self.assertIsNone(result.problem)
                self.assertAlmostEqual(result.loss_sum, expected.loss_sum, delta=1e-4 * expected.loss_sum)
                self.assertAlmostEqual(result.grad_norm, expected.grad_norm, delta=1e-3 * expected.grad_norm)
                torch.testing.assert_close(weights, list(own.state_dict().values()), rtol=1e-3, atol=1e-4)
                ours = [re.sub(r":\d+", "", wait) for wait in waits if "ctc_loss" not in wait]
                self.assertEqual(ours, ["step.py tolist"], waits)
                self.assertEqual(len(waits) - len(ours), 6, waits)  # torch's CTC kernels copy lengths themselves

    def test_evaluation_waits_for_its_results_only(self) -> None:
        mel = MelSpectrogram(16_000, n_mels=20)
        with pretended_device() as device:
            network, front_end = model().to(device), FeatureExtractor(mel, log=True).to(device)
            network.eval()
            with counted_waits() as waits, torch.no_grad():
                moved = batch().to(device)
                log_probs, lengths = run_model(network, *front_end(moved.samples, moved.sample_lengths), "fp32")
            self.assertEqual((log_probs.device, lengths.device.type, waits), (device, "cpu", []))

    def test_pitches_are_shifted_by_transforms_of_few_sizes(self) -> None:
        sizes: set[int] = set()

        def recorded(transform: Any) -> Any:
            return lambda samples, n: sizes.add(n) or transform(samples, n=n)

        plans = [_plan(0, int(length), 8 * float(share) - 4) for length, share in zip(*drawn(8000), strict=True)]
        for plan in plans[:3]:
            with mock.patch.multiple(torch.fft, rfft=recorded(torch.fft.rfft), irfft=recorded(torch.fft.irfft)):
                resample_to(torch.zeros(plan.longer_length), plan.size, plan.new_size, 1)
        self.assertEqual(sizes, {size for plan in plans[:3] for size in plan[2:]})
        self.assertLess(len({plan.size for plan in plans} | {plan.new_size for plan in plans}), 700)

    def test_deterministic_training_computes_the_loss_on_the_cpu(self) -> None:
        log_probs, lengths = torch.randn(3, 20, 6).log_softmax(-1), torch.tensor([20, 15, 2])
        expected = CTCLoss()(log_probs, lengths, batch().targets, batch().target_lengths)
        torch.use_deterministic_algorithms(True, warn_only=True)
        self.addCleanup(torch.use_deterministic_algorithms, False)
        with pretended_device() as device:
            moved, targets = log_probs.to(device).requires_grad_(), batch().targets.to(device)
            with counted_waits() as waits:
                values = CTCLoss()(moved, lengths, targets, batch().target_lengths)
            self.assertEqual([wait for wait in waits if "ctc_loss" in wait], [])
            for ours, theirs in zip(values, expected, strict=True):
                self.assertTrue(torch.equal(values_of(ours), theirs))
            values.values.sum().backward()
            self.assertIsInstance(moved.grad, Pretended)


class ScaledStepTest(unittest.TestCase):
    """fp16: the loss scale, which overflows as a matter of routine."""

    def step(self, device: torch.device) -> TrainingStep:
        """Return a step in fp16 with a loss scale that overflows float32."""
        network = model().to(device)
        mel = MelSpectrogram(16_000, n_mels=20)
        front_end = FeatureExtractor(mel, log=True).to(device)
        settings = StepSettings("fp16", grad_norm_clip=1.0)
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        step = TrainingStep(
            network, front_end, Augmentations(), CTCLoss(), optimizer, Processes(device=device), settings
        )
        step.scaler.load_state_dict({**step.scaler.state_dict(), "scale": 1e38})
        return step

    def test_an_overflow_lowers_the_scale_and_is_no_fault(self) -> None:
        with pretended_device() as device, mock.patch.object(torch.cuda, "empty_cache") as empty_cache:
            step = self.step(device)
            before = [values_of(each).clone() for each in step.model.state_dict().values()]
            result = step.run([Placed(batch(), 0, 0)])
            self.assertEqual(result.problem, SCALE_LOWERED)
            self.assertAlmostEqual(step.scaler.get_scale() / 1e38, 0.5, delta=1e-6)
            after = [values_of(each) for each in step.model.state_dict().values()]
        self.assertTrue(all(map(torch.equal, before, after)))
        empty_cache.assert_not_called()

    def test_a_loss_that_is_not_finite_is_a_fault(self) -> None:
        with pretended_device() as device:
            step = self.step(device)
            spoiled = replace(batch(), samples=batch().samples * float("nan"))
            self.assertEqual(step.run([Placed(spoiled, 0, 0)]).problem, NOT_FINITE)

    def test_a_group_without_utterances(self) -> None:
        empty = Batch((), torch.zeros(0, 1), torch.zeros(0).long(), torch.zeros(0, 1).long(), torch.zeros(0).long())
        with pretended_device() as device:
            self.assertIsNone(self.step(device).run([Placed(empty, 0, 0)]).problem)


def drawn(number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return lengths from 1 to 30 s, at 16 kHz, and as many shares in [0, 1)."""
    generator = torch.Generator().manual_seed(0)
    return (16_000 * (1 + 29 * torch.rand(number, generator=generator))).long(), torch.rand(number, generator=generator)


if __name__ == "__main__":
    unittest.main()
