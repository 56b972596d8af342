"""Recordings longer than memory allows: log-probabilities by chunks that overlap, joined where both are silent."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

BLANK = 0


def stitched_log_probs(
    samples: Tensor,
    log_probs_of: Callable[[Tensor], Tensor],
    samples_per_frame: int,
    sample_rate: int,
    chunk_seconds: float = 30.0,
    overlap_seconds: float = 6.0,
) -> Tensor:
    """Return (T, V) log-probabilities of a recording (N,), on the CPU, as if it had been computed in one piece.

    `log_probs_of` maps (1, n) samples to (t, V); only `chunk_seconds` of audio are in it at a time, so its memory does
    not grow with the recording. `samples_per_frame` is the hop of the spectrogram times the strides in time.

    Neighbouring chunks overlap, and each half of an overlap is taken from the chunk that knows more of what lies around
    it. Texts are not joined: a decoder that reads the result sees one recording, whose words have its own clock. Every
    frame has at least a quarter of the overlap as context on either side; a unidirectional network is the closer to
    exact the faster it forgets, a bidirectional one likewise. Features must not be normalised over the utterance, for
    then every chunk would have its own scale.

    Raises ValueError when the overlap is not shorter than half of a chunk.
    """
    chunk = _on_grid(chunk_seconds * sample_rate, samples_per_frame)
    overlap = _on_grid(overlap_seconds * sample_rate, samples_per_frame)
    if not 0 < 2 * overlap < chunk:
        raise ValueError(
            f"overlap_seconds: expected more than 0 and less than half of chunk_seconds ({chunk_seconds:g}), "
            f"got {overlap_seconds:g}"
        )
    parts: list[Tensor] = []
    held, held_start = torch.empty(0), 0  # the last chunk's log-probabilities, from frame `held_start` on
    for start, end in chunk_bounds(len(samples), chunk, overlap, samples_per_frame):
        log_probs = log_probs_of(samples[None, start:end]).cpu()
        first = start // samples_per_frame
        if start == 0:
            held = log_probs
            continue
        shared = max(first, held_start)  # the last chunk may begin before the previous seam
        seam = shared + find_seam(
            held[shared - held_start :], log_probs[shared - first : held_start + len(held) - first]
        )
        parts.append(held[: seam - held_start])
        held, held_start = log_probs[seam - first :], seam
    return torch.cat([*parts, held])


def chunk_bounds(num_samples: int, chunk: int, overlap: int, grid: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of chunks that cover a recording, each at least `overlap` samples into the next.

    Starts are multiples of `grid`, the samples per frame; `chunk` and `overlap` must be, too. The last chunk is moved
    back to be as long as the others: a short rest would have little context.
    """
    start = 0
    while start + chunk < num_samples:
        yield start, start + chunk
        start += chunk - overlap
    if start:
        start = -(-(num_samples - chunk) // grid) * grid
    yield start, num_samples


def find_seam(earlier: Tensor, later: Tensor) -> int:
    """Return the frame at which to go from one chunk to the next, given both chunks' view (S, V) of the shared frames.

    In the middle half, it is where both are surest of the blank, three frames wide, so that no character is cut in two
    or told twice when the chunks place it a frame apart; of frames that are as good, the one nearest to the middle.
    """
    size = len(earlier)
    blank = (earlier[:, BLANK] + later[:, BLANK]).float()
    padded = torch.nn.functional.pad(blank[None, None], (1, 1), mode="replicate")
    quiet = torch.nn.functional.avg_pool1d(padded, 3, stride=1)[0, 0]
    middle = size / 2
    distance = (torch.arange(size) - middle).abs() / max(1.0, middle)
    low, high = size // 4, max(size // 4 + 1, size - size // 4)
    return low + int((quiet - 0.05 * distance)[low:high].argmax())


def _on_grid(num_samples: float, grid: int) -> int:
    return round(num_samples / grid) * grid
