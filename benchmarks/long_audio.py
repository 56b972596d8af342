"""Processor time and memory of transcribing long recordings, on one core.

    python -m benchmarks.long_audio -r model_best.pth --speech demo/corpus/test.jsonl [--minutes 20 60 180]
        [--language-model lm.arpa] [--against OTHER_CHECKOUT]

The recordings are utterances of a manifest, one after the other with pauses of up to a second, as FLAC. Each is
transcribed in a process of its own: `beyond` is the processor time without that of the network's forward pass. With
`--against`, `test.py` of another checkout runs as well, in turns.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

RATE = 16_000
ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Make the recordings, transcribe each in a new process and print a row of figures."""
    options = parse_arguments()
    if options.child:
        transcribe(options.resume, options.child, options.language_model)
        return
    print(f"{'minutes':>8}{'code':>8}{'processor s':>13}{'network s':>11}{'beyond s':>10}{'peak MB':>9}{'words':>8}")
    with tempfile.TemporaryDirectory() as folder:
        for minutes in options.minutes:
            path = Path(folder) / f"{minutes:g}.flac"
            write_recording(options.speech, path, 60 * minutes)
            show(minutes, "this", measure(child_command(options, path), ROOT, path))
            if options.against is not None:
                show(minutes, "other", measure(other_command(options, path), options.against, path, options.timeout))
            path.unlink()


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-r", "--resume", type=Path, required=True, metavar="CKPT")
    parser.add_argument("--speech", type=Path, default=ROOT / "demo/corpus/test.jsonl", help="manifest of utterances")
    parser.add_argument("--minutes", type=float, nargs="+", default=[20, 60, 180])
    parser.add_argument("--language-model", type=Path, help="decode by lm_beam_search instead of beam_search")
    parser.add_argument("--against", type=Path, metavar="DIR", help="another checkout of the project to measure")
    parser.add_argument("--timeout", type=float, default=900, help="seconds that checkout may take for a recording")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def write_recording(manifest: Path, path: Path, seconds: float) -> None:
    """Write utterances of a manifest in random order, with pauses and noise at -70 dBFS, until `seconds` are full."""
    from hw_asr.datasets.audio import read_audio

    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    utterances = [read_audio(manifest.parent / row["path"], RATE) for row in rows]
    generator = np.random.default_rng(0)
    left = round(seconds * RATE)
    with soundfile.SoundFile(path, "w", RATE, 1) as file:
        while left > 0:
            pause = np.zeros(generator.integers(RATE // 5, RATE), np.float32)
            block = np.concatenate([utterances[generator.integers(len(utterances))], pause])[:left]
            file.write(block + 3e-4 * generator.standard_normal(len(block), np.float32))
            left -= len(block)


def child_command(options: argparse.Namespace, path: Path) -> list[str]:
    """Return the command that transcribes with this checkout."""
    command = [
        sys.executable,
        "-m",
        "benchmarks.long_audio",
        "-r",
        str(options.resume.absolute()),
        "--child",
        str(path),
    ]
    return [*command, "--language-model", str(options.language_model.absolute())] if options.language_model else command


def other_command(options: argparse.Namespace, path: Path) -> list[str]:
    """Return the command that transcribes with another checkout, with the same decoder."""
    decoder = {"type": "beam_search", "args": {"beam_size": 100}}
    if options.language_model:
        model = {"language_model": str(options.language_model.absolute())}
        decoder = {"type": "lm_beam_search", "args": model}
    output = path.with_suffix(".json")
    command = [sys.executable, "test.py", "-r", str(options.resume.absolute()), "-t", str(path), "-o", str(output)]
    return [*command, "-d", "cpu", "-j", "0", "--set", f"decoders={json.dumps([decoder])}"]


def measure(command: list[str], directory: Path, path: Path, timeout: float | None = None) -> dict[str, float | None]:
    """Run a command on one core; return its processor seconds, peak memory and what it wrote beside the recording."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(directory)}
    process = subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, preexec_fn=lambda: limit(timeout)
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    figures: dict[str, float | None] = {"processor": usage.ru_utime + usage.ru_stime, "peak": usage.ru_maxrss / 1024}
    output = path.with_suffix(".json")
    if output.exists():
        found = json.loads(output.read_text(encoding="utf-8"))
        figures |= found if isinstance(found, dict) else {"words": len(found[0]["words"])}
        output.unlink()
    return figures


def limit(seconds: float | None) -> None:
    """Use one core, and let the system end this process after so many seconds of processor time."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    if seconds is not None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(seconds), int(seconds)))


def show(minutes: float, code: str, figures: dict[str, float | None]) -> None:
    """Print a row; "-" where there is no figure."""
    processor, network = figures["processor"], figures.get("network")
    beyond = None if network is None or processor is None else processor - network
    cells = [(processor, 13, ".1f"), (network, 11, ".1f"), (beyond, 10, ".1f"), (figures["peak"], 9, ".0f")]
    cells.append((figures.get("words"), 8, ".0f"))
    row = "".join(f"{'-' if value is None else format(value, form):>{width}}" for value, width, form in cells)
    print(f"{minutes:>8g}{code:>8}{row}", flush=True)


def transcribe(checkpoint: Path, path: Path, language_model: Path | None) -> None:
    """Transcribe a recording; write the network's processor seconds and the number of words beside it."""
    import torch

    import hw_asr

    torch.set_num_threads(1)
    decoder = "lm_beam_search" if language_model else "beam_search"
    recogniser = hw_asr.load(checkpoint, decoder=decoder, language_model=language_model, device="cpu")
    network, begun = 0.0, 0.0

    def begin(module: torch.nn.Module, _: object) -> None:
        nonlocal begun
        begun = time.process_time() if is_whole(module) else begun

    def end(module: torch.nn.Module, *_: object) -> None:
        nonlocal network
        network += time.process_time() - begun if is_whole(module) else 0.0

    def is_whole(module: torch.nn.Module) -> bool:
        return hasattr(module, "transform_input_lengths") and hasattr(module, "linear")

    torch.nn.modules.module.register_module_forward_pre_hook(begin)
    torch.nn.modules.module.register_module_forward_hook(end)
    result = recogniser.transcribe(path)
    figures = {"network": network, "words": len(result.words), "segments": len(result.segments)}
    path.with_suffix(".json").write_text(json.dumps(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
