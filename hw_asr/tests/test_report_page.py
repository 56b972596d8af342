"""The page itself: what stands in the file, and how it behaves in a browser."""

from __future__ import annotations

import io
import json
import math
import unittest
from html.parser import HTMLParser
from typing import Any

import numpy as np

from hw_asr.report.page import write_comparison, write_training_report
from hw_asr.tests.browser import CHROMIUM, DRIVER, MISSING, Browser
from hw_asr.tests.report_case import PageCase, results

HOSTILE = '</script><script>document.title="owned"</script><img src=x onerror=\'document.title="owned"\'>'
SEEN = """
const node = document.querySelector(arguments[0]).firstChild, range = document.createRange();
const places = Array.from(node.data, (character, index) => {
  range.setStart(node, index);
  range.setEnd(node, index + 1);
  return [range.getBoundingClientRect().left, character];
});
return places.sort((a, b) => a[0] - b[0]).map((place) => place[1]).join("");
"""
"""Return the characters of an element as they stand on the screen, from left to right."""


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


class FileTest(PageCase):
    def test_nothing_comes_from_outside(self) -> None:
        parser = Tags()
        parser.feed(self.write(results(self.folder, 3, 1)))
        self.assertFalse([tag for tag, attributes in parser.tags if tag == "link" or {"src", "href"} & set(attributes)])
        policy = next(attributes["content"] for tag, attributes in parser.tags if "http-equiv" in attributes)
        assert policy is not None
        self.assertIn("default-src 'none'", policy)
        self.assertNotRegex(policy, r"https?:|\*")

    def test_no_text_becomes_markup(self) -> None:
        entry = {
            "audio_path": HOSTILE, "duration": 1.0, "speaker": HOSTILE,
            "ground_truth": HOSTILE, "pred_text_argmax": HOSTILE,
            "words": [{"word": HOSTILE, "start": 0.0, "end": 1.0, "confidence": math.nan}],
        }  # fmt: skip
        page = self.write([entry, {"audio_path": "\udc80", "error": HOSTILE}], title=HOSTILE, totals={HOSTILE: HOSTILE})
        parser = Tags()
        parser.feed(page)
        self.assertNotIn("img", [tag for tag, _ in parser.tags])
        self.assertEqual(2, sum(tag == "script" for tag, _ in parser.tags))
        self.assertEqual(HOSTILE, self.data(page)["utterances"][0]["reference"])

    def test_single_words_are_words(self) -> None:
        (entry,) = results(self.folder, 1)
        for text, unit in (("seven", "word"), ("你好", "character")):
            data = self.data(self.write([{**entry, "ground_truth": text, "pred_text_argmax": text}]))
            self.assertEqual(unit, data["unit"])


