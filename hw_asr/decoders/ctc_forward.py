"""The exact CTC probability of a text: the forward recursion of Graves et al. (2006), on the cells that matter."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from hw_asr.decoders.base import Matrix
from hw_asr.decoders.frames import Frames, GroupFrames, frames_of, one_utterance
from hw_asr.decoders.texts import Texts
from hw_asr.runtime.kernels import Float64Matrix, Float64Vector, Int32Vector, inner_kernel, kernel

NEGLIGIBLE = 1e-80
"""Cells below this part of a frame's largest are dropped; the recursion bounds the loss."""
TOLERANCE = 1e-13
"""The relative loss that is accepted; above it the recursion is repeated in logarithms."""
LONG, BARELY_THERE, AGREEMENT = 20_000_000, 1e-220, 1e-9
"""From so many frames times characters on (some minutes of speech) the recursion in logarithms takes seconds for each
text. There it suffices that dropping cells below `BARELY_THERE` only changes the logarithm by less than `AGREEMENT`."""
RESCALE_BELOW = 1e-60
SMALLEST = 1e-200
"""Where all cells of a frame are smaller, numbers below the smallest double could have been part of the result."""


@inner_kernel
def mass(cells: Float64Matrix, row: int, k: int) -> float:
    """Return the mass of blank k and label k."""
    total: float = cells[row, 2 * k + 2] + cells[row, 2 * k + 3]
    return total


@inner_kernel
def step(
    probs: Float64Vector, labels: Int32Vector, cells: Float64Matrix, band: tuple[int, int, int], scale: float
) -> float:
    """Compute the cells of a frame from those of the frame before; return the largest mass.

    probs (V,) are of the frame, `scale` multiplies them; band: the row of the frame before, the first and the last k.
    """
    before, begin, end = band
    now, blank, largest = 1 - before, probs[0] * scale, 0.0
    for k in range(begin, end + 1):
        cell = 2 * k + 2
        ends_in_blank = (cells[before, cell] + cells[before, cell - 1]) * blank
        ends_in_label = 0.0
        if k < labels.size:
            ends_in_label = cells[before, cell + 1] + cells[before, cell]
            if k > 0 and labels[k - 1] != labels[k]:
                ends_in_label += cells[before, cell - 1]
            ends_in_label *= probs[labels[k]] * scale
        cells[now, cell], cells[now, cell + 1] = ends_in_blank, ends_in_label
        total = ends_in_blank + ends_in_label
        largest = total if total > largest else largest
    return largest


@inner_kernel
def add_spaces(cells: Float64Matrix, before: int, k: int, p: float) -> float:
    """Let the first or last blank k be a space of probability p too; return the mass of blank k and label k."""
    cells[1 - before, 2 * k + 2] += (cells[before, 2 * k + 2] + cells[before, 2 * k + 1]) * p
    total: float = mass(cells, 1 - before, k)
    return total


