"""The check of GPUs runs whole on the CPU, and a part that fails, dies or hangs does so alone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest import mock

import torch

from benchmarks.gpu_check import facts
from benchmarks.gpu_check.__main__ import PARTS, run_part
from benchmarks.gpu_check.report import BAD, OK, Options, Report, Row, judge, table
from hw_asr.tests.test_devices import machine

ROOT = Path(__file__).resolve().parents[2]
OPTIONS = Options(torch.device("cpu"), quick=True, folder=Path())


class GpuCheckTest(unittest.TestCase):
    def test_every_part_on_the_cpu(self) -> None:
        with TemporaryDirectory() as folder:
            output = Path(folder, "gpu.json")
            command = [sys.executable, "-m", "benchmarks.gpu_check", "--device", "cpu", "--quick", "--minutes", "60"]
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            done = subprocess.run(
                [*command, "-o", str(output)], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
            results = json.loads(output.read_text(encoding="utf-8"))
        self.assertEqual(list(results), list(PARTS))
        for name, rows in results.items():
            self.assertGreater(len(rows), 2, name)
            self.assertIn(name, done.stdout)
        self.assertGreater(sum(row["verdict"] == OK for rows in results.values() for row in rows), 25)

    def test_parts_fail_alone_and_say_why(self) -> None:
        def fails(options: Options, report: Report) -> None:
            report(Row("before", "1"))
            raise RuntimeError("no\nkernel image")

        def dies(options: Options, report: Report) -> None:
            report(Row("before", "1"))
            os._exit(7)

        def hangs(options: Options, report: Report) -> None:
            report(Row("before", "1"))
            time.sleep(1000)

        for part, seconds, name, value in (
            (fails, 60.0, "failed", r"RuntimeError: no kernel image \(test_gpu_check.py:\d+\)"),
            (dies, 60.0, "died", "exit code 7"),
            (hangs, 5.0, "cut", "did not end within 5 s"),
        ):
            first, last, _ = run_part(part, OPTIONS, seconds)
            self.assertEqual(first, Row("before", "1"))
            self.assertEqual((last.name, last.verdict), (name, BAD))
            self.assertRegex(last.value, value)
        self.assertEqual(run_part(fails, OPTIONS, -1.0)[0].verdict, BAD)

    def test_a_device_that_cannot_be_used_stops_it_with_the_remedy(self) -> None:
        rows: list[Row] = []
        with machine(capability=(6, 0)), mock.patch.object(facts, "_driver", return_value="1"):
            facts.run(Options(torch.device("cuda"), True, Path()), rows.append)
        self.assertEqual((rows[-1].name, rows[-1].verdict), ("device", BAD))
        self.assertIn("T4", rows[-1].value)

    def test_table(self) -> None:
        rows: list[Row] = []
        judge(rows.append, "a", 0.5, 1.0)
        judge(rows.append, "bcd", float("nan"), 1.0, " s")
        self.assertEqual(table("x", rows), "x\n  a    0.5 (at most 1)  ok\n  bcd  nan s (at most 1)  BAD")


if __name__ == "__main__":
    unittest.main()
