"""Check a machine with a GPU in a few minutes: facts, the same numbers, commands, bits, speed, waits, memory, two GPUs.

    python -m benchmarks.gpu_check [--device cuda] [--minutes 8] [-o gpu.json] [--only PART ...] [--quick]

Each part runs in a process of its own: one that fails, hangs or breaks the device ends alone, with its reason. Needs no
network and no data but `demo/`. With --device cpu every part runs on the CPU, to see that the check itself works.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from benchmarks.gpu_check import bits, commands, facts, memory, numbers, several_gpus, speed, waits
from benchmarks.gpu_check.report import BAD, Options, Part, Row, table

PARTS: dict[str, Part] = {
    "facts": facts.run,
    "numbers": numbers.run,
    "bits": bits.run,
    "waits": waits.run,
    "memory": memory.run,
    "speed": speed.run,
    "several GPUs": several_gpus.run,
    "commands": commands.run,
}


def main() -> int:
    """Run the parts and print their tables; return 0 if nothing is BAD."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="parts that do not fit are cut or left out")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="run these parts only")
    parser.add_argument("--quick", action="store_true", help="small networks, few steps")
    parser.add_argument("-o", "--output", type=Path, help="also write the rows as JSON")
    arguments = parser.parse_args()
    end = time.monotonic() + 60 * arguments.minutes
    results: dict[str, list[Row]] = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        options = Options(torch.device(arguments.device), arguments.quick, Path(folder))
        for number, name in enumerate(arguments.only):
            left = end - time.monotonic()
            share = left / max(1.0, (len(arguments.only) - number) / 2)  # most parts need less than their share
            results[name] = run_part(PARTS[name], options, share)
            print(table(name, results[name]), flush=True)
            if name == "facts" and any(row.verdict == BAD for row in results[name]):
                print("the device cannot be used; see above")
                break
    if arguments.output is not None:
        rows = {name: [row._asdict() for row in part] for name, part in results.items()}
        arguments.output.write_text(json.dumps(rows, indent=2), encoding="utf-8")
    bad = sum(row.verdict == BAD for part in results.values() for row in part)
    print(f"{bad} of {sum(map(len, results.values()))} rows are BAD")
    return 1 if bad else 0


def run_part(part: Part, options: Options, seconds: float) -> list[Row]:
    """Run a part in a process forked from this one, which has not touched the device; return its rows."""
    if seconds <= 0:
        return [Row("left out", "no time left; give more --minutes", BAD)]
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_in_child, args=(part, options, sender))
    started = time.monotonic()
    process.start()
    sender.close()
    rows: list[Row] = []
    complete = False
    while receiver.poll(max(0.0, started + seconds - time.monotonic())):
        try:
            message = receiver.recv()
        except EOFError:
            break
        if message is None:
            complete = True
            break
        rows.append(message)
    else:
        rows.append(Row("cut", f"did not end within {seconds:.0f} s", BAD))
        process.kill()
        complete = True
    process.join()
    if not complete:
        rows.append(Row("died", f"exit code {process.exitcode}", BAD))
    rows.append(Row("time", f"{time.monotonic() - started:.1f} s"))
    return rows


def _in_child(part: Part, options: Options, sender: Connection) -> None:
    try:
        part(options, sender.send)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        sender.send(Row("failed", f"{reason} ({Path(place.filename).name}:{place.lineno})", BAD))
    sender.send(None)


if __name__ == "__main__":
    sys.exit(main())
