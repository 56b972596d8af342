"""The TensorBoard writer; event files are read back by TensorBoard."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Any

import torch

from hw_asr.config.registry import WRITERS
from hw_asr.writers import tensorboard  # noqa: F401 (fills the registry)
from hw_asr.writers.base import AudioClip, LoggedRun


class TensorboardTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self.addCleanup(folder.cleanup)
        self.log_dir = Path(folder.name)

    def accumulate(self) -> Any:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        reader = EventAccumulator(str(self.log_dir / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
        return reader.Reload()

    def writer(self, **options: Any) -> Any:
        run = LoggedRun("first", self.log_dir, config={"name": "<exp>"}, **options)
        return WRITERS.build({"type": "tensorboard"}, run=run)

    def test_what_was_logged_is_read_back(self) -> None:
        writer = self.writer()
        for step in range(50):
            writer.scalars(step, {"train/loss": step / 8})
        clip = AudioClip(torch.zeros(800), 8000)
        writer.table(49, "predictions", ["target", "audio"], [["<b>a|b</b>", clip], ["c", clip]])
        writer.image(49, "spectrogram", torch.zeros(20, 30, 3, dtype=torch.uint8))
        writer.histogram(49, "weights", torch.tensor([1.0, 2.0, float("inf")], dtype=torch.bfloat16))
        writer.close()
        reader = self.accumulate()
        self.assertEqual(
            [(step, step / 8) for step in range(50)],
            [(event.step, event.value) for event in reader.Scalars("train/loss")],
        )
        text = reader.Tensors("predictions/text_summary")[0].tensor_proto.string_val[0].decode()
        self.assertEqual("| &lt;b&gt;a&#124;b&lt;/b&gt; | (audio) |", text.splitlines()[2])
        self.assertEqual(8000.0, reader.Audio("predictions/1")[0].sample_rate)
        self.assertEqual((30, 20), (reader.Images("spectrogram")[0].width, reader.Images("spectrogram")[0].height))
        self.assertEqual(2.0, reader.Histograms("weights")[0].histogram_value.num)

    def test_a_resumed_run_reports_each_step_once(self) -> None:
        first = self.writer()
        for step in (1, 2, 3):
            first.scalars(step, {"loss": 0.0})
        state = first.state_dict()
        for step in (4, 5):  # reported, but lost with the process
            first.scalars(step, {"loss": 0.0})
        first.close()
        second = self.writer(state=state)
        for step in (4, 5, 6):
            second.scalars(step, {"loss": 1.0})
        second.close()
        events = [(event.step, event.value) for event in self.accumulate().Scalars("loss")]
        self.assertEqual([(1, 0.0), (2, 0.0), (3, 0.0), (4, 1.0), (5, 1.0), (6, 1.0)], events)


if __name__ == "__main__":
    unittest.main()
