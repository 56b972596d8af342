"""Long recordings with bounded memory besides their samples: features by blocks, the network by chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from hw_asr.datasets.recording import Integers, Samples, as_floats

BLANK = 0
BLOCK_SECONDS = 20
OVERLAP_SECONDS = 6.0
"""How far two chunks overlap; every frame keeps at least a quarter of it as context on either side."""
DEVIATION_OFFSET = 1e-5
"""Added to a standard deviation before dividing by it, as in `features.FeatureExtractor`."""

Array = NDArray[np.float32]
Counts = Callable[[int, int], NDArray[np.bool_]]
"""Maps (first, number) of frames to booleans: those that count for mean and variance."""


class BlockFrontEnd(NamedTuple):
    """What is needed to compute features piece by piece."""

    features: Callable[[Samples], Array]
    """Maps samples (n,) to features (F, t), without the normalisation over the recording."""
    n_fft: int
    """Samples that a frame sees."""
    hop_length: int
    """Samples between two frames."""
    normalizes: bool
    """Whether features have mean 0 and variance 1 over the recording."""


def feature_blocks(
    samples: Samples | Integers, front_end: BlockFrontEnd, block: int, counts: Counts | None = None
) -> Iterator[Array]:
    """Yield the features (F, t) of a recording (N,), computed about `block` samples at a time.

    Together they are the features of the whole recording. They are not held in memory: normalised ones are computed
    twice, first for their mean and variance, over the frames that count. Samples are floats or 16-bit integers.
    """
    if not front_end.normalizes:
        yield from _features(samples, front_end, block)
        return
    mean, deviation = _statistics(_features(samples, front_end, block), counts)
    for features in _features(samples, front_end, block):
        yield (features - mean) / (deviation + np.float32(DEVIATION_OFFSET))


def _features(samples: Samples | Integers, front_end: BlockFrontEnd, block: int) -> Iterator[Array]:
    hop = front_end.hop_length
    margin = -(-front_end.n_fft // hop)  # frames at the edges of a window that depend on where it was cut
    step = max(1, block // hop) * hop
    size = step + 2 * margin * hop + front_end.n_fft
    start, is_last = 0, False
    while not is_last:
        is_last = start + size >= len(samples)
        features = front_end.features(as_floats(samples[start : start + size]))
        yield features[:, margin if start else 0 : None if is_last else margin + step // hop]
        start += step


def _statistics(blocks: Iterable[Array], counts: Counts | None) -> tuple[Array, Array]:
    """Return the mean and the standard deviation (F, 1) over the frames of all blocks (F, t) that count.

    Sums of blocks are merged as by Chan, Golub and LeVeque (1979), without loss of precision.
    """
    count, mean, squares = 0, np.zeros((1, 1)), np.zeros((1, 1))
    first = 0
    for block in blocks:
        used = block if counts is None else block[:, counts(first, block.shape[1])]
        first += block.shape[1]
        size = used.shape[1]
        if size == 0:
            continue
        block_mean = used.mean(axis=1, keepdims=True, dtype=np.float64)
        block_squares = np.square(used - block_mean).sum(axis=1, keepdims=True)
        difference, total = block_mean - mean, count + size
        squares = squares + block_squares + np.square(difference) * (count * size / total)
        mean = mean + difference * (size / total)
        count = total
    return mean.astype(np.float32), np.sqrt(squares / max(1, count)).astype(np.float32)


def stitched(
    blocks: Iterable[Array], log_probs_of: Callable[[Array], Array], stride: int, chunk: int, overlap: int
) -> Iterator[Array]:
    """Yield blocks (t, V) of the log-probabilities of a sequence that arrives in blocks (..., n).

    `log_probs_of` maps a piece (..., n) to (n', V), `stride` steps of the sequence to one frame; it gets `chunk`
    steps at a time, so its memory does not grow with the sequence. `chunk` and `overlap` are multiples of `stride`.
    Consecutive chunks overlap, and each half of an overlap comes from the chunk that has more context there. The
    result is the closer to that of the whole sequence the faster the network forgets.
    """
    if not 0 < 2 * overlap < chunk:
        raise ValueError(f"overlap: expected more than 0 and less than half of a chunk ({chunk}), got {overlap}")
    held, held_start = np.empty(0, np.float32), 0  # from frame `held_start`; the next chunk may replace its end
    for start, piece in overlapping(blocks, chunk, overlap, stride):
        log_probs = log_probs_of(piece)
        first = start // stride
        if start == 0:
            held = log_probs
            continue
        shared = max(first, held_start)  # the last chunk may begin before the previous seam
        seam = shared + find_seam(
            held[shared - held_start :], log_probs[shared - first : held_start + len(held) - first]
        )
        yield held[: seam - held_start]
        held, held_start = log_probs[seam - first :], seam
    if held.ndim == 2:
        yield held


def overlapping(blocks: Iterable[Array], chunk: int, overlap: int, grid: int) -> Iterator[tuple[int, Array]]:
    """Yield (start, piece) of chunks that cover a sequence, each reaching at least `overlap` into the next.

    Starts are multiples of `grid`; `chunk` and `overlap` must be, too. The last chunk starts earlier than the others
    would, so that it is as long as they are: a short rest has little context.
    """
    step = chunk - overlap
    previous = None
    for start, piece, is_last in windows(blocks, chunk, step):
        if is_last and previous is not None:
            whole = np.concatenate([previous, piece[..., overlap:]], axis=-1)
            begin = -(-(whole.shape[-1] - chunk) // grid) * grid
            yield start - step + begin, whole[..., begin:]
        else:
            yield start, piece
        previous = piece


def windows(blocks: Iterable[Array], size: int, step: int) -> Iterator[tuple[int, Array, bool]]:
    """Cut a sequence that arrives in blocks along its last dimension into windows of `size`, one every `step`.

    Yields (start, window, is_last). The last window ends where the sequence does and may be shorter than `size`.
    An empty sequence has no window.
    """
    held: list[Array] = []
    count, start = 0, 0
    for block in blocks:
        held.append(block)
        count += block.shape[-1]
        if count <= size:
            continue
        sequence = np.concatenate(held, axis=-1) if len(held) > 1 else block
        while count > size:
            yield start, sequence[..., :size], False
            sequence = sequence[..., step:]
            start, count = start + step, count - step
        held = [sequence]
    if count:
        yield start, np.concatenate(held, axis=-1), True


def find_seam(earlier: Array, later: Array) -> int:
    """Return the frame at which to change from one chunk to the next, given the views (S, V) of both on shared frames.

    In the middle half it is the frame where both are surest of the blank, averaged over three frames, so that no
    character is cut or repeated when the chunks place it a frame apart. Among equal frames the one nearest to the
    middle wins.
    """
    size = len(earlier)
    padded = np.pad(earlier[:, BLANK] + later[:, BLANK], 1, mode="edge")
    quiet = (padded[:-2] + padded[1:-1] + padded[2:]) / 3
    middle = size / 2
    distance = np.abs(np.arange(size) - middle) / max(1.0, middle)
    low, high = size // 4, max(size // 4 + 1, size - size // 4)
    return low + int((quiet - 0.05 * distance)[low:high].argmax())
