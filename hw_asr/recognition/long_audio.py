"""Long recordings with bounded memory besides their samples: features by blocks, the network by chunks."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from hw_asr.datasets.recording import INT16_SCALE
from hw_asr.features import LOG_OFFSET, FrontEnd

CPU = torch.device("cpu")
BLANK = 0
BLOCK_SECONDS = 20
OVERLAP_SECONDS = 6.0
"""How far two chunks overlap; every frame keeps at least a quarter of it as context on either side."""


def feature_blocks(
    samples: Tensor,
    front_end: FrontEnd,
    block: int,
    device: torch.device = CPU,
    counts: Callable[[int, int], Tensor] | None = None,
) -> Iterator[Tensor]:
    """Yield the features (F, t) of a recording (N,) on the CPU, computed about `block` samples at a time on `device`.

    Together they are the features of the whole recording. They are not held in memory: `normalize: "utterance"`
    computes them twice, first for their mean and variance. Samples are floats or 16-bit integers.

    `counts` maps (first, number) of frames to booleans: those that count for mean and variance. Default: all.
    """
    if front_end.normalize == "utterance":
        plain = copy.copy(front_end)
        plain.normalize = "none"
        mean, deviation = _statistics(_features(samples, plain, block, device), counts)
        return ((features - mean) / (deviation + LOG_OFFSET) for features in _features(samples, plain, block, device))
    return _features(samples, front_end, block, device)


@torch.inference_mode()
def _features(samples: Tensor, front_end: FrontEnd, block: int, device: torch.device) -> Iterator[Tensor]:
    hop = front_end.hop_length
    margin = -(-front_end.n_fft // hop)  # frames at the edges of a window that depend on where it was cut
    step = max(1, block // hop) * hop
    size = step + 2 * margin * hop + front_end.n_fft
    start, is_last = 0, False
    while not is_last:
        is_last = start + size >= len(samples)
        window = _as_floats(samples[start : start + size]).to(device)
        features, _ = front_end(window[None], torch.tensor([len(window)]))
        yield features[0, :, margin if start else 0 : None if is_last else margin + step // hop].cpu()
        start += step


def _as_floats(samples: Tensor) -> Tensor:
    return samples / INT16_SCALE if samples.dtype is torch.int16 else samples


def _statistics(blocks: Iterable[Tensor], counts: Callable[[int, int], Tensor] | None = None) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation (F, 1) over the frames of all blocks (F, t) that count.

    Sums of blocks are merged as by Chan, Golub and LeVeque (1979), without loss of precision.
    """
    count, mean, squares = 0, torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64)
    first = 0
    for block in blocks:
        used = block if counts is None else block[:, counts(first, block.shape[1])]
        first += block.shape[1]
        size = used.shape[1]
        if size == 0:
            continue
        block_mean = used.double().mean(dim=1, keepdim=True)
        block_squares = (used - block_mean).square().sum(dim=1, keepdim=True)
        difference, total = block_mean - mean, count + size
        squares = squares + block_squares + difference.square() * (count * size / total)
        mean = mean + difference * (size / total)
        count = total
    return mean.float(), (squares / max(1, count)).sqrt().float()


def stitched(
    blocks: Iterable[Tensor], log_probs_of: Callable[[Tensor], Tensor], stride: int, chunk: int, overlap: int
) -> Iterator[Tensor]:
    """Yield blocks (t, V) of the log-probabilities of a sequence that arrives in blocks (..., n), on the CPU.

    `log_probs_of` maps a piece (1, ..., n) to (n', V), `stride` steps of the sequence to one frame; it gets `chunk`
    steps at a time, so its memory does not grow with the sequence. `chunk` and `overlap` are multiples of `stride`.
    Consecutive chunks overlap, and each half of an overlap comes from the chunk that has more context there. The
    result is the closer to that of the whole sequence the faster the network forgets.
    """
    if not 0 < 2 * overlap < chunk:
        raise ValueError(f"overlap: expected more than 0 and less than half of a chunk ({chunk}), got {overlap}")
    held, held_start = torch.empty(0), 0  # log-probabilities from frame `held_start` on that the next chunk may replace
    for start, piece in overlapping(blocks, chunk, overlap, stride):
        log_probs = log_probs_of(piece[None]).cpu()
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


def overlapping(blocks: Iterable[Tensor], chunk: int, overlap: int, grid: int) -> Iterator[tuple[int, Tensor]]:
    """Yield (start, piece) of chunks that cover a sequence, each reaching at least `overlap` into the next.

    Starts are multiples of `grid`; `chunk` and `overlap` must be, too. The last chunk starts earlier than the others
    would, so that it is as long as they are: a short rest has little context.
    """
    step = chunk - overlap
    previous = None
    for start, piece, is_last in windows(blocks, chunk, step):
        if is_last and previous is not None:
            whole = torch.cat([previous, piece[..., overlap:]], dim=-1)
            begin = -(-(whole.shape[-1] - chunk) // grid) * grid
            yield start - step + begin, whole[..., begin:]
        else:
            yield start, piece
        previous = piece


def windows(blocks: Iterable[Tensor], size: int, step: int) -> Iterator[tuple[int, Tensor, bool]]:
    """Cut a sequence that arrives in blocks along its last dimension into windows of `size`, one every `step`.

    Yields (start, window, is_last). The last window ends where the sequence does and may be shorter than `size`.
    An empty sequence has no window.
    """
    held: list[Tensor] = []
    count, start = 0, 0
    for block in blocks:
        held.append(block)
        count += block.shape[-1]
        if count <= size:
            continue
        sequence = torch.cat(held, dim=-1) if len(held) > 1 else block
        while count > size:
            yield start, sequence[..., :size], False
            sequence = sequence[..., step:]
            start, count = start + step, count - step
        held = [sequence]
    if count:
        yield start, torch.cat(held, dim=-1), True


def find_seam(earlier: Tensor, later: Tensor) -> int:
    """Return the frame at which to change from one chunk to the next, given the views (S, V) of both on shared frames.

    In the middle half it is the frame where both are surest of the blank, averaged over three frames, so that no
    character is cut or repeated when the chunks place it a frame apart. Among equal frames the one nearest to the
    middle wins.
    """
    size = len(earlier)
    blank = (earlier[:, BLANK] + later[:, BLANK]).float()
    padded = torch.nn.functional.pad(blank[None, None], (1, 1), mode="replicate")
    quiet = torch.nn.functional.avg_pool1d(padded, 3, stride=1)[0, 0]
    middle = size / 2
    distance = (torch.arange(size) - middle).abs() / max(1.0, middle)
    low, high = size // 4, max(size // 4 + 1, size - size // 4)
    return low + int((quiet - 0.05 * distance)[low:high].argmax())
