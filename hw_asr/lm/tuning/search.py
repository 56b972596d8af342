"""Choosing a decoder's language model weight, word bonus and beam width on a dev set."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from hw_asr.lm.tuning.cached_emissions import CachedEmissions
from hw_asr.metrics import ErrorRate, text_errors
from hw_asr.types import CTCDecoder, best_text

_BATCH = 64


class Setting(NamedTuple):
    """Values of the arguments of `lm_beam_search`."""

    alpha: float
    beta: float
    unknown_word_offset: float
    beam_size: int


class Trial(NamedTuple):
    """Error rates of a setting on a dev set."""

    setting: Setting
    wer: float
    """Corpus rate."""
    cer: float
    """Corpus rate."""
    mean_wer: float
    """Mean of the utterances' rates."""
    seconds: float

    @property
    def loss(self) -> tuple[float, float]:
        """The minimised values: word error rate, then character error rate."""
        return self.wer, self.cer


@dataclass
class Tuning:
    """All trials, by stage, and the best setting."""

    weights: list[Trial]
    offsets: list[Trial]
    beams: list[Trial]
    best: Trial
    coarse: tuple[Sequence[float], Sequence[float]] = field(default=((), ()))
    """The alphas and betas of the first grid."""


@dataclass(frozen=True)
class SearchSpace:
    """The values that `tune` tries."""

    alphas: Sequence[float]
    """Evenly spaced."""
    betas: Sequence[float]
    """Evenly spaced."""
    offsets: Sequence[float]
    """Values of `unknown_word_offset`."""
    beam_sizes: Sequence[int]
    num_refinements: int = 3
    """How often the steps between the alphas and between the betas are halved."""
    tolerance: float = 0.0005
    """Absolute difference from the lowest word error rate that a smaller beam may have."""


DecoderFactory = Callable[[Setting], CTCDecoder]


def evaluate(emissions: CachedEmissions, decoder: CTCDecoder, setting: Setting) -> Trial:
    """Decode a dev set and count errors."""
    words, characters = ErrorRate(), ErrorRate()
    start = time.perf_counter()
    for log_probs, lengths, references in emissions.batches(_BATCH):
        for reference, hypotheses in zip(references, decoder(log_probs, lengths), strict=True):
            text = best_text(hypotheses)
            errors = text_errors(reference, text)
            words.add(errors.words)
            characters.add(errors.characters)
    return Trial(setting, words.corpus, characters.corpus, words.mean, time.perf_counter() - start)


def tune(emissions: CachedEmissions, make_decoder: DecoderFactory, start: Setting, space: SearchSpace) -> Tuning:
    """Search coarse to fine: alpha and beta on a grid and then around its best, the unknown word, the beam width.

    `start.beam_size` is used for all but the last. The chosen beam width is the smallest whose word error rate is
    within `space.tolerance` of the lowest. Every setting is tried once.
    """
    alpha_step, beta_step = _step(space.alphas), _step(space.betas)
    with tqdm(desc="tuning", unit="trial", disable=None) as progress:
        tried = _Trials(emissions, make_decoder, progress)
        best = tried.best(start._replace(alpha=alpha, beta=beta) for alpha in space.alphas for beta in space.betas)
        best = tried.refine(best, alpha_step, beta_step, space.num_refinements)
        weights = list(tried.trials.values())
        around = [best.setting._replace(unknown_word_offset=offset) for offset in space.offsets]
        best = tried.best([best.setting, *around])
        offset_trials = [tried.trials[setting] for setting in around]
        finest = 2.0 ** -max(space.num_refinements - 1, 0)
        best = tried.refine(best, finest * alpha_step, finest * beta_step, 1)
        widths = [best.setting._replace(beam_size=size) for size in sorted(space.beam_sizes)]
        tried.best(widths)
        beams = [tried.trials[setting] for setting in widths]
    lowest = min((trial.wer for trial in beams), default=best.wer)
    best = next((trial for trial in beams if trial.wer <= lowest + space.tolerance), best)
    return Tuning(weights, offset_trials, beams, best, (space.alphas, space.betas))


