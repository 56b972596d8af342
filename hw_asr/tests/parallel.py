"""Run the test modules in parallel processes: `python -m hw_asr.tests.parallel [MODULE ...] [-j JOBS]`.

The tests are those of `python -m unittest discover`, and the last lines are unittest's. Each process imports torch once
and runs one module after the other.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import sys
import tempfile
import time
import unittest
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).resolve().parent
LONG = (
    "resume", "auto_resume", "watching", "processes", "writer_backends", "quickstart", "faults", "extending",
    "start_methods",
)  # fmt: skip
"""Modules that start first, because they take longest."""


class Outcome(NamedTuple):
    """What a module did: counts, the report of its failures, its whole output, wall and processor seconds."""

    num_run: int
    num_failures: int
    num_errors: int
    num_skipped: int
    report: str
    output: str
    seconds: float
    processor_seconds: float


def run_module(name: str) -> Outcome:
    """Run a test module in this process; its output, and that of processes it starts, is captured."""
    began, used = time.perf_counter(), _processor_seconds()
    stream = io.StringIO()
    with tempfile.TemporaryFile() as file:
        saved = [os.dup(descriptor) for descriptor in (1, 2)]
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor in (1, 2):
            os.dup2(file.fileno(), descriptor)
        try:
            suite = unittest.defaultTestLoader.loadTestsFromName(f"hw_asr.tests.{name}")
            result = unittest.TextTestRunner(stream, verbosity=0).run(suite)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, original in zip((1, 2), saved, strict=True):
                os.dup2(original, descriptor)
                os.close(original)
        file.seek(0)
        output = file.read().decode("utf-8", "replace")
    report = "" if result.wasSuccessful() else stream.getvalue().rsplit("-" * 70, 1)[0]
    problems = len(result.failures) + len(result.unexpectedSuccesses), len(result.errors)
    seconds = time.perf_counter() - began
    return Outcome(
        result.testsRun, *problems, len(result.skipped), report, output, seconds, _processor_seconds() - used
    )


def _processor_seconds() -> float:
    """Return what this process and the ended processes it has started have used."""
    return sum(os.times()[:4])


def run_all(names: Sequence[str], jobs: int) -> dict[str, Outcome]:
    """Run modules, printing a line for each, and the output of those that fail."""
    outcomes: dict[str, Outcome] = {}
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        futures: dict[Future[Outcome], str] = {pool.submit(run_module, name): name for name in names}
        for future in as_completed(futures):
            name = futures[future]
            try:
                outcome = future.result()
            except BrokenProcessPool:
                outcome = Outcome(0, 0, 1, 0, f"ERROR: {name}: a test process died\n", "", 0.0, 0.0)
            outcomes[name] = outcome
            state = "FAILED" if outcome.report else "ok"
            times = f"{outcome.seconds:7.1f} s {outcome.processor_seconds:7.1f} s cpu"
            print(f"{name:36} {outcome.num_run:4} tests {times}  {state}", flush=True)
            if outcome.report:
                print(outcome.output + outcome.report, flush=True)
    return outcomes


def main() -> int:
    """Run all modules or those given; return 1 if a test fails."""
    parser = argparse.ArgumentParser(
        prog="python -m hw_asr.tests.parallel", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("modules", nargs="*", metavar="MODULE", help="test_x, for example; all by default")
    parser.add_argument("-j", "--jobs", type=int, default=os.cpu_count() or 1, help="processes; default: one per core")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes; several threads in each would only wait for each other
    names = options.modules or [path.stem for path in sorted(FOLDER.glob("test_*.py"))]
    names.sort(key=lambda name: name.removeprefix("test_") not in LONG)
    began = time.perf_counter()
    outcomes = list(run_all(names, options.jobs).values())
    failures, errors, skipped = (
        sum(getattr(outcome, field) for outcome in outcomes) for field in ("num_failures", "num_errors", "num_skipped")
    )
    counts = {"failures": failures, "errors": errors, "skipped": skipped}
    details = ", ".join(f"{name}={count}" for name, count in counts.items() if count)
    print("-" * 70)
    print(f"Ran {sum(outcome.num_run for outcome in outcomes)} tests in {time.perf_counter() - began:.3f}s\n")
    print(("FAILED" if failures + errors else "OK") + (f" ({details})" if details else ""))
    return 1 if failures + errors else 0


if __name__ == "__main__":
    sys.exit(main())