@unittest.skipUnless(CHROMIUM and DRIVER, MISSING)
class BrowserTest(PageCase):
    browser: Browser

    @classmethod
    def setUpClass(cls) -> None:
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.__exit__)

    def open(self) -> None:
        self.browser.requests()
        self.browser.complaints()
        self.browser.open(self.page)

    def choose(self, control: str, value: str) -> None:
        self.browser.run(
            "const node = document.getElementById(arguments[0]); node.value = arguments[1];"
            "node.dispatchEvent(new Event(node.tagName === 'INPUT' ? 'input' : 'change'));", control, value
        )  # fmt: skip
        self.settle()

    def settle(self) -> None:
        self.browser.run_async("requestAnimationFrame(() => requestAnimationFrame(() => setTimeout(done, 30)))")

    def shown(self) -> list[int]:
        paths = self.browser.run(
            "return Array.from(document.querySelectorAll('.utterance'), (node) => node.dataset.path)"
        )
        return [int(path[-8:-4]) for path in paths]

    def count(self) -> str:
        return str(self.browser.run("return document.getElementById('count').textContent"))

    def test_five_thousand_utterances_are_sorted_and_filtered(self) -> None:
        self.write(results(self.folder, 5000))
        self.open()
        self.settle()
        self.assertEqual("5,000 of 5,000", self.count())
        shown = self.shown()
        self.assertTrue(0 < len(shown) <= 100, len(shown))
        self.assertEqual({4}, {index % 5 for index in shown})
        self.choose("order", "longest")
        self.assertEqual({8}, {index % 9 for index in self.shown()})
        self.choose("filter", "perfect")
        self.assertEqual("1,000 of 5,000", self.count())
        self.assertEqual({0}, {index % 5 for index in self.shown()})
        self.choose("search", "Utterance_0045")
        self.assertEqual([45], self.shown())
        self.choose("search", "no such text")
        self.assertEqual("0 of 5,000", self.count())
        self.choose("search", "")
        self.choose("filter", "all")
        self.choose("order", "input")
        self.browser.run("scrollTo(0, document.documentElement.scrollHeight)")
        self.settle()
        self.settle()
        self.assertIn(4999, self.shown())
        self.assertLess(len(self.shown()), 150)
        self.assertEqual([], self.browser.complaints())
        self.assertEqual([self.page.absolute().as_uri()], self.browser.requests())

    def test_a_confusion_shows_its_utterances(self) -> None:
        self.write(results(self.folder, 35))
        self.open()
        self.browser.run("document.querySelector('.confusion').click()")
        self.settle()
        chosen = self.browser.run("return document.querySelector('.controls button').textContent")
        self.assertEqual("the → wrong  ×", chosen)
        self.assertEqual("28 of 35", self.count())
        self.assertTrue(all(index % 5 for index in self.shown()))

    def test_alignments_players_and_words(self) -> None:
        self.write(results(self.folder, 5, 5))
        self.open()
        self.settle()
        text = "return document.querySelector('.utterance .transcript:nth-of-type(4)').textContent"
        self.assertEqual("the wrong quick wrong brown wrong fox wrong jumps over a lazy dog ", self.browser.run(text))
        self.assertEqual(
            4,
            self.browser.run("return document.querySelectorAll('.utterance')[0].querySelectorAll('.replace').length")
            // 2,
        )
        self.browser.run("document.querySelector('details').open = true")
        self.settle()
        self.assertEqual("wrong0.00 s · 80 %", self.browser.run("return document.querySelector('.word').textContent"))
        length = self.browser.run_async(
            "const audio = document.querySelector('audio'); audio.onloadedmetadata = () => done(audio.duration);"
            "audio.onerror = () => done('error'); audio.load();"
        )
        self.assertAlmostEqual(0.5, length, delta=0.15)

    def test_hostile_and_right_to_left_texts(self) -> None:
        arabic = "مرحبا بالعالم كيف حالك"
        entries = [
            {"audio_path": HOSTILE, "duration": 1.0, "ground_truth": HOSTILE, "pred_text_argmax": "x"},
            {"audio_path": "b.wav", "duration": 1.0, "ground_truth": arabic, "pred_text_argmax": arabic[6:],
             "words": [{"word": "بالعالم", "start": 0.5, "end": 0.9, "confidence": 0.9}]},
            {"audio_path": "c.wav", "duration": 1.0, "ground_truth": "ελληνικά ไทย", "pred_text_argmax": "ไทย"},
        ]  # fmt: skip
        self.write(entries, title=HOSTILE)
        self.open()
        self.settle()
        self.assertEqual(HOSTILE, self.browser.run("return document.title"))
        self.assertEqual(0, self.browser.run("return document.images.length"))
        direction = (
            "return getComputedStyle(document.querySelectorAll('[data-path=\"b.wav\"] .transcript')[0]).direction"
        )
        self.assertEqual("rtl", self.browser.run(direction))
        self.browser.run("document.querySelector('[data-path=\"b.wav\"] details').open = true")
        self.settle()
        # Where each character of a word's time stands, from left to right: "0.50 s", not "s 0.50".
        self.assertEqual("0.50 s · 90 %", self.browser.run(SEEN, '[data-path="b.wav"] small'))
        self.assertEqual("b.wav", self.browser.run(SEEN, '[data-path="b.wav"] .file'))
        self.assertEqual([], self.browser.complaints())

    def test_light_dark_and_print(self) -> None:
        self.write(results(self.folder, 60, 2))
        brightness = {}
        for scheme in ("light", "dark"):
            self.browser.prefer(scheme)
            self.open()
            brightness[scheme] = mean_brightness(self.browser.screenshot())
        self.assertGreater(brightness["light"], 200)
        self.assertLess(brightness["dark"], 60)
        self.assertTrue(self.browser.print_pdf().startswith(b"%PDF"))

    def test_empty_outputs(self) -> None:
        unscored = "No utterance has a reference"
        cases: list[tuple[list[dict[str, Any]], str]] = [
            ([], "The output is empty"),
            ([{"audio_path": "a", "error": "the file is empty"}], unscored),
            ([{"audio_path": "a", "pred_text_argmax": "b"}], unscored),
        ]
        for entries, message in cases:
            with self.subTest(entries=entries):
                self.write(entries)
                self.open()
                self.assertEqual([], self.browser.complaints())
                self.assertIn(message, self.browser.run("return document.getElementById('page').textContent"))
                self.assertEqual(len(entries), len(self.browser.run("return document.querySelectorAll('article')")))

    def test_comparison(self) -> None:
        first = results(self.folder, 20)
        second = [entry | {"pred_text_beam_search": [[entry["ground_truth"], 0.9]]} for entry in first]
        write_comparison(first, second, self.page, names=("old", "new"))
        self.open()
        self.settle()
        self.assertEqual("16 of 20", self.count())
        self.assertIn(
            "−", self.browser.run("return document.getElementById('differences').rows[1].cells[1].textContent")
        )
        self.choose("filter", "worse")
        self.assertEqual("0 of 20", self.count())
        self.assertEqual([], self.browser.complaints())

    def test_an_audit_is_sorted_by_loss(self) -> None:
        entries = results(self.folder, 10, num_recordings=10)
        for index, entry in enumerate(entries):
            entry["loss"] = None if index == 3 else float((index * 7) % 10)
        self.write(entries)
        self.open()
        self.settle()
        self.assertEqual([3, 7, 4, 1, 8, 5, 2, 9, 6, 0], self.shown())
        header = self.browser.run("return document.querySelector('.utterance header').textContent")
        self.assertIn("loss infinite", header)
        self.assertEqual([], self.browser.complaints())

    def test_training_curves(self) -> None:
        record = self.folder / "metrics.jsonl"
        lines = [
            {"step": i, "time": i, "train_loss": 1 / i if i % 10 else None, "val_loss": 2 / i} for i in range(1, 100)
        ]
        record.write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_training_report(record, self.page, title="exp: run")
        self.open()
        self.assertEqual(2, self.browser.run("return document.querySelectorAll('.chart path').length"))
        self.browser.run("document.getElementById('logarithmic').click()")
        self.assertEqual(2, self.browser.run("return document.querySelectorAll('.chart path').length"))
        self.assertIn("val 0.0202", self.browser.run("return document.querySelector('.legend').textContent"))
        self.assertEqual(0, self.browser.run("return document.querySelectorAll('.chart circle').length"))
        self.assertEqual([], self.browser.complaints())

    def test_the_only_evaluation_is_a_dot_of_its_own_colour(self) -> None:
        record = self.folder / "metrics.jsonl"
        lines = [{"step": 1, "train_loss": 2.0}, {"step": 2, "train_loss": 1.0}, {"step": 2, "val_loss": 1.5}]
        record.write_text("".join(json.dumps(line) + "\n" for line in lines))
        write_training_report(record, self.page, title="exp: run")
        self.open()
        colours = self.browser.run(
            "const colour = (selector, key) => getComputedStyle(document.querySelector(selector))[key];"
            "return [colour('.chart circle', 'fill'), colour('.legend span:nth-child(2) i', 'borderTopColor'),"
            "colour('.chart path', 'stroke')]"
        )
        self.assertEqual(colours[0], colours[1])
        self.assertNotEqual(colours[0], colours[2])


def mean_brightness(png: bytes) -> float:
    """Return the mean grey of a picture, 0 to 255."""
    from PIL import Image

    return float(np.asarray(Image.open(io.BytesIO(png)).convert("L")).mean())


if __name__ == "__main__":
    unittest.main()
