"""Cutting an aligned recording into utterances: brute force, and a manifest that the dataset reads."""

from __future__ import annotations

import contextlib
import io
import json
import unittest
from itertools import pairwise
from pathlib import Path
from unittest import mock

import numpy as np
import soundfile

from hw_asr.alignment import segments as segments_module
from hw_asr.alignment.result import AlignedWord, Alignment, ExtraSpeech
from hw_asr.alignment.segments import MIN_PAUSE_SECONDS, PADDING_SECONDS, Limits, cut_into_segments
from hw_asr.cli.main import run
from hw_asr.datasets.audio import read_audio
from hw_asr.datasets.custom import CustomAudioDataset
from hw_asr.datasets.speech import SpeechDataset
from hw_asr.tests.transcribe_case import TranscribeCase
from hw_asr.text.encoder import CTCCharTextEncoder


def random_alignment(seed: int, num_words: int, faults: float = 0.15) -> Alignment:
    """Return words with random pauses, some of them not spoken, some followed by speech that is not in the text."""
    generator = np.random.default_rng(seed)
    words, extra, position = [], [], 0.0
    for number in range(num_words):
        position += float(generator.choice([0.0, 0.05, 0.2, 0.6]))
        if generator.random() < faults:
            words.append(AlignedWord(f"missing{number}", None, None, 0.0, spoken=False))
            continue
        end = position + float(generator.uniform(0.1, 0.8))
        words.append(AlignedWord(f"word{number}", position, end, float(generator.uniform(0.6, 1.0)), True))
        position = end
        if generator.random() < faults:
            start = position + float(generator.choice([0.0, 0.3]))
            position = start + float(generator.uniform(0.2, 0.5))
            extra.append(ExtraSpeech(start, position, "noise", number + 1))
    return Alignment(tuple(words), tuple(extra), position + 0.5)


def sounds(alignment: Alignment) -> list[tuple[float, float, str | None]]:
    """Return start, end and word of everything in the recording in its order; None is speech not in the text."""
    spoken = [(word.start, word.end, word.word) for word in alignment.spoken]
    return sorted([*spoken, *((part.start, part.end, None) for part in alignment.extra_speech)])


def least_left_out(alignment: Alignment, limits: Limits) -> float:
    """Return the seconds of words in no segment, the least of all choices of segments."""
    everything, texts = sounds(alignment), [word.word for word in alignment.words]

    def pause(index: int) -> float:
        inside = 0 < index < len(everything)
        return everything[index][0] - everything[index - 1][1] if inside else float("inf")

    def is_possible(first: int, last: int) -> bool:
        names = [name for _, _, name in everything[first:last]]
        if None in names or min(pause(first), pause(last)) < MIN_PAUSE_SECONDS:
            return False
        places = [texts.index(name) for name in names if name is not None]
        padding = [min(PADDING_SECONDS, pause(index) / 2) for index in (first, last)]
        start = max(0.0, everything[first][0] - padding[0])
        seconds = min(alignment.duration, everything[last - 1][1] + padding[1]) - start
        return places == list(range(places[0], places[-1] + 1)) and limits.min_seconds <= seconds <= limits.max_seconds

    def best(index: int) -> float:
        if index == len(everything):
            return 0.0
        start, end, name = everything[index]
        left_out = 0.0 if name is None else end - start + 0.1
        choices = [left_out + best(index + 1)]
        choices += [best(last) for last in range(index + 1, len(everything) + 1) if is_possible(index, last)]
        return min(choices)

    return best(0)


