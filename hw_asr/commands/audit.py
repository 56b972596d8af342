"""Scores the transcripts of a corpus by a model and lists those that do not fit, the worst first."""

from __future__ import annotations

import argparse
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from hw_asr.commands.audit_run import Auditor, SpelledText, audit
from hw_asr.commands.output_files import check_file, relative_path, reserved, write_lines, writing
from hw_asr.commands.partial_results import PartialResults, key_of
from hw_asr.commands.recognition_model import make_model
from hw_asr.commands.sources import given_utterances, warn_of_dropped
from hw_asr.config import ConfigError, ExperimentConfig
from hw_asr.errors import UserError, nearest
from hw_asr.experiment import components
from hw_asr.experiment.checkpoint_config import for_evaluation
from hw_asr.experiment.config_permissions import Named, Trust
from hw_asr.recognition import loading
from hw_asr.recognition.recogniser import Recogniser, Settings
from hw_asr.report.results import read_results
from hw_asr.runtime.console import aligned, set_up_logging
from hw_asr.runtime.memory import explain_out_of_memory
from hw_asr.types import TextEncoder, Utterance

logger = logging.getLogger(__name__)

Entry = Mapping[str, object]
WORST = 10
"""Utterances that are printed."""
TEXT_WIDTH = 40


class AuditError(UserError):
    """Data that cannot be audited."""


def run(options: argparse.Namespace) -> int:
    """Score, write, print; return 0. Raises UserError for everything the user can correct."""
    set_up_logging(1)
    _check_options(options)
    if options.results is not None:
        _write(options, _read(options.results))
        return 0
    with reserved(options.output):
        _audit(options)
    return 0


def _write(options: argparse.Namespace, entries: Sequence[Entry]) -> None:
    """Print the summary; write the page and the manifest, if requested."""
    print(_summary(entries))
    if options.results is None:
        print(f"results: {options.output}")
    if options.report is not None:
        from hw_asr.report.page import write_report

        with writing(options.report, "--report"):
            write_report(entries, options.report, title="audit", totals={})
        print(f"report: {options.report}")
    if options.keep is not None:
        kept = _kept(entries, options.max_loss, options.drop_share)
        write_lines([_row(entry, options.keep.parent) for entry in kept], options.keep, "--keep")
        print(f"kept: {options.keep}: {len(kept)} of {len(entries)} utterances")


def _check_options(options: argparse.Namespace) -> None:
    faults = []
    if options.batch_size < 1 or options.jobs < 0:
        faults.append(f"--batch-size, --jobs: expected at least 1 and 0, got {options.batch_size} and {options.jobs}")
    if options.max_loss is not None and not options.max_loss >= 0:
        faults.append(f"--max-loss: expected 0 or more, got {options.max_loss:g}")
    if options.drop_share is not None and not 0 <= options.drop_share < 1:
        faults.append(f"--drop-share: expected at least 0 and less than 1, got {options.drop_share:g}")
    if faults:
        raise ConfigError(faults, "command line")
    inputs = options.resume, options.config, options.data, options.results
    for path, option, begins in (
        (options.output if options.results is None else None, "--output", "["),
        (options.report, "--report", "<"),
        (options.keep, "--keep", "{"),
    ):
        if path is not None:
            check_file(path, option, inputs, begins)


def _audit(options: argparse.Namespace) -> None:
    """Score all utterances, saving each result at once; write the entries, the worst first, and what is requested."""
    checkpoint = loading.read_checkpoint(options.resume)
    named = Named(
        options.config, options.assignments, trust=Trust(frozenset(options.allowed_modules), options.trust_config)
    )
    reads = options.data is None
    config = for_evaluation(options.resume, named, lambda split: reads and split == options.split, checkpoint).config
    model = make_model(options, checkpoint, config)
    decoders = loading.make_decoders({"argmax": {"type": "argmax"}}, model.text_encoder)
    recogniser = Recogniser(model, decoders, Settings(max_audio_hours=config.preprocessing.max_audio_hours))
    utterances = _utterances(options, config, model.text_encoder)
    parts = {
        "command": "audit",
        "recordings": options.split if options.data is None else str(options.data.resolve()),
        "config": {name: part for name, part in config.raw.items() if name != "trainer"},
    }
    key = key_of(parts, {"checkpoint": options.resume})
    auditor = Auditor(recogniser, decoders["argmax"], config.preprocessing.max_audio_hours)
    with (
        PartialResults(options.output, key, options.overwrite) as partial,
        explain_out_of_memory("use a smaller batch (-b), or --device cpu"),
    ):
        entries = sorted(audit(utterances, auditor, partial, options.batch_size, options.jobs), key=_rank)
    partial.write(entries)
    _write(options, entries)
    partial.delete()


