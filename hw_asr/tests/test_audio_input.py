"""What `transcribe` takes for a recording: paths and samples of many kinds, one or several; what it says of others."""

from __future__ import annotations

import array
import io
import unittest
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

import hw_asr
from hw_asr.datasets.audio import read_audio
from hw_asr.tests.transcribe_case import TranscribeCase

RATE = 16_000


class Named:
    """A path of another library."""

    def __init__(self, path: str) -> None:
        self._path = path

    def __fspath__(self) -> str:
        return self._path


class AudioInputTest(TranscribeCase):
    @classmethod
    def setUpClass(cls) -> None:
        super().setUpClass()
        cls.recogniser = hw_asr.load(cls.checkpoint, decoder="argmax", device="cpu")
        cls.paths = [str(path) for path in sorted(cls.audio.iterdir())[:11]]
        cls.samples = read_audio(cls.audio / "00.opus", RATE)
        cls.integers = (cls.samples * 32767).astype(np.int16)

    def text(self, audio: Any) -> str:
        return self.recogniser.transcribe(audio, RATE).text

    def test_samples_of_many_kinds(self) -> None:
        tensor, text = torch.from_numpy(self.samples), self.text(self.samples)
        for kind in (
            tensor, tensor.double(), tensor.clone().requires_grad_(), self.samples.astype(">f4"),
            np.ma.array(self.samples), memoryview(self.samples),
        ):  # fmt: skip
            self.assertEqual(text, self.text(kind), type(kind))
        self.assertTrue(self.text(tensor.bfloat16()))
        text = self.text(self.integers)
        for kind in (self.integers.astype(">i2"), memoryview(self.integers), array.array("h", self.integers.tolist())):
            self.assertEqual(text, self.text(kind), type(kind))

    def test_paths_of_many_kinds(self) -> None:
        texts = [self.text(path) for path in self.paths]
        self.assertEqual(texts[0], self.text(Named(self.paths[0])))
        for several in (np.array(self.paths), np.array(self.paths, object), map(Named, self.paths)):
            self.assertEqual(texts, [result.text for result in self.recogniser.transcribe(several)])

    def test_what_is_no_recording(self) -> None:
        content = io.BytesIO(self.integers.tobytes())
        for wrong, message in (
            (None, "expected an array of numbers, got NoneType$"),
            (content, "got BytesIO; give the path of a file, or samples: numpy.frombuffer"),
            (content.getvalue(), "got bytes; give the path"),
            (memoryview(b"ab"), "expected floats in .* got uint8"),
            (np.float32(0.1), r"one channel of shape \(N,\), got \(\)$"),
        ):
            with self.subTest(message), self.assertRaisesRegex(hw_asr.Error, message):
                self.text(wrong)

    def test_one_of_a_list_does_not_end_the_others(self) -> None:
        text = self.text(self.samples)
        for wrong in (None, b"ab", [[1, 2], [3]], torch.zeros(2, 3, dtype=torch.bfloat16), object()):
            first, last = self.recogniser.transcribe([wrong, self.samples], RATE)
            self.assertRegex(first.error or "", "samples: expected ", type(wrong))
            self.assertEqual(text, last.text)

    def test_results_come_before_what_the_iterator_raises(self) -> None:
        def failing() -> Iterator[str]:
            yield from self.paths
            raise OSError("the network share is gone")

        results = self.recogniser.transcribe(failing())
        for _ in self.paths:
            self.assertIsNone(next(results).error)
        with self.assertRaisesRegex(OSError, "gone"):
            next(results)


if __name__ == "__main__":
    unittest.main()