@kernel
def forward(
    frames: Frames, labels: Int32Vector, space: int, cells: Float64Matrix, negligible: float
) -> tuple[float, float]:
    """Return the log-probability, without the scale of the frames, and a bound on the relative loss by dropped cells.

    Any number of spaces may be before and after the labels, unless the class `space` is -1. Cells below `negligible`
    times a frame's largest are dropped. States 0 .. 2L alternate between the blank and the labels; cells (2, 2L + 6)
    holds two frames in turn, with two empty cells before and three after the states.
    """
    probs, num_frames, num_labels = frames.probs, frames.num_frames, labels.size
    before, low, high = 1, 0, 0  # blank k and label k of the frame before are not empty for k from low to high
    for cell in range(6):
        cells[before, cell] = 1.0 if cell == 2 else 0.0
    log_scale, dropped, scale = 0.0, 0.0, 1.0
    for frame in range(num_frames):
        now = 1 - before
        begin, end = max(low, num_labels - (num_frames - frame)), min(high + 1, num_labels)
        largest = step(probs[frame], labels, cells, (before, begin, end), scale)
        if space >= 0 and begin == 0:
            largest = max(largest, add_spaces(cells, before, 0, probs[frame, space] * scale))
        if space >= 0 and end == num_labels > 0:
            largest = max(largest, add_spaces(cells, before, end, probs[frame, space] * scale))
        if largest < SMALLEST:
            return -np.inf, 1.0
        dropped *= frames.totals[frame] * scale
        while mass(cells, now, begin) < negligible * largest:
            dropped += mass(cells, now, begin)
            begin += 1
        while mass(cells, now, end) < negligible * largest:
            dropped += mass(cells, now, end)
            end -= 1
        cells[now, 2 * begin] = cells[now, 2 * begin + 1] = 0.0
        cells[now, 2 * end + 4] = cells[now, 2 * end + 5] = 0.0
        scale = 1.0
        if largest < RESCALE_BELOW:
            scale = 1.0 / largest
            log_scale += math.log(largest)
        before, low, high = now, begin, end
    result = 0.0
    if high >= num_labels - 1:
        result = cells[before, 2 * num_labels + 1]
    if high == num_labels:
        result += cells[before, 2 * num_labels + 2]
    if result * scale < SMALLEST:
        return -np.inf, 1.0
    return log_scale + math.log(result * scale), dropped / result


@kernel
def text_log_probs(group: GroupFrames, space: int, cells: Float64Matrix, texts: Texts) -> None:
    """Write the log-probabilities of the texts of the utterances of a group, all outer spaces included.

    They are NaN where `forward` loses too much. cells (2, 2L + 6) is scratch, for texts of up to L labels.
    """
    room = texts.log_probs.shape[1]
    for utterance in range(group.bounds.size - 1):
        frames = frames_of(group, utterance)
        log_scale = 0.0
        for frame in range(frames.num_frames):
            log_scale += frames.peaks[frame]
        for text in range(texts.counts[utterance]):
            first, last = texts.spans[utterance * room + text]
            log_prob, lost = forward(frames, texts.labels[first:last], space, cells, NEGLIGIBLE)
            texts.log_probs[utterance, text] = log_scale + log_prob if lost <= TOLERANCE else np.nan


def labelling_log_likelihood(log_probs: Matrix, labels: Sequence[int]) -> float:
    """Return the log-probability of a labelling of log_probs (T, V); the memory it takes grows with T + L."""
    frames, targets = one_utterance(log_probs), np.array(labels, np.int32)
    log_prob, lost = forward(frames, targets, -1, np.empty((2, 2 * len(targets) + 6)), NEGLIGIBLE)
    if lost > TOLERANCE:
        return careful_log_likelihood(frames, targets, -1)
    return log_prob + float(sum(frames.peaks.tolist()))


def careful_log_likelihood(frames: Frames, labels: Int32Vector, space: int, long: int = LONG) -> float:
    """Return the log-probability of `labels` (L,), -inf when there are too few frames, where `forward` loses too much.

    From `long` frames times labels on the tolerance is that of long recordings; see `LONG`.
    """
    num_frames, log_scale = frames.num_frames, float(sum(frames.peaks[: frames.num_frames].tolist()))
    if len(labels) + np.count_nonzero(labels[1:] == labels[:-1]) > num_frames:
        return -math.inf
    cells = np.empty((2, 2 * len(labels) + 6))
    if num_frames * len(labels) >= long:
        narrow, _ = forward(frames, labels, space, cells, NEGLIGIBLE)
        wide, _ = forward(frames, labels, space, cells, BARELY_THERE)
        if math.isfinite(wide) and abs(wide - narrow) < AGREEMENT:
            return log_scale + wide
    from hw_asr.decoders.ctc_forward_in_logarithms import forward_in_logarithms

    return log_scale + forward_in_logarithms(frames, labels, space, cells)