def _utterances(options: argparse.Namespace, config: ExperimentConfig, encoder: TextEncoder) -> list[Utterance]:
    """Return the utterances to score, with normalised texts. Raises AuditError when none has a text."""

    def spelled(text: str) -> SpelledText:
        return SpelledText.of(text, encoder.normalize)

    if options.data is None:
        if options.split not in config.data:
            raise ConfigError([f"data: no split {options.split!r}{nearest(options.split, config.data)}"], "--split")
        corpora = components.build_corpora(config, options.split)
        utterances, dropped = components.select_utterances(corpora, spelled)
        warn_of_dropped(options.split, dropped)
    else:
        utterances = given_utterances(options.data, spelled)
    scored = [each._replace(text=spelled(each.text)) for each in utterances if each.text is not None]
    if len(scored) < len(utterances):
        logger.warning("%d left out: no text", len(utterances) - len(scored))
    if not scored:
        raise AuditError(
            f"{options.data or options.split}: no utterance has a text; give a manifest with `text`, or a folder with "
            "audio/ and transcriptions/"
        )
    return scored


def _read(path: Path) -> list[Entry]:
    """Return the entries of an earlier audit. Raises AuditError for another file."""
    entries = read_results(path)
    if not all("loss" in entry or "error" in entry for entry in entries):
        raise AuditError(f"{path}: not the result of an audit: there is no `loss`; audit with -r CKPT first")
    return sorted(entries, key=_rank)


def _rank(entry: Entry) -> float:
    return -_loss(entry)


def _loss(entry: Entry) -> float:
    """Return the loss of an entry: infinite for a text that is too long and for a recording that cannot be read."""
    loss = entry.get("loss")
    return float(loss) if isinstance(loss, (int, float)) else math.inf


def _kept(entries: Sequence[Entry], max_loss: float | None, drop_share: float | None) -> list[Entry]:
    """Return the readable entries up to a loss, or without a share of the worst, sorted by file and offset."""
    if drop_share is not None:
        entries = entries[round(drop_share * len(entries)) :]
    limit = math.inf if max_loss is None else max_loss
    kept = [entry for entry in entries if math.isfinite(_loss(entry)) and _loss(entry) <= limit]
    return sorted(kept, key=_place)


def _place(entry: Entry) -> tuple[str, float]:
    offset = entry.get("offset")
    return str(entry["audio_path"]), float(offset) if isinstance(offset, (int, float)) else 0.0


def _row(entry: Entry, directory: Path) -> dict[str, object]:
    """Return the row of a manifest in `directory`."""
    row = {name: entry[name] for name in ("duration", "offset", "speaker") if entry.get(name) is not None}
    row = {"text": entry.get("text", entry["ground_truth"]), **row}
    return {"path": relative_path(Path(str(entry["audio_path"])), directory), **row}


def _summary(entries: Sequence[Entry]) -> str:
    """Return the quantiles of the loss and the worst utterances."""
    losses = np.array([_loss(entry) for entry in entries])
    finite = losses[np.isfinite(losses)]
    lines = [f"{len(entries)} utterances"]
    if len(finite):
        quantiles = "  ".join(f"{share:.0%}: {np.quantile(finite, share):.2f}" for share in (0.5, 0.9, 0.95, 0.99))
        lines.append(f"loss, nats per character: {quantiles}")
    for count, what in (
        (sum("error" in entry for entry in entries), "recordings cannot be read"),
        (sum("error" not in entry and not math.isfinite(_loss(entry)) for entry in entries),
         "texts are too long for their recordings"),
    ):  # fmt: skip
        if count:
            lines.append(f"{count} {what}")
    rows = [["the worst", "loss", "text", "heard"]]
    rows += [
        [Path(str(entry["audio_path"])).name, f"{_loss(entry):.2f}", _short(entry.get("ground_truth")),
         _short(entry.get("error", entry.get("pred_text_argmax")))]
        for entry in entries[:WORST]
    ]  # fmt: skip
    return "\n".join([*lines, "", aligned(rows), ""])


def _short(text: object) -> str:
    shown = str(text or "")
    return shown if len(shown) <= TEXT_WIDTH else f"{shown[: TEXT_WIDTH - 3]}..."