class _Trials:
    """Evaluates settings, each of them once."""

    def __init__(self, emissions: CachedEmissions, make_decoder: DecoderFactory, progress: tqdm) -> None:
        self._emissions = emissions
        self._make_decoder = make_decoder
        self._progress = progress
        self.trials: dict[Setting, Trial] = {}

    def best(self, settings: Iterable[Setting]) -> Trial:
        """Return the best trial of `settings`, the first one of equals."""
        return min((self._try(setting) for setting in settings), key=lambda trial: trial.loss)

    def refine(self, best: Trial, alpha_step: float, beta_step: float, num_halvings: int) -> Trial:
        """Move to the best adjacent setting while it is better, then halve the steps; alpha stays at 0 or above."""
        halvings = 0
        while halvings < num_halvings:
            around = [
                best.setting._replace(
                    alpha=round(max(best.setting.alpha + alpha_step * across, 0.0), 4),
                    beta=round(best.setting.beta + beta_step * along, 4),
                )
                for across in (-1, 0, 1)
                for along in (-1, 0, 1)
            ]
            better = self.best([best.setting, *around])
            if better.setting == best.setting:
                alpha_step, beta_step, halvings = alpha_step / 2, beta_step / 2, halvings + 1
            best = better
        return best

    def _try(self, setting: Setting) -> Trial:
        if setting not in self.trials:
            self.trials[setting] = evaluate(self._emissions, self._make_decoder(setting), setting)
            lowest = min(trial.wer for trial in self.trials.values())
            self._progress.set_postfix_str(f"WER {lowest:.2%}")
            self._progress.update()
        return self.trials[setting]


def _step(values: Sequence[float]) -> float:
    """Return the distance between evenly spaced values, 0 for a single one."""
    return (max(values) - min(values)) / (len(values) - 1) if len(values) > 1 else 0.0


def table(tuning: Tuning) -> str:
    """Return the trials as text: the coarse grid, the finer trials, unknown words, beam widths, the best."""
    lookup = {(trial.setting.alpha, trial.setting.beta): trial for trial in tuning.weights}
    alphas, betas = tuning.coarse
    lines = ["WER % by alpha (down) and beta (across)", " " * 6 + "".join(f"{beta:>8g}" for beta in betas)]
    for alpha in alphas:
        row = "".join(f"{100 * lookup[alpha, beta].wer:>8.2f}" for beta in betas)
        lines.append(f"{alpha:>6g}{row}")
    grid = {(alpha, beta) for alpha in alphas for beta in betas}
    finer = [trial for key, trial in lookup.items() if key not in grid]
    for title, trials in (
        ("finer", sorted(finer, key=lambda trial: trial.loss)[:10]),
        ("unknown words", tuning.offsets),
        ("beam width", tuning.beams),
    ):
        if trials:
            lines += ["", f"{title:<16}  alpha    beta  unknown   beam   WER %   CER %  mean WER %  seconds"]
            lines += [_row(trial) for trial in trials]
    return "\n".join([*lines, "", "best", _row(tuning.best)])


def _row(trial: Trial) -> str:
    setting = trial.setting
    return (
        f"{'':<16} {setting.alpha:>6g}  {setting.beta:>6g}  {setting.unknown_word_offset:>7g}  {setting.beam_size:>5}"
        f"  {100 * trial.wer:>6.2f}  {100 * trial.cer:>6.2f}  {100 * trial.mean_wer:>10.2f}  {trial.seconds:>7.2f}"
    )


def overlay(setting: Setting, language_model: Path | str) -> dict[str, object]:
    """Return the inference overlay that decodes with a setting, for `test.py -c`."""
    weights = {name: value for name, value in setting._asdict().items() if math.isfinite(value)}
    return {
        "decoders": [
            {"type": "argmax"},
            {"type": "beam_search", "args": {"beam_size": setting.beam_size}},
            {"type": "lm_beam_search", "args": {"language_model": str(language_model), **weights}},
        ]
    }
