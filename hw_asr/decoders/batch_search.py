"""The compiled beam search over whole batches, on threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from operator import itemgetter

import numpy as np
from numpy.typing import NDArray

from hw_asr.decoders.base import as_array, check_shapes
from hw_asr.decoders.ctc_forward import careful_log_likelihood, text_log_probs
from hw_asr.decoders.frames import Frames, GroupFrames, group_frames
from hw_asr.decoders.fusion import fused_scores
from hw_asr.decoders.fusion_tables import Fusion
from hw_asr.decoders.n_best import NUM_EXTRA
from hw_asr.decoders.prefix_search import (
    FRAME,
    HALF,
    NOT_STARTED,
    NUM_BEAM,
    NUM_NODES,
    UTTERANCE,
    Options,
    Workspace,
    make_workspace,
    search,
)
from hw_asr.decoders.prefix_tree import COLUMNS, enlarged
from hw_asr.decoders.texts import Texts, make_texts
from hw_asr.runtime.cores import available_cores
from hw_asr.types import Hypothesis, TensorOrArray

_text = itemgetter(Hypothesis._fields.index("text"))
_score = itemgetter(Hypothesis._fields.index("score"))
FRAMES_PER_THREAD = 1200
"""Fewer are not worth a thread: a frame takes a few microseconds, waking a thread as long as a hundred frames."""


class BatchSearch:
    """Decodes batches. The memory of the kernels is kept for the next batch.

    fusion: returns what the kernels take, with all misses filled (see `lm.table`); where there can be misses,
    `num_threads` must be 1. None stands for all cores.
    """

    def __init__(
        self, alphabet: Sequence[str], options: Options, fusion: Callable[[], Fusion], num_threads: int | None
    ) -> None:
        self.alphabet = tuple(alphabet)
        self._options, self._fusion = options, fusion
        self._num_threads = num_threads or available_cores()
        self._pool: ThreadPoolExecutor | None = None
        self._pool_process = 0
        self._free: list[Workspace] = []
        self._space = self.alphabet.index(" ") if " " in self.alphabet else -1
        single = all(len(symbol) == 1 for symbol in alphabet)
        self._code_points = np.array([ord(symbol) for symbol in alphabet], "<u4") if single else None

    def __call__(self, log_probs: TensorOrArray, lengths: TensorOrArray) -> list[list[Hypothesis]]:
        """Return up to `n_best` texts for each utterance of `log_probs` (B, T, V), highest score first."""
        check_shapes(log_probs, lengths, len(self.alphabet))
        values, num_frames = as_array(log_probs), as_array(lengths).astype(np.int64)
        num_groups = min(len(num_frames), self._num_threads, int(num_frames.sum()) // FRAMES_PER_THREAD)
        if num_groups < 2:
            return self._decode(group_frames(values, num_frames, np.arange(len(num_frames))))
        if self._pool is None or self._pool_process != os.getpid():  # threads do not survive a fork
            self._pool = ThreadPoolExecutor(self._num_threads - 1, thread_name_prefix="decoder")
            self._pool_process = os.getpid()
        longest_first = np.argsort(-num_frames, kind="stable")
        groups = [np.ascontiguousarray(longest_first[first::num_groups]) for first in range(num_groups)]
        result: list[list[Hypothesis]] = [[]] * len(num_frames)
        others = self._pool.map(lambda group: self._decode(group_frames(values, num_frames, group)), groups[1:])
        decoded = chain([self._decode(group_frames(values, num_frames, groups[0]))], others)
        for group, hypotheses in zip(groups, decoded, strict=True):
            for index, texts in zip(group.tolist(), hypotheses, strict=True):
                result[index] = texts
        return result

    def workspace(self) -> Workspace:
        """Return new memory for a search."""
        return make_workspace(self._options, len(self.alphabet))

    def run(self, group: GroupFrames, work: Workspace, texts: Texts) -> Workspace:
        """Continue a search over the utterances of a group to its end; return its memory, which may be new."""
        fusion = self._fusion()
        while not search(group, self._options, work, fusion, texts):
            if not fusion.ngrams.num_misses[0]:
                work = _with_larger_tree(work)
            fusion = self._fusion()
        return work

    def texts(self, lengths: NDArray[np.int64]) -> Texts:
        """Return room for the texts of utterances with so many frames."""
        return make_texts(lengths, self._options.n_best + NUM_EXTRA)

    def scored(self, group: GroupFrames, texts: Texts) -> list[list[Hypothesis]]:
        """Compute the exact scores of the texts that a search has found; return the n-best of each utterance."""
        cells = np.empty((2, 2 * int(np.diff(group.bounds).max(initial=0)) + 6))
        text_log_probs(group, self._space, cells, texts)
        _score_carefully(group, self._space, texts)
        if self._options.fused:
            self._fuse(texts, self._fusion())
        return self._hypotheses(texts)

    def _decode(self, group: GroupFrames) -> list[list[Hypothesis]]:
        texts = self.texts(np.diff(group.bounds))
        work = self._free.pop() if self._free else self.workspace()
        work.progress[UTTERANCE], work.progress[FRAME] = 0, NOT_STARTED
        self._free.append(self.run(group, work, texts))
        return self.scored(group, texts)

    def _fuse(self, texts: Texts, fusion: Fusion) -> None:
        nodes = np.zeros((2, COLUMNS), np.int32)
        fused_scores(texts, nodes, fusion)
        while fusion.ngrams.num_misses[0]:
            fusion = self._fusion()
            fused_scores(texts, nodes, fusion)

    def _hypotheses(self, texts: Texts) -> list[list[Hypothesis]]:
        used = np.arange(texts.scores.shape[1]) < texts.counts[:, None]
        log_probs = texts.log_probs[used]
        strings = self._strings(texts, texts.spans[used.ravel()])
        scores = (log_probs + texts.scores[used]).tolist()
        candidates = list(map(Hypothesis, strings, log_probs.tolist(), scores))
        result, begin, n_best = [], 0, self._options.n_best
        for count in texts.counts.tolist():
            end = begin + count
            found = candidates[begin:end]
            if self._code_points is None:  # classes can spell a text in several ways: the best remains
                found.sort(key=_score)
            different = dict(zip(map(_text, found), found, strict=True)).values()
            result.append(sorted(different, key=_score, reverse=True)[:n_best])
            begin = end
        return result

    def _strings(self, texts: Texts, spans: NDArray[np.int64]) -> list[str]:
        labels = texts.labels[: texts.used[0]]
        begins, ends = spans[:, 0].tolist(), spans[:, 1].tolist()
        if self._code_points is None:
            symbols = [self.alphabet[label] for label in labels.tolist()]
            return ["".join(symbols[begin:end]) for begin, end in zip(begins, ends, strict=True)]
        string = self._code_points[labels].tobytes().decode("utf-32-le", "surrogatepass")
        return [string[begin:end] for begin, end in zip(begins, ends, strict=True)]

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_pool": None, "_free": []}


def _with_larger_tree(work: Workspace) -> Workspace:
    num_beam, half = int(work.progress[NUM_BEAM]), int(work.progress[HALF])
    tree, work.progress[NUM_NODES] = enlarged(work.tree, int(work.progress[NUM_NODES]), work.slots[half, :num_beam])
    return work._replace(tree=tree)


def _score_carefully(group: GroupFrames, space: int, texts: Texts) -> None:
    """Compute the log-probabilities that `text_log_probs` could not."""
    for utterance, text in np.argwhere(np.isnan(texts.log_probs)).tolist():
        begin, end = group.bounds[utterance : utterance + 2]
        frames = Frames(group.probs[begin:end], group.peaks[begin:end], group.totals[begin:end], int(end - begin))
        first, last = texts.spans[utterance * texts.scores.shape[1] + text]
        texts.log_probs[utterance, text] = careful_log_likelihood(frames, texts.labels[first:last], space)
