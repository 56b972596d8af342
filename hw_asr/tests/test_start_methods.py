"""Loader workers under each start method of multiprocessing, in real processes that are really killed."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import numpy as np
import soundfile

from hw_asr.tests.waiting import DEADLINE, is_running, wait_until

ROOT = Path(__file__).resolve().parents[2]
RATE = 8000
PROGRAM = """
import multiprocessing, os, signal, subprocess, sys
from pathlib import Path

def main(method, folder):
    multiprocessing.set_start_method(method)
    import torch
    from hw_asr.datasets.folder import find_recordings
    from hw_asr.datasets.loader import make_loader
    from hw_asr.datasets.manifest import DataError
    from hw_asr.datasets.samplers import SequentialBatchSampler, Shard
    from hw_asr.datasets.speech import SpeechDataset
    from hw_asr.text.encoder import CTCCharTextEncoder

    dataset = SpeechDataset(find_recordings(Path(folder)).utterances, CTCCharTextEncoder(), 8000)
    def loader(num_workers):
        return make_loader(dataset, SequentialBatchSampler(2, Shard(dataset.durations)), num_workers)

    signals = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: signals.append(signal.Signals(number).name))
    workers = loader(1)
    batches = iter(workers)
    samples = [next(batches).samples]
    for name in ("-TERM", "-INT"):
        subprocess.run(["setsid", "kill", name, "--", f"-{os.getpgrp()}"], check=True)
    samples += [batch.samples for batch in batches]
    print(*signals, all(map(torch.equal, samples, (batch.samples for batch in loader(0)))), len(samples))

    batches = iter(workers)
    os.kill(workers._iterator._workers[0].pid, signal.SIGKILL)
    try:
        list(batches)
    except DataError as error:
        print(error)

    workers = loader(2)
    batches = iter(workers)
    next(batches)
    print(*(worker.pid for worker in workers._iterator._workers), flush=True)
    sys.stdin.readline()

if __name__ == "__main__":
    main(*sys.argv[1:])
"""


@unittest.skipUnless(hasattr(signal, "sigwaitinfo"), "needs POSIX signals")
class StartMethodTest(unittest.TestCase):
    def setUp(self) -> None:
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)
        for index in range(20):
            samples = np.random.default_rng(index).uniform(-0.5, 0.5, 400 + 100 * index)
            soundfile.write(self.directory / f"{index}.wav", samples, RATE)
        (self.directory / "program.py").write_text(PROGRAM, encoding="utf-8")

    def run_program(self, method: str, *, kill: bool) -> None:
        process = subprocess.Popen(
            [sys.executable, str(self.directory / "program.py"), method, str(self.directory)],
            env={**os.environ, "PYTHONPATH": str(ROOT)}, start_new_session=True, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.addCleanup(kill_group, process.pid)
        with process:
            assert process.stdout is not None and process.stderr is not None and process.stdin is not None
            lines = [process.stdout.readline().strip() for _ in range(3)]
            if not lines[2]:
                self.fail("".join(lines) + process.stderr.read())
            self.assertEqual(lines[0], "SIGTERM SIGINT True 10")
            self.assertRegex(lines[1], r"a data loading process died \(exit code -9\).*num_workers")
            workers = [int(word) for word in lines[2].split()]
            self.assertTrue(all(map(is_running, workers)))
            if kill:
                process.kill()
            else:
                process.stdin.close()
            self.assertEqual(process.wait(DEADLINE), -signal.SIGKILL if kill else 0, process.stderr.read())
            wait_until(lambda: not any(map(is_running, workers)), lambda: f"for {workers} to end")

    def test_fork_and_a_killed_parent(self) -> None:
        self.run_program("fork", kill=True)

    def test_spawn_and_a_normal_exit(self) -> None:
        self.run_program("spawn", kill=False)

    def test_forkserver_and_a_killed_parent(self) -> None:
        self.run_program("forkserver", kill=True)

    def test_forkserver_and_a_normal_exit(self) -> None:
        self.run_program("forkserver", kill=False)

    def test_all_methods_of_this_python_are_tested(self) -> None:
        self.assertEqual(set(multiprocessing.get_all_start_methods()), {"fork", "spawn", "forkserver"})


def kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    unittest.main()
