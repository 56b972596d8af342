"""The beam searches that `benchmarks.decoding` compares: each maps a batch of log-probabilities to n-best lists."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import textbook_search
from benchmarks.emissions import Batch, Emissions
from hw_asr.decoders.beam_search import BeamSearchDecoder
from hw_asr.decoders.lm_beam_search import LanguageModelBeamSearchDecoder
from hw_asr.text.encoder import CTCCharTextEncoder

Decode = Callable[[Batch], list[list[str]]]
N_BEST = 10
DEFAULT = (-6.0, 10.0)
PRUNING: dict[str, tuple[float | None, float | None]] = {
    "ours": DEFAULT,
    "ours, pruned at -5, 10": (-5.0, 10.0),  # the defaults of pyctcdecode and ctc-beam-decoder
    "ours, pruned at -8, 12": (-8.0, 12.0),
    "ours, nothing pruned": (None, None),
}
"""Values of symbol_floor and beam_threshold; the first are the defaults."""


class Task(NamedTuple):
    """What all engines have to do."""

    data: Emissions
    arpa: Path | None
    width: int
    alpha: float
    beta: float
    unknown: float


def engines(task: Task, slow_width: int) -> dict[str, Decode]:
    """Return the engines that are installed, by name; the textbook search up to a width of `slow_width`."""
    result = {name: ours(task, pruning, 1) for name, pruning in PRUNING.items()}
    if task.arpa is None and task.width <= slow_width:
        result["textbook, Python"] = lambda batch: [
            [textbook_search.decode(row, task.data.alphabet, task.width)] for row in batch.rows
        ]
    for name, make in (
        ("ctc-beam-decoder", _pyctcdecode("ctc_beam_decoder")),
        ("flashlight-text", _flashlight),
        ("pyctcdecode", _pyctcdecode("pyctcdecode")),
    ):
        try:
            result[name] = make(task)
        except ImportError as error:
            print(f"{name} is skipped: {error}")
    return result


def ours(task: Task, pruning: tuple[float | None, float | None], num_threads: int) -> Decode:
    """Return our search."""
    encoder = CTCCharTextEncoder(task.data.alphabet[1:])
    common: dict[str, Any] = {
        "beam_size": task.width, "n_best": N_BEST, "symbol_floor": pruning[0], "beam_threshold": pruning[1],
        "num_threads": num_threads,
    }  # fmt: skip
    decoder: BeamSearchDecoder | LanguageModelBeamSearchDecoder = BeamSearchDecoder(encoder, **common)
    if task.arpa is not None:
        decoder = LanguageModelBeamSearchDecoder(
            encoder, task.arpa, task.alpha, task.beta, unknown_word_offset=task.unknown, **common
        )

    def decode(batch: Batch) -> list[list[str]]:
        return [[hypothesis.text for hypothesis in n_best] for n_best in decoder(batch.log_probs, batch.lengths)]

    return decode


def _pyctcdecode(package: str) -> Callable[[Task], Decode]:
    """Return what makes an engine of pyctcdecode, or of ctc-beam-decoder, which has the same interface."""

    def make(task: Task) -> Decode:
        module: Any = importlib.import_module(package)
        labels = ["", *task.data.alphabet[1:]]
        if task.arpa is None:
            decoder = module.build_ctcdecoder(labels)
        else:
            weights = {"alpha": task.alpha, "beta": task.beta, "unk_score_offset": task.unknown}
            unigrams = _words(task.arpa) if package == "ctc_beam_decoder" else None  # else it knows no word
            decoder = module.build_ctcdecoder(labels, str(task.arpa), unigrams, **weights)

        def decode(batch: Batch) -> list[list[str]]:
            beams = (decoder.decode_beams(row, beam_width=task.width) for row in batch.rows)
            return [[beam[0] for beam in n_best[:N_BEST]] for n_best in beams]

        return decode

    return make


def _flashlight(task: Task) -> Decode:
    """Return the search of flashlight-text: over a lexicon of the language model's words, or free."""
    text: Any = importlib.import_module("flashlight.lib.text.decoder")
    alphabet, blank = task.data.alphabet, 0
    space, classes = alphabet.index(" "), len(alphabet)
    common = {"beam_size": task.width, "beam_size_token": classes, "beam_threshold": 12.0, "sil_score": 0.0}
    common |= {"log_add": True, "criterion_type": text.CriterionType.CTC}
    if task.arpa is None:
        free = text.LexiconFreeDecoderOptions(lm_weight=0.0, **common)
        decoder = text.LexiconFreeDecoder(free, text.ZeroLM(), space, blank, [])
    else:
        kenlm: Any = importlib.import_module("flashlight.lib.text.decoder.kenlm")
        dictionary: Any = importlib.import_module("flashlight.lib.text.dictionary")
        words = dictionary.Dictionary()
        for word in ["<unk>", *_words(task.arpa)]:
            words.add_entry(word)
        model = kenlm.KenLM(str(task.arpa), words)
        trie, start = text.Trie(classes, space), model.start(False)
        for word in _words(task.arpa):
            index = words.get_index(word)
            _, score = model.score(start, index)
            if set(word) <= set(alphabet[1:]):
                trie.insert([*map(alphabet.index, word), space], index, score)
        trie.smear(text.SmearingMode.MAX)
        with_words = text.LexiconDecoderOptions(
            lm_weight=task.alpha * math.log(10), word_score=task.beta, unk_score=-math.inf, **common
        )
        decoder = text.LexiconDecoder(with_words, trie, model, space, blank, words.get_index("<unk>"), [], False)

    def decode(batch: Batch) -> list[list[str]]:
        result = []
        for row in batch.rows:  # contiguous
            hypotheses = decoder.decode(row.ctypes.data, *row.shape)[:N_BEST]
            result.append([_collapsed(hypothesis.tokens, alphabet) for hypothesis in hypotheses])
        return result

    return decode


def _collapsed(path: Sequence[int], alphabet: str) -> str:
    """Return the text of a path of classes, without the spaces that flashlight adds."""
    changes = (now for before, now in zip([-1, *path], path, strict=False) if now != before)
    return " ".join("".join(alphabet[label] for label in changes if label > 0).split())


def _words(arpa: Path) -> list[str]:
    """Return the words of the 1-grams of an ARPA file, special ones excepted."""
    section = arpa.read_text(encoding="utf-8").split("\\1-grams:")[1].split("\n\n")[0]
    words = [line.split()[1] for line in section.strip().splitlines()]
    return [word for word in words if not word.startswith("<")]