class CutTest(unittest.TestCase):
    LIMITS = Limits(1.0, 3.0, 0.0)

    def test_as_little_as_possible_is_left_out(self) -> None:
        num_segments = 0
        for seed in range(150):
            alignment = random_alignment(seed, 1 + seed % 9)
            segments, _ = cut_into_segments(alignment, self.LIMITS)
            used = {word for segment in segments for word in segment.text.split()}
            left_out = sum(word.end - word.start + 0.1 for word in alignment.spoken if word.word not in used)
            self.assertAlmostEqual(left_out, least_left_out(alignment, self.LIMITS), msg=str(seed))
            num_segments += len(segments)
        self.assertGreater(num_segments, 100)

    def test_every_word_is_in_one_place(self) -> None:
        for seed in range(20):
            alignment = random_alignment(seed, 200, faults=0.05)
            segments, left_out = cut_into_segments(alignment, Limits(1.0, 8.0, 0.75))
            texts = [segment.text for segment in segments]
            texts += [part.text for part in left_out if part.reason != "speech that is not in the text"]
            words = sorted(word for text in texts for word in text.split())
            self.assertEqual(words, sorted(word.word for word in alignment.words))
            self.assertEqual(sum(part.text == "noise" for part in left_out), len(alignment.extra_speech))
            for segment in segments:
                self.assertTrue(1.0 <= round(segment.duration, 2) <= 8.0)
                self.assertGreaterEqual(segment.confidence, 0.75)
            ends = [(segment.offset, segment.offset + segment.duration) for segment in segments]
            self.assertTrue(all(before[1] <= after[0] + 2e-3 for before, after in pairwise(ends)))
            self.assertTrue(any("confidence" in part.reason for part in left_out))

    def test_effort_does_not_grow_with_the_length_of_segments(self) -> None:
        alignment = random_alignment(0, 1000, faults=0.0)
        with mock.patch.object(segments_module, "_limits_of", wraps=segments_module._limits_of) as limits_of:
            segments, _ = cut_into_segments(alignment, Limits(1.0, 600.0))
        self.assertGreater(max(segment.duration for segment in segments), 100)
        self.assertLess(limits_of.call_count, 3 * 1000)

    def test_an_alphabet_without_a_space(self) -> None:
        words = [AlignedWord(character, 0.1, 0.2, 0.9) for character in "ab"]
        words += [AlignedWord(character, None, None, 0.0, False) for character in "cd"]
        _, left_out = cut_into_segments(Alignment(tuple(words), (), 1.0), separator="")
        self.assertEqual(sorted(part.text for part in left_out), ["ab", "cd"])

    def test_nothing_to_cut(self) -> None:
        self.assertEqual(cut_into_segments(Alignment((), (), 3.0)), ([], []))
        missing = Alignment(
            (AlignedWord("a", None, None, 0.0, False), AlignedWord("42", None, None, 0.0, None)), (), 3.0
        )
        segments, left_out = cut_into_segments(missing)
        self.assertEqual(segments, [])
        reasons = ["no character of it is in the alphabet", "not spoken"]
        self.assertEqual(sorted(part.reason for part in left_out), reasons)


class ManifestTest(TranscribeCase):
    def test_the_manifest_is_one_for_training(self) -> None:
        names = sorted(path.name for path in self.audio.iterdir())[:8]
        recordings = [read_audio(self.audio / name, 16000) for name in names]
        pauses = [np.concatenate([samples, np.zeros(8000, np.float32)]) for samples in recordings]
        talk = self.folder / "talk.wav"
        soundfile.write(talk, np.concatenate(pauses), 16000)
        self.assertGreater(sum(map(len, pauses)), 12.5 * 16000)  # goes through the network in chunks
        text = " ".join((self.texts / name).with_suffix(".txt").read_text() for name in names)
        manifest = self.folder / "manifests" / "talk.jsonl"
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            arguments = [
                "-r",
                str(self.checkpoint),
                "-d",
                "cpu",
                str(talk),
                "--text",
                text,
                "--segments",
                str(manifest),
            ]
            arguments += ["--forced", "--min-confidence", "0", "--max-seconds", "20", "--chunk-seconds", "12.5"]
            self.assertEqual(run("align", arguments), 0)
        self.assertIn("segments: ", output.getvalue())
        rows = [json.loads(line) for line in manifest.read_text().splitlines()]
        self.assertGreater(len(rows), 0)
        self.assertEqual(set(rows[0]), {"path", "offset", "duration", "text", "confidence"})
        self.assertTrue((manifest.with_name("talk.left_out.jsonl")).is_file())
        encoder = CTCCharTextEncoder()
        utterances = CustomAudioDataset(manifest).select(encoder.normalize).utterances
        dataset = SpeechDataset(utterances, encoder, 16000)
        samples = read_audio(talk, 16000)
        for row, index in zip(rows, range(len(dataset)), strict=True):
            example = dataset[index]
            begin, count = round(row["offset"] * 16000), round(row["duration"] * 16000)
            np.testing.assert_allclose(example.samples.numpy()[:count], samples[begin : begin + count], atol=1e-4)
            self.assertEqual(encoder.decode(example.targets.tolist()), encoder.normalize(row["text"]))
            self.assertEqual(Path(example.utterance.audio_path).resolve(), talk.resolve())


if __name__ == "__main__":
    unittest.main()
