"""Alignment of texts: errors of word times, what is found of differences and by an audit, time and memory for an hour.

    python -m benchmarks.alignment -r model_best.pth [--speech demo/corpus/test.jsonl] [--minutes 60]

The recordings are utterances of a manifest, one after the other with pauses of 0.2 to 1 s. Speech begins and ends where
the level of an utterance first and last is within 40 dB of its loudest 10 ms; those are the borders that the first and
the last word of the utterance should have.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections import Counter
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

import hw_asr
from benchmarks.alignment_data import Part, Speech, planted, text_of
from hw_asr.alignment.audit import fit_of
from hw_asr.alignment.search import align_text
from hw_asr.alignment.transcript import read_transcript
from hw_asr.datasets.recording import Recording, as_floats
from hw_asr.metrics import text_errors
from hw_asr.types import TextEncoder

ROOT = Path(__file__).resolve().parents[1]


def borders(recogniser: hw_asr.Recogniser, speech: Speech, minutes: float) -> None:
    """Print the errors of the first start and the last end of utterances."""
    starts, ends = [], []
    for seed in tqdm(range(max(1, round(minutes))), desc="borders", disable=None):
        samples, parts = speech.recording(60, ("same",), seed)
        alignment = recogniser.align(samples, text_of(parts), recogniser.sample_rate)
        place = 0
        for part in parts:
            first, last = alignment.words[place], alignment.words[place + len(part.text) - 1]
            place += len(part.text)
            starts += [first.start - part.start] if first.start is not None else []
            ends += [last.end - part.end] if last.end is not None else []
    print(f"\nborders: {len(starts)} starts and {len(ends)} ends of utterances")
    print(f"{'':8}{'median':>9}{'median error':>14}{'within 50 ms':>14}{'100 ms':>9}")
    for name, values in (("starts", np.array(starts)), ("ends", np.array(ends)), ("both", np.array(starts + ends))):
        errors = np.abs(values)
        shares = f"{(errors <= 0.05).mean():>14.1%}{(errors <= 0.1).mean():>9.1%}"
        print(f"{name:8}{1000 * np.median(values):>6.0f} ms{1000 * np.median(errors):>11.0f} ms{shares}")


def differences(recogniser: hw_asr.Recogniser, speech: Speech, minutes: float) -> None:
    """Print how many planted differences are found, in 40 % of the utterances of recordings of five minutes."""
    counts = dict.fromkeys(("missing", "missing found", "words", "wrongly missing", "extra", "extra found"), 0)
    kinds = ("same",) * 6 + ("left out", "inserted", "swapped") + ("same",)
    wrong = 0
    for seed in tqdm(range(max(1, round(minutes / 5))), desc="differences", disable=None):
        samples, parts = speech.recording(300, kinds, 1000 + seed)
        alignment = recogniser.align(samples, text_of(parts), recogniser.sample_rate)
        place, unknown = 0, []
        for part in parts:
            spoken = [word.spoken for word in alignment.words[place : place + len(part.text)]]
            place += len(part.text)
            if part.kind == "same":
                counts["words"] += len(spoken)
                counts["wrongly missing"] += spoken.count(False)
                continue
            counts["missing"] += len(spoken)
            counts["missing found"] += spoken.count(False)
            unknown += [part] if part.said else []
        stretches = [(stretch.start, stretch.end) for stretch in alignment.extra_speech]
        counts["extra"] += len(unknown)
        counts["extra found"] += sum(covered(part, stretches) > 0.5 for part in unknown)
        wrong += sum(all(end < part.start or start > part.end for part in unknown) for start, end in stretches)
    print(f"\ndifferences: {counts['missing found']} of {counts['missing']} words that are not spoken are found; "
          f"{counts['wrongly missing']} of {counts['words']} spoken words are taken for missing")  # fmt: skip
    print(f"{counts['extra found']} of {counts['extra']} utterances that are not in the text are found (more than half "
          f"of them); {wrong} stretches are wrong")  # fmt: skip


def covered(part: Part, stretches: list[tuple[float, float]]) -> float:
    """Return the share of a part that is in stretches."""
    seconds = sum(max(0.0, min(end, part.end) - max(start, part.start)) for start, end in stretches)
    return seconds / (part.end - part.start)


def long_recording(recogniser: hw_asr.Recogniser, speech: Speech, minutes: float) -> None:
    """Print processor time and memory of aligning a long recording, beyond the network's."""
    for kinds in (("same",), ("same",) * 8 + ("left out", "swapped")):
        samples, parts = speech.recording(60 * minutes, kinds, 7)
        recording = Recording((samples * 32767).astype(np.int16))
        begun = time.process_time()
        (log_probs,) = recogniser.log_probs([recording])
        network = time.process_time() - begun
        transcript = read_transcript(text_of(parts), recogniser.text_encoder)
        arguments = (log_probs.astype(np.float64), transcript, recogniser.text_encoder, recogniser.seconds_per_frame)
        begun = time.process_time()
        align_text(*arguments)
        seconds = time.process_time() - begun
        tracemalloc.start()
        align_text(*arguments)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        share = 1 - sum(part.kind == "same" for part in parts) / len(parts)
        print(f"\n{minutes:g} minutes, {len(text_of(parts))} characters, {share:.0%} of the utterances differ: network "
              f"{network:.1f} s, alignment {seconds:.1f} s of processor time, peak {peak / 1e6:.0f} MB")  # fmt: skip


