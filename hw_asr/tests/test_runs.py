"""Where runs lie, how they are named, found and locked."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from hw_asr.storage.run_names import RunError, RunId
from hw_asr.storage.runs import Run, Runs
from hw_asr.tests.waiting import wait_until

HOLD = """
import os, signal, sys
from pathlib import Path
from hw_asr.storage.runs import Run
with Run.of_checkpoint(Path(sys.argv[1])).lock():
    child = os.fork()
    if child == 0:
        signal.pause()
    print(child, flush=True)
    signal.pause()
"""


class RunsTest(unittest.TestCase):
    def setUp(self) -> None:
        self.directory = tempfile.TemporaryDirectory()
        self.addCleanup(self.directory.cleanup)
        self.save_dir = Path(self.directory.name) / "saved"
        self.runs = Runs(self.save_dir)

    def checkpoint(self, path: Path, age: int = 0) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"weights")
        os.utime(path, (1_000_000 - age, 1_000_000 - age))
        return path

    def test_layout(self) -> None:
        run = self.runs.create("deep+speech", "finetuned1")
        self.assertEqual(run.config_path, self.save_dir / "models/deep+speech/finetuned1/config.json")
        self.assertEqual(run.metrics_path, self.save_dir / "log/deep+speech/finetuned1/metrics.jsonl")
        self.assertEqual(run.checkpoint_path("last"), run.model_dir / "last.pth")
        self.assertEqual(run.checkpoint_path("last.pth"), run.model_dir / "last.pth")
        self.assertTrue(run.model_dir.is_dir() and run.log_dir.is_dir())
        self.assertEqual(str(run.id), "deep+speech:finetuned1")
        self.assertEqual(RunId.parse(str(run.id)), run.id)

    def test_default_names_are_unique(self) -> None:
        names = [self.runs.create("exp").name for _ in range(5)]
        self.assertEqual(len(set(names)), 5)
        self.assertRegex(names[0], r"^\d{4}_\d{6}$")

    def test_a_path_through_the_directory_above(self) -> None:
        (self.save_dir / "models/exp/a").mkdir(parents=True)
        (self.save_dir / "models/exp/b").mkdir()
        (self.save_dir / "models/exp/b/last.pth").touch()
        run = Run.of_checkpoint(self.save_dir / "models/exp/a/../b/last.pth")
        self.assertEqual("exp:b", str(run.id))
        self.assertEqual(self.save_dir / "log/exp/b", run.log_dir)

    def test_existing_run_is_refused_with_advice(self) -> None:
        run = self.runs.create("exp", "one")
        self.assertEqual(self.runs.create("exp", "one"), run)  # still empty
        run.metrics_path.write_text("{}\n")
        with self.assertRaisesRegex(RunError, "exp:one exists already.*--resume.*another name"):
            self.runs.create("exp", "one")

    def test_names_that_leave_the_directory_are_refused(self) -> None:
        for name in ("", "..", "a/b", "a\\b", ".hidden", "a:b", "end.", "new\nline"):
            with self.subTest(name), self.assertRaises(RunError):
                self.runs.create("exp", name)
            with self.subTest(name), self.assertRaises(RunError):
                RunId.parse(f"{name}:run")
        self.assertFalse(self.save_dir.exists())

    def test_run_of_checkpoint(self) -> None:
        run = self.runs.create("exp", "one")
        path = self.checkpoint(run.checkpoint_path("model_best"))
        self.assertEqual(Run.of_checkpoint(path), run)
        elsewhere = Run.of_checkpoint(self.checkpoint(Path(self.directory.name) / "plain" / "model.pth"))
        self.assertEqual(elsewhere.name, "plain")
        self.assertEqual(elsewhere.config_path, Path(self.directory.name) / "plain" / "config.json")
        with self.assertRaisesRegex(RunError, "no such checkpoint; did you mean 'model_best.pth'"):
            Run.of_checkpoint(run.checkpoint_path("model_bets"))
        with self.assertRaisesRegex(RunError, "is a directory.*model_best.pth"):
            Run.of_checkpoint(run.model_dir)

    def test_checkpoints_are_ordered_by_time_and_whole(self) -> None:
        run = self.runs.create("exp", "one")
        for age, name in enumerate(["c", "a", "b"]):
            self.checkpoint(run.checkpoint_path(name), age)
        (run.model_dir / ".d.pth.12.part").write_bytes(b"half")
        self.assertEqual([path.stem for path in run.checkpoints()], ["b", "a", "c"])

    def test_listing_and_nearest_names(self) -> None:
        self.assertEqual(self.runs.list(), [])
        for experiment, name in (("b", "1"), ("a", "2"), ("a", "1")):
            self.runs.create(experiment, name)
        self.assertEqual([str(run.id) for run in self.runs.list()], ["a:1", "a:2", "b:1"])
        self.assertEqual(self.runs.find(RunId("a", "2")).name, "2")
        with self.assertRaisesRegex(RunError, "did you mean 'a:[12]'.*known: a:1, a:2, b:1"):
            self.runs.find(RunId("a", "3"))

    def test_listing_reads_a_directory_per_experiment_and_opens_no_run(self) -> None:
        for experiment in range(3):
            for name in range(50):
                run = self.save_dir / f"models/e{experiment}/r{name}"
                run.mkdir(parents=True)
        with mock.patch("hw_asr.storage.runs.os.scandir", wraps=os.scandir) as scandir:
            self.assertEqual(len(self.runs.list()), 150)
        self.assertEqual(scandir.call_count, 4)

    def test_lock_excludes_this_process_too(self) -> None:
        run = self.runs.create("exp", "one")
        with run.lock():
            with self.assertRaisesRegex(RunError, f"in use by process {os.getpid()} on "), run.lock():
                pass
            with self.runs.create("exp", "two").lock():
                pass
        with run.lock():
            pass
        self.runs.create("exp", "one")  # a lock file alone does not make a run used

    @unittest.skipUnless(hasattr(os, "fork"), "needs fork and SIGKILL")
    def test_lock_ends_with_a_killed_process_whose_children_live_on(self) -> None:
        path = self.checkpoint(self.runs.create("exp", "one").checkpoint_path("last"))
        holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
        assert holder.stdout is not None
        child = int(holder.stdout.readline())
        try:
            with self.assertRaisesRegex(RunError, f"in use by process {holder.pid} "), Run.of_checkpoint(path).lock():
                pass
            holder.kill()
            holder.wait()
            wait_until(functools.partial(can_lock, path), lambda: "for the lock of a killed process")
        finally:
            os.kill(child, signal.SIGKILL)
            holder.stdout.close()


def can_lock(path: Path) -> bool:
    try:
        with Run.of_checkpoint(path).lock():
            return True
    except RunError:
        return False


if __name__ == "__main__":
    unittest.main()
