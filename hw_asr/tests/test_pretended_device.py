"""What runs on a GPU never mixes its tensors with the CPU's, and computes the same; shown on a pretended device."""

import unittest
from typing import Any

import torch
from torch import nn

from hw_asr.augmentations.noise import RandomNoise
from hw_asr.augmentations.reverberation import RoomImpulseResponse
from hw_asr.augmentations.spectrogram import FrequencyMasking, SpecAugment, TimeMasking
from hw_asr.augmentations.wave import Gain, PitchShift, SpeedPerturbation, TimeStretching
from hw_asr.features import FeatureExtractor
from hw_asr.loss import CTCLoss
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.deepspeech2_config import CNNConfig, GRUConfig, LookaheadConfig
from hw_asr.runtime.processes import Processes
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.tests.pretended_device import MixedDevicesError, Pretended, pretended_device, values_of
from hw_asr.training.average import WeightAverage
from hw_asr.training.step import Augmentations, StepResult, StepSettings, TrainingStep, is_out_of_memory
from hw_asr.training.stream import Placed
from hw_asr.types import Batch, Utterance

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


def train(device: torch.device, augmentations: Augmentations) -> tuple[StepResult, nn.Module]:
    """Take two steps with clipping and an average of weights."""
    network = model().to(device)
    mel = MelSpectrogram(16_000, n_mels=20)
    front_end = FeatureExtractor(mel, log=True, normalize="utterance").to(device)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    place, settings = Processes(device=device), StepSettings(grad_norm_clip=1.0)
    step = TrainingStep(network, front_end, augmentations, CTCLoss(), optimizer, place, settings)
    average = WeightAverage(network, 0.9)
    for position in range(2):
        result = step.run([Placed(batch(), 0, position)])
        average.update()
    return result, average.evaluated


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

    def test_training_steps_are_the_same(self) -> None:
        for augmentations in (Augmentations(), Augmentations(WAVE, SPECTROGRAM)):
            expected, own = train(torch.device("cpu"), augmentations)
            with pretended_device() as device:
                result, moved = train(device, augmentations)
                weights = [values_of(each) for each in moved.state_dict().values()]
            self.assertIsNone(result.problem)
            self.assertAlmostEqual(result.loss_sum, expected.loss_sum, delta=1e-4 * expected.loss_sum)
            self.assertAlmostEqual(result.grad_norm, expected.grad_norm, delta=1e-3 * expected.grad_norm)
            torch.testing.assert_close(weights, list(own.state_dict().values()), rtol=1e-3, atol=1e-4)

    def test_what_counts_as_out_of_memory(self) -> None:
        for told in (
            "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
            "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
            "[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: not enough memory",
        ):
            self.assertTrue(is_out_of_memory(RuntimeError(told)))
        self.assertTrue(is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory.")))
        self.assertFalse(is_out_of_memory(RuntimeError("CUDA error: an illegal memory access was encountered")))


if __name__ == "__main__":
    unittest.main()
