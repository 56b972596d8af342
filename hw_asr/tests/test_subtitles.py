"""Subtitles, read back with a reader of their own."""

from __future__ import annotations

import html
import itertools
import random
import re
import tempfile
import unittest
from collections.abc import Sequence
from pathlib import Path

from hw_asr.report.results import ReportError
from hw_asr.report.subtitles import (
    LINE_LENGTH,
    MAX_LINES,
    MAX_SECONDS,
    Cue,
    cues,
    to_srt,
    to_vtt,
    write_subtitles,
)
from hw_asr.runtime.printable import columns
from hw_asr.text.characters import characters_of
from hw_asr.types import Word

_TIMES = re.compile(r"(\d\d+):([0-5]\d):([0-5]\d)[.,](\d{3}) --> (\d\d+):([0-5]\d):([0-5]\d)[.,](\d{3})")


def speech(num: int, seed: int = 0, start: float = 0.0, units: Sequence[str] = ()) -> list[Word]:
    """Words of many lengths, or the characters of some units, with pauses between some of them."""
    generator = random.Random(seed)
    words = []
    for _ in range(num):
        start += generator.choice([0.0, 0.05, 0.1, 2.0 if generator.random() < 0.1 else 0.1])
        end = start + generator.uniform(0.05, 0.6)
        texts = generator.choice(units) if units else ["x" * generator.randint(1, 12)]
        words += [Word(text, round(start, 3), round(end, 3), 1.0) for text in texts]
        start = end
    return words


def read(subtitles: str) -> list[tuple[float, float, str]]:
    """Return (start, end, text) of every cue."""
    found = []
    for block in subtitles.strip().split("\n\n"):
        lines = block.splitlines()
        position = next((index for index, line in enumerate(lines) if "-->" in line), None)
        if position is not None:
            match = _TIMES.fullmatch(lines[position])
            assert match is not None, lines[position]
            numbers = [int(each) for each in match.groups()]
            start, end = (
                hours * 3600 + minutes * 60 + seconds + rest / 1000
                for hours, minutes, seconds, rest in (numbers[:4], numbers[4:])
            )
            found.append((start, end, "\n".join(lines[position + 1 :])))
    return found


