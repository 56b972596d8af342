"""Fuzz a parser by hand: python -m hw_asr.tests.fuzz NAME --minutes N; inputs that break it are kept in a directory."""

from __future__ import annotations

import argparse
import hashlib
import itertools
import logging
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

from hw_asr.tests.fuzz.engine import SECONDS_PER_INPUT, mutations, run, targets

WORKER_SECONDS = 60.0
"""After so long a worker process is replaced by a new one with another seed."""
MEMORY_BYTES = 6 << 30


def main() -> int:
    """Fuzz; return 0, or 1 when an input broke the parser."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=sorted(targets()))
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, help="of the first worker; default: the time")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="default: fuzz-findings")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--replay", type=Path, help="parse the input that was kept under this name, and show the error")
    options = parser.parse_args()
    if options.replay is not None:
        targets()[options.name].parse(options.replay)
        return 0
    seed = int(time.time()) if options.seed is None else options.seed
    if options.worker is not None:
        return _work(options.name, seed, options.worker, options.findings, 60 * options.minutes)
    return _supervise(options.name, seed, options.findings, 60 * options.minutes)


def _supervise(name: str, seed: int, findings: Path, seconds: float) -> int:
    """Start one worker process after the other; keep the input of one that dies."""
    end, deaths = time.monotonic() + seconds, 0
    before = set(findings.glob(f"{name}-*"))
    count = 0
    for number in itertools.count(seed):
        left = end - time.monotonic()
        if left <= 0:
            break
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "hw_asr.tests.fuzz", name, "--worker", folder, "--seed", str(number)]
            command += ["--findings", str(findings), "--minutes", str(min(left, WORKER_SECONDS) / 60)]
            limit = WORKER_SECONDS + 10 * SECONDS_PER_INPUT + 60
            try:
                code = subprocess.run(command, timeout=limit, check=False).returncode
            except subprocess.TimeoutExpired:
                code = -1
            counted = Path(folder, "count")
            count += int(counted.read_text()) if counted.is_file() else 0
            if code not in (0, 1):
                deaths += 1
                for path in Path(folder).glob("input*"):
                    findings.mkdir(exist_ok=True)
                    kept = findings / f"{name}-died-{number}{path.suffix}"
                    shutil.copy(path, kept)
                    print(f"DIED with {code}: {kept}")
    new = set(findings.glob(f"{name}-*")) - before
    print(f"{name}: {count} inputs in {seconds / 60:g} minutes, {len(new)} findings")
    return 1 if new or deaths else 0


def _work(name: str, seed: int, folder: Path, findings: Path, seconds: float) -> int:
    """Parse mutated inputs for some seconds; write each that breaks the parser to `findings`."""
    target = targets()[name]
    logging.disable()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    end, count, broke, seen = time.monotonic() + seconds, 0, False, set()
    inputs = mutations(target.seeds(), target.tokens, random.Random(seed))
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 2)  # progress bars and messages of native libraries
    for finding in run(target, folder, inputs):
        count += 1
        if finding is not None:
            place = traceback.extract_tb(finding.error.__traceback__)[-1]
            kind = f"{type(finding.error).__name__} {place.filename}:{place.lineno}"
            if kind not in seen:
                seen.add(kind)
                broke = True
                findings.mkdir(exist_ok=True)
                digest = hashlib.sha256(kind.encode()).hexdigest()[:10]
                kept = findings / f"{name}-{digest}{target.suffix}"
                shutil.copy(folder / f"input{target.suffix}", kept)
                print(f"{kind}: {str(finding.error)[:200]!a}\n  {kept}", flush=True)
        if time.monotonic() > end:
            break
    (folder / "count").write_text(str(count))
    return 1 if broke else 0


if __name__ == "__main__":
    sys.exit(main())
