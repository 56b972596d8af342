"""Recordings longer than memory allows: features by blocks, network by chunks that are joined where both are silent."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from hw_asr.features import LOG_OFFSET, FrontEnd

BLANK = 0
BLOCK_SECONDS = 60


def long_log_probs(
    samples: Tensor,
    front_end: FrontEnd,
    log_probs_of: Callable[[Tensor], Tensor],
    time_stride: int,
    sample_rate: int,
    chunk_seconds: float = 30.0,
    overlap_seconds: float = 6.0,
) -> Tensor:
    """Return (T, V) log-probabilities of a recording (N,), on the CPU, as if computed in one piece.

    `log_probs_of` maps features (1, F, t) to (t', V), `time_stride` feature frames to each frame of it; only
    `chunk_seconds` of audio are in it at a time, so what it needs does not grow with the recording. The features
    themselves are those of the whole recording, normalised over it where the front end does that.

    Raises ValueError when the overlap is not shorter than half of a chunk.
    """
    if not 0 < 2 * overlap_seconds < chunk_seconds:
        raise ValueError(
            f"overlap_seconds: expected more than 0 and less than half of chunk_seconds ({chunk_seconds:g}), "
            f"got {overlap_seconds:g}"
        )
    frames = [
        max(1, round(seconds * sample_rate / (front_end.hop_length * time_stride))) * time_stride
        for seconds in (chunk_seconds, overlap_seconds)
    ]
    features = long_features(samples, front_end, BLOCK_SECONDS * sample_rate)
    return stitched(features, log_probs_of, time_stride, *frames)


@torch.inference_mode()
def long_features(samples: Tensor, front_end: FrontEnd, block: int) -> Tensor:
    """Return the features (1, F, T) of a recording (N,), on the CPU, computed about `block` samples at a time."""
    plain = copy.copy(front_end)
    plain.normalize = "none"
    hop = front_end.hop_length
    margin = -(-front_end.n_fft // hop)  # frames at a block's edges that could see the edge
    step = max(1, block // hop) * hop
    parts = []
    start = 0
    while True:
        end = start + step + 2 * margin * hop + front_end.n_fft
        piece = samples[None, start:end]
        features, _ = plain(piece, torch.tensor([piece.shape[1]], device=piece.device))
        is_last = end >= len(samples)
        parts.append(features[0, :, margin if start else 0 : None if is_last else margin + step // hop].cpu())
        if is_last:
            break
        start += step
    features = torch.cat(parts, dim=1)[None]
    if front_end.normalize == "utterance":
        features -= features.mean(dim=-1, keepdim=True)
        features /= features.square().mean(dim=-1, keepdim=True).sqrt() + LOG_OFFSET
    return features


def stitched(
    sequence: Tensor, log_probs_of: Callable[[Tensor], Tensor], stride: int, chunk: int, overlap: int
) -> Tensor:
    """Return (T, V) log-probabilities of a sequence (1, ..., N), computed on chunks along its last dimension.

    `chunk` and `overlap` are multiples of `stride`, the steps of the sequence to one frame of the result. Neighbouring
    chunks overlap, and each half of an overlap is taken from the chunk that knows more of what lies around it. Texts
    are not joined: a decoder that reads the result sees one recording, whose words have its own clock. Every frame has
    at least a quarter of the overlap as context on either side, which is why the result is the closer to that of one
    piece the faster the network forgets.
    """
    parts: list[Tensor] = []
    held, held_start = torch.empty(0), 0  # log-probabilities from frame `held_start` on that the next chunk may replace
    for start, end in chunk_bounds(sequence.shape[-1], chunk, overlap, stride):
        log_probs = log_probs_of(sequence[..., start:end]).cpu()
        first = start // stride
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


def chunk_bounds(length: int, chunk: int, overlap: int, grid: int) -> Iterator[tuple[int, int]]:
    """Yield (start, end) of chunks that cover a sequence, each reaching at least `overlap` into the next.

    Starts are multiples of `grid`; `chunk` and `overlap` must be, too. The last chunk is moved back to be as long as
    the others: a short rest would have little context.
    """
    start = 0
    while start + chunk < length:
        yield start, start + chunk
        start += chunk - overlap
    if start:
        start = -(-(length - chunk) // grid) * grid
    yield start, length


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