class SubtitlesTest(unittest.TestCase):
    def test_every_word_is_on_the_screen_while_it_is_spoken(self) -> None:
        for seed in range(20):
            words = speech(200, seed, start=3500.0)
            for found in (read(to_srt(words)), read(to_vtt(words))):
                texts = " ".join(text for _, _, text in found).split()
                self.assertEqual([word.word for word in words], texts)
                position = 0
                for start, end, text in found:
                    for _ in text.split():
                        self.assertLessEqual(start, words[position].start + 1e-9)
                        self.assertGreaterEqual(end, words[position].end - 1e-9)
                        position += 1

    def test_cues_fit_the_screen_and_do_not_overlap(self) -> None:
        for seed in range(20):
            self.check(cues(speech(200, seed)))

    def check(self, found: Sequence[Cue]) -> None:
        for cue in found:
            self.assertLessEqual(len(cue.lines), MAX_LINES)
            self.assertLessEqual(max(map(columns, cue.lines)), LINE_LENGTH)
            self.assertLessEqual(cue.end - cue.start, 1000 * MAX_SECONDS)
            self.assertLess(cue.start, cue.end)
        self.assertTrue(all(a.end <= b.start for a, b in itertools.pairwise(found)))

    def test_characters_without_spaces(self) -> None:
        for units, most in (("你好世界", 21), (("ก", "ที่", "น้ำ", "นํา"), 42), ("你a1ー", 42)):
            for seed in range(20):
                words = speech(300, seed, units=units)
                found = cues(words, "")
                self.check(found)
                self.assertEqual("".join(word.word for word in words), "".join("".join(cue.lines) for cue in found))
                lines = [line for cue in found for line in cue.lines]
                self.assertLessEqual(max(len(characters_of(line)) for line in lines), most)
                self.assertEqual({line[0] for line in lines}, {unit[0] for unit in units})

    def test_lines_are_even_and_long_groups_are_cut_at_the_longest_pause(self) -> None:
        words = [Word("好", 0.1 * k, 0.1 * k + 0.1, 1.0) for k in range(60)]
        self.assertEqual([["好" * 21] * 2, ["好" * 18]], [cue.lines for cue in cues(words, "")])
        self.assertEqual([["好" * 15] * 2], [cue.lines for cue in cues(words[:30], "")])
        words[32:] = [Word("好", word.start + 0.3, word.end + 0.3, 1.0) for word in words[32:]]
        self.assertEqual([["好" * 16] * 2, ["好" * 14] * 2], [cue.lines for cue in cues(words, "")])
        slow = [Word("好", 0.6 * k, 0.6 * k + 0.1 + 0.4 * (k != 7), 1.0) for k in range(14)]
        self.assertEqual(["好" * 8, "好" * 6], ["".join(cue.lines) for cue in cues(slow, "")])

    def test_wide_words_with_spaces(self) -> None:
        words = [Word("안녕하세요", 0.3 * k, 0.3 * k + 0.3, 1.0) for k in range(9)]
        found = cues(words)
        self.check(found)
        self.assertEqual(
            [["안녕하세요 안녕하세요 안녕하세요"] * 2, ["안녕하세요 안녕하세요 안녕하세요"]],
            [cue.lines for cue in found],
        )

    def test_words_longer_than_a_cue_are_cut_into_equal_parts(self) -> None:
        for text in ("ที่นี่" * 50, "你" * 99 + "a" * 31, "x" * 200):
            found = cues([Word("a", 0.0, 1.0, 1.0), Word(text, 1.0, 13.0, 1.0), Word("b", 13.0, 14.0, 1.0)])
            self.check(found)
            self.assertEqual(f"a{text}b", "".join("".join(cue.lines) for cue in found).replace(" ", ""))

    def test_words_are_broken_at_hyphens_only_where_they_fit_nowhere_else(self) -> None:
        texts = ["x" * 30, "well-known", "x" * 40]
        words = [Word(text, float(k), k + 1.0, 1.0) for k, text in enumerate(texts)]
        self.assertEqual([["x" * 30 + " well-known", "x" * 40]], [cue.lines for cue in cues(words)])
        words[0] = Word("x" * 36, 0.0, 1.0, 1.0)
        words[2] = Word("x" * 33, 2.0, 3.0, 1.0)
        self.assertEqual([["x" * 36 + " well-", "known " + "x" * 33]], [cue.lines for cue in cues(words)])

    def test_formats(self) -> None:
        words = [Word("a", 0.0, 0.4, 1.0), Word("<b>&", 0.5, 1.2345, 1.0), Word("c", 3661.5, 3661.6, 1.0)]
        self.assertEqual(
            "1\n00:00:00,000 --> 00:00:01,234\na <b>&\n\n2\n01:01:01,500 --> 01:01:02,500\nc\n", to_srt(words)
        )
        self.assertEqual(
            "WEBVTT\n\n00:00:00.000 --> 00:00:01.234\na &lt;b&gt;&amp;\n\n01:01:01.500 --> 01:01:02.500\nc\n",
            to_vtt(words),
        )
        self.assertEqual("a <b>&", html.unescape(read(to_vtt(words))[0][2]))
        self.assertEqual(("", "WEBVTT\n"), (to_srt([]), to_vtt([])))
        characters = [Word("你", 0.0, 0.4, 1.0), Word("好", 0.5, 1.5, 1.0)]
        self.assertIn("\n你好\n", to_srt(characters, ""))

    def test_words_that_fit_nowhere_and_times_that_go_back(self) -> None:
        words = [Word("x" * 200, 5.0, 6.0, 1.0), Word("y", 4.0, 3.0, 1.0), Word("-->\n\n", 100.0, 101.0, 1.0)]
        found = cues(words)
        self.assertTrue(all(cue.start < cue.end for cue in found))
        self.assertNotIn("\n\n-->", to_vtt(words))

    def test_the_extension_names_the_format(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "a.VTT"
            write_subtitles([Word("привет", 0.0, 1.0, 1.0)], path)
            self.assertTrue(path.read_text(encoding="utf-8").startswith("WEBVTT"))
            write_subtitles([Word("你", 0.0, 1.0, 1.0), Word("好", 1.0, 2.0, 1.0)], path, "")
            self.assertIn("\n你好\n", path.read_text(encoding="utf-8"))
            with self.assertRaisesRegex(ReportError, r"written as \.srt or \.vtt"):
                write_subtitles([], Path(folder) / "a.txt")


if __name__ == "__main__":
    unittest.main()
