"""Heat map of a tuning: word error rate over language model weight and word bonus."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from hw_asr.lm.tuning.search import Tuning
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.optional import optional_import


def plot(tuning: Tuning, path: Path, title: str) -> None:
    """Write a heat map (PNG): the coarse grid as tiles, finer trials as dots, a star at the best."""
    with optional_import("the heat map", "matplotlib", "plots"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

    alphas, betas = (sorted(values) for values in tuning.coarse)
    rates = {(trial.setting.alpha, trial.setting.beta): 100 * trial.wer for trial in tuning.weights}
    tiles = np.array([[rates[alpha, beta] for beta in betas] for alpha in alphas])
    others = np.array([(beta, alpha, rate) for (alpha, beta), rate in rates.items()])
    lowest = min(rates.values())
    # The colours cover the rates near the best; all others have the last colour.
    highest = max(float(np.quantile(others[:, 2], 0.75)), lowest + 0.01)
    figure = Figure(figsize=(7.5, 5.5), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    mesh = axes.pcolormesh(_edges(betas), _edges(alphas), tiles, cmap="viridis_r", vmin=lowest, vmax=highest)
    axes.scatter(
        others[:, 0], others[:, 1], c=others[:, 2], cmap="viridis_r", vmin=lowest, vmax=highest, s=36,
        edgecolors="white", linewidths=0.6,
    )  # fmt: skip
    for row, alpha in enumerate(alphas):
        for column, beta in enumerate(betas):
            axes.annotate(
                f"{tiles[row, column]:.1f}", (beta, alpha), xytext=(0, 7), textcoords="offset points",
                ha="center", fontsize=8, color="black", bbox={"fc": "white", "ec": "none", "alpha": 0.6, "pad": 1},
            )  # fmt: skip
    best = tuning.best.setting
    axes.plot(best.beta, best.alpha, marker="*", markersize=18, color="red", markeredgecolor="white")
    axes.set_xlabel("beta: bonus per word, nats")
    axes.set_ylabel("alpha: weight of the language model")
    axes.set_title(
        f"{title}\nbest: alpha {best.alpha:g}, beta {best.beta:g}, beam {best.beam_size}: WER {tuning.best.wer:.2%}",
        fontsize=10,
    )
    figure.colorbar(mesh, ax=axes, label="word error rate, %", extend="max")
    with write_and_rename(path) as file:
        figure.savefig(file, format="png")


def _edges(centres: Sequence[float]) -> list[float]:
    """Return the borders of tiles around evenly spaced centres."""
    half = (centres[-1] - centres[0]) / (len(centres) - 1) / 2 if len(centres) > 1 else 0.5
    return [centres[0] - half, *(centre + half for centre in centres)]
