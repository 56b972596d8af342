"""A prefix beam search that reads a segment frame by frame."""

from __future__ import annotations

import copy
import heapq
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hw_asr.decoders.base import check_shapes
from hw_asr.decoders.beam_search import PrefixSearch
from hw_asr.decoders.frames import GroupFrames, group_frames
from hw_asr.decoders.prefix_beam import NODE
from hw_asr.decoders.prefix_search import FRAME, HALF, NOT_STARTED, NUM_BEAM, UTTERANCE
from hw_asr.decoders.prefix_tree import PARENT, SYMBOL
from hw_asr.types import Hypothesis, LogProbs, TextEncoder

ONE = np.zeros(1, np.int64)
"""The group of a batch with one utterance."""


class LiveBeamSearch:
    """A prefix beam search whose beam is kept from one call to the next."""

    def __init__(self, decoder: PrefixSearch, lock: AbstractContextManager[object], text_encoder: TextEncoder) -> None:
        self._search, self._lock, self._text_encoder = decoder.search, lock, text_encoder
        self._work = self._search.workspace()
        self._num_frames = 0
        self._texts = self._search.texts(ONE)

    def accept(self, log_probs: LogProbs) -> None:
        """Read the next frames (t, V)."""
        if len(log_probs) == 0 and self._num_frames > 0:
            return
        self._work.progress[UTTERANCE], self._work.progress[FRAME] = 0, 0 if self._num_frames else NOT_STARTED
        self._num_frames += len(log_probs)
        self._texts = self._search.texts(np.array([self._num_frames]))
        with self._lock:
            self._work = self._search.run(self._frames(log_probs), self._work, self._texts)

    def stable(self) -> str:
        """Return the text that all prefixes of the beam begin with."""
        if self._num_frames == 0:
            return ""
        progress, nodes = self._work.progress, self._work.tree.nodes
        beam = self._work.slots[progress[HALF], : progress[NUM_BEAM], NODE].tolist()
        node, labels = common_ancestor(beam, nodes[:, PARENT]), []
        while node > 0:
            labels.append(int(nodes[node, SYMBOL]))
            node = int(nodes[node, PARENT])
        return self._text_encoder.decode(labels[::-1])

    def best(self) -> str:
        """Return the best text so far by the scores of the search."""
        first, last = self._texts.spans[0] if self._texts.counts[0] else (0, 0)
        return self._text_encoder.decode(self._texts.labels[first:last].tolist())

    def copy(self) -> LiveBeamSearch:
        """Return a search that continues on its own."""
        result = copy.copy(self)
        result._work = _copied(self._work)
        return result

    def finish(self, log_probs: LogProbs) -> list[Hypothesis]:
        """Return the n-best hypotheses with their exact probabilities."""
        if self._num_frames == 0:
            self.accept(log_probs)
        with self._lock:
            return self._search.scored(self._frames(log_probs), self._texts)[0]

    def _frames(self, log_probs: LogProbs) -> GroupFrames:
        lengths = np.array([len(log_probs)])
        check_shapes(log_probs[None], lengths, len(self._search.alphabet))
        return group_frames(log_probs[None], lengths, ONE)


def common_ancestor(nodes: Sequence[int], parents: NDArray[np.int32]) -> int:
    """Return the node that is an ancestor of, or is, all of `nodes` of a tree; parents have lower numbers."""
    waiting = [-node for node in set(nodes)]
    heapq.heapify(waiting)
    known = set(nodes)
    while len(waiting) > 1:
        parent = int(parents[-heapq.heappop(waiting)])
        if parent not in known:
            known.add(parent)
            heapq.heappush(waiting, -parent)
    return -waiting[0]


def _copied(value: Any) -> Any:
    """Return a named tuple of arrays, or of such tuples, with copies of the arrays."""
    return value.copy() if isinstance(value, np.ndarray) else type(value)(*map(_copied, value))