def audit(recogniser: hw_asr.Recogniser, manifest: Path, noisy: bool) -> None:
    """Print how many planted faults are among as many utterances with the worst scores; 5 % of each kind, 5 draws.

    With `noisy`, half of the recordings have white noise, at a signal-to-noise ratio of 0, 5, 10 or 15 dB.
    """
    generator = np.random.default_rng(0)
    rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    encoder, texts = recogniser.text_encoder, [row["text"] for row in rows]
    log_probs = []
    for row in tqdm(rows, desc="audit", disable=None):
        samples = as_floats(recogniser.read(manifest.parent / row["path"]).samples)
        if noisy and generator.random() < 0.5:
            level = np.sqrt(np.square(samples).mean()) * 10 ** (-generator.choice([0, 5, 10, 15]) / 20)
            samples = samples + np.float32(level) * generator.standard_normal(len(samples), np.float32)
        log_probs += recogniser.log_probs([Recording(samples)])
    found: dict[str, Counter[str]] = {name: Counter() for name in ("loss", "CER", "confidence")}
    for seed in range(5):
        faulty, kinds = planted(texts, seed)
        fits = [fit_of(frames, text, encoder, recogniser.seconds_per_frame)
                for frames, text in zip(log_probs, faulty, strict=True)]  # fmt: skip
        heard = [argmax_text(frames, encoder) for frames in log_probs]
        scores = {
            "loss": [fit.loss for fit in fits],
            "CER": [text_errors(text, other).characters.rate for text, other in zip(faulty, heard, strict=True)],
            "confidence": [-fit.confidence for fit in fits],
        }
        for name, values in scores.items():
            worst = sorted(range(len(rows)), key=lambda index: -values[index])[: len(kinds)]
            found[name].update(kinds[index] for index in worst if index in kinds)
    recordings = "half of the recordings are noisy" if noisy else "as recorded"
    print(f"\naudit, {recordings}: {len(kinds)} faults among {len(rows)} utterances; share in the worst {len(kinds)}")
    print(f"{'ranked by':14}" + "".join(f"{kind:>10}" for kind in ("swapped", "cut", "foreign", "all")))
    for name, counts in found.items():
        shares = [counts[kind] / (5 * len(kinds) / 3) for kind in ("swapped", "cut", "foreign")]
        print(f"{name:14}" + "".join(f"{share:>10.1%}" for share in [*shares, sum(shares) / 3]))


def argmax_text(log_probs: NDArray[np.float32], encoder: TextEncoder) -> str:
    """Return the text of the most probable classes."""
    return encoder.decode([label for label, _ in groupby(log_probs.argmax(axis=1).tolist()) if label])


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("-r", "--resume", type=Path, required=True, metavar="CKPT")
    parser.add_argument("--speech", type=Path, default=ROOT / "demo/corpus/test.jsonl", help="manifest of utterances")
    parser.add_argument("--minutes", type=float, default=60.0, help="of the long recording; default: 60")
    parser.add_argument("--border-minutes", type=float, default=20.0, help="of speech for borders; default: 20")
    options = parser.parse_args()
    torch.set_num_threads(1)
    recogniser = hw_asr.load(options.resume, decoder="argmax", device="cpu")
    speech = Speech(options.speech, recogniser.sample_rate)
    borders(recogniser, speech, options.border_minutes)
    differences(recogniser, speech, options.border_minutes)
    for noisy in (False, True):
        audit(recogniser, options.speech, noisy)
    if options.minutes > 0:
        long_recording(recogniser, speech, options.minutes)


if __name__ == "__main__":
    main()
