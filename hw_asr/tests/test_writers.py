"""The local record, and several writers at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any

import torch

from hw_asr.config.registry import WRITERS
from hw_asr.tests.waiting import DEADLINE
from hw_asr.writers.background import BackgroundWriter
from hw_asr.writers.base import AudioClip, LoggedRun
from hw_asr.writers.jsonl import JsonlWriter, read_metrics
from hw_asr.writers.multi import MultiWriter
from hw_asr.writers.null import NullWriter


class RecordingWriter(NullWriter):
    """Remembers the steps it was given; raises from `fails_at` on."""

    def __init__(self, fails_at: int = 10**9) -> None:
        self.steps: list[int] = []
        self.closed = False
        self._fails_at = fails_at

    def scalars(self, step: int, values: Any) -> None:
        if step >= self._fails_at:
            raise OSError("No space left on device")
        self.steps.append(step)

    def state_dict(self) -> dict[str, Any]:
        return {f"recording_{self._fails_at}": len(self.steps)}

    def close(self) -> None:
        self.closed = True


class JsonlWriterTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "run" / "metrics.jsonl"

    def write(self, *steps: int, **options: Any) -> dict[str, Any]:
        writer = JsonlWriter(self.path, **options)
        for step in steps:
            writer.scalars(step, {"loss": step / 10})
        state = writer.state_dict()
        writer.close()
        return state

    def steps(self) -> list[int]:
        return [json.loads(line)["step"] for line in self.path.read_text().splitlines()]

    def test_one_object_a_line(self) -> None:
        writer = JsonlWriter(self.path)
        writer.scalars(3, {"loss": 1.5, "grad_norm": torch.tensor(2.0), "steps_skipped": 4})  # type: ignore[dict-item]
        writer.scalars(3, {"val_loss": float("nan"), "потери": float("inf")})
        first, second = map(json.loads, self.path.read_text(encoding="utf-8").splitlines())  # before close
        writer.close()
        self.assertGreater(first.pop("time"), 1.7e9)
        self.assertEqual({"step": 3, "loss": 1.5, "grad_norm": 2.0, "steps_skipped": 4}, first)
        self.assertIsNone(second["val_loss"])
        self.assertIsNone(second["потери"])

    def test_resume_leaves_each_step_once(self) -> None:
        state = self.write(1, 2, 3)
        self.write(4, 5)
        self.write(4, 5, 6, state=state)
        self.assertEqual([1, 2, 3, 4, 5, 6], self.steps())
        self.assertEqual([self.path], list(self.path.parent.iterdir()))

    def test_resume_keeps_one_of_two_lines_of_a_step(self) -> None:
        state = self.write(1, 2)
        self.write(2, 3)
        self.write(2, 3, state=state)
        self.assertEqual([1, 2, 2, 3], self.steps())

    def test_without_a_state_all_whole_lines_stay(self) -> None:
        self.write(1, 2)
        self.write(3)
        self.assertEqual([1, 2, 3], self.steps())

    def test_any_torn_end_is_dropped(self) -> None:
        self.write(1, 2, 3)
        whole = self.path.read_bytes()
        start = whole.rindex(b"\n", 0, -1) + 1
        for end in range(start, len(whole)):
            with self.subTest(bytes=end - start):
                self.path.write_bytes(whole[:end])
                self.assertEqual([1, 2], [line["step"] for line in read_metrics(self.path)])
                self.write(3, state={"metrics_bytes": start})
                self.assertEqual([1, 2, 3], self.steps())

    def test_zeros_left_by_a_power_failure_are_dropped(self) -> None:
        self.write(1, 2)
        with self.path.open("ab") as file:
            file.write(b"\0" * 100)
        self.write(3)
        self.assertEqual([1, 2, 3], self.steps())

    @unittest.skipUnless(os.name == "posix", "needs SIGKILL")
    def test_a_killed_process_loses_nothing(self) -> None:
        program = (
            "import os, signal, sys; from pathlib import Path; from hw_asr.writers.jsonl import JsonlWriter\n"
            "writer = JsonlWriter(Path(sys.argv[1]))\n"
            "for step in range(100): writer.scalars(step, {'loss': 1.0})\n"
            "os.kill(os.getpid(), signal.SIGKILL)"
        )
        done = subprocess.run([sys.executable, "-c", program, str(self.path)], cwd=Path(__file__).parents[2])
        self.assertEqual(-signal.SIGKILL, done.returncode)
        self.assertEqual(list(range(100)), self.steps())


class MultiWriterTest(unittest.TestCase):
    def test_a_failing_writer_is_dropped_once_and_the_others_go_on(self) -> None:
        good, bad = RecordingWriter(), RecordingWriter(fails_at=2)
        writer = MultiWriter([bad, good])
        with self.assertLogs("hw_asr.writers.multi", "WARNING") as logs:
            for step in range(5):
                writer.scalars(step, {"loss": 0.0})
        self.assertEqual(1, len(logs.output))
        self.assertIn("RecordingWriter failed", logs.output[0])
        self.assertIn("No space left on device", logs.output[0])
        self.assertEqual([0, 1], bad.steps)
        self.assertEqual([0, 1, 2, 3, 4], good.steps)
        writer.close()
        self.assertTrue(good.closed)
        self.assertFalse(bad.closed)

    def test_the_state_of_a_dropped_writer_is_kept(self) -> None:
        writer = MultiWriter([RecordingWriter(fails_at=2), RecordingWriter()])
        writer.scalars(1, {})
        writer.state_dict()
        with self.assertLogs("hw_asr.writers.multi", "WARNING"):
            writer.scalars(2, {})
        self.assertEqual({"recording_2": 1, f"recording_{10**9}": 2}, writer.state_dict())

    def test_everything_reaches_a_writer_that_keeps_nothing(self) -> None:
        writer = MultiWriter([WRITERS.build({"type": "none"}, run=LoggedRun("r", Path()))])
        writer.scalars(0, {"loss": 1.0})
        writer.table(0, "predictions", ["text"], [["a"]])
        writer.image(0, "spectrogram", torch.zeros(2, 2, 3, dtype=torch.uint8))
        writer.histogram(0, "weights", torch.zeros(3))
        self.assertEqual({}, writer.state_dict())
        writer.close()


class BackgroundWriterTest(unittest.TestCase):
    def test_calls_arrive_in_order_and_before_the_state(self) -> None:
        inner = RecordingWriter()
        writer = BackgroundWriter(inner)
        for step in range(200):
            writer.scalars(step, {"loss": 0.0})
        self.assertEqual({f"recording_{10**9}": 200}, writer.state_dict())
        self.assertEqual(list(range(200)), inner.steps)
        writer.close()
        self.assertTrue(inner.closed)

    def test_a_tensor_may_change_after_the_call(self) -> None:
        class Remembering(NullWriter):
            def histogram(self, step: int, name: str, values: torch.Tensor) -> None:
                released.wait(DEADLINE)
                seen.append(values.tolist())

            def table(self, step: int, name: str, columns: Any, rows: Any) -> None:
                seen.append(rows[0][0].samples.tolist())

        released, seen = threading.Event(), []
        writer = BackgroundWriter(Remembering())
        weights = torch.zeros(2, requires_grad=True)
        writer.histogram(0, "weights", weights)
        writer.table(0, "predictions", ["audio"], [[AudioClip(weights, 8000)]])
        weights.data.fill_(1.0)
        released.set()
        writer.close()
        self.assertEqual([[0.0, 0.0], [0.0, 0.0]], seen)

    def test_a_failure_is_the_wrapped_writers_and_drops_it(self) -> None:
        writer = MultiWriter([BackgroundWriter(RecordingWriter(fails_at=1))])
        with self.assertLogs("hw_asr.writers.multi", "WARNING") as logs:
            writer.scalars(1, {})
            writer.state_dict()
            writer.scalars(2, {})
        self.assertEqual(1, len(logs.output))
        self.assertIn("RecordingWriter failed", logs.output[0])

    def test_a_backend_that_hangs_is_dropped(self) -> None:
        class Hanging(NullWriter):
            def scalars(self, step: int, values: Any) -> None:
                released.wait(DEADLINE)

        released = threading.Event()
        self.addCleanup(released.set)
        writer = MultiWriter([BackgroundWriter(Hanging(), patience=0.05)])
        with self.assertLogs("hw_asr.writers.multi", "WARNING") as logs:
            for step in range(100):
                writer.scalars(step, {})
            writer.close()
        self.assertEqual(1, len(logs.output))
        self.assertIn(
            "Hanging failed and is disabled for the rest of this run: TimeoutError: no response for", logs.output[0]
        )


if __name__ == "__main__":
    unittest.main()
