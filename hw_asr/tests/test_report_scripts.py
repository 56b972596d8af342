"""The scripts of the page in Node.js, with as much of a document as they use."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import unittest
from importlib import resources
from typing import Any

NODE = shutil.which("node")
DOCUMENT = """
class Element {
  constructor(tag) { this.tag = tag; this.children = []; this.attributes = {}; this.handlers = {}; }
  append(...nodes) { this.children.push(...nodes); }
  replaceChildren(...nodes) { this.children = nodes; }
  setAttribute(name, value) { this.attributes[name] = value; }
  addEventListener(name, handler) { this.handlers[name] = handler; }
  scrollIntoView() {}
  matches(selector) { return selector.split(", ").includes(this.tag); }
  get textContent() { return this.children.map((node) => node.textContent ?? String(node)).join(""); }
  set textContent(text) { this.children = [text]; }
  get below() { return this.children.flatMap((node) => (node instanceof Element ? [node, ...node.below] : [])); }
  find(tag) { return this.below.filter((node) => node.tag === tag); }
}
class IntersectionObserver {}
const root = { dataset: {} }, data = new Element("script");
data.textContent = JSON.stringify({ totals: [], training: { facts: [], bests: [], charts: [] } });
const document = {
  documentElement: root, createElement: (tag) => new Element(tag), createElementNS: (space, tag) => new Element(tag),
  getElementById: (id) => (id === "report-data" ? data : new Element(id)),
};
const addEventListener = () => {}, matchMedia = () => ({ matches: false });
"""
SCRIPTS = ("dom.js", "charts.js", "transcript.js", "utterances.js", "main.js")


@unittest.skipUnless(NODE, "node is not installed (Debian: apt-get install nodejs)")
class ScriptsTest(unittest.TestCase):
    def run_script(self, script: str) -> Any:
        parts = [resources.files("hw_asr.report").joinpath(name).read_text(encoding="utf-8") for name in SCRIPTS]
        program = "\n".join([DOCUMENT, *parts, f"console.log(JSON.stringify((() => {{ {script} }})()));"])
        done = subprocess.run([str(NODE), "-"], input=program, capture_output=True, text=True, check=False)
        self.assertEqual(0, done.returncode, done.stderr)
        return json.loads(done.stdout)

    def test_a_substitution_is_two_words_a_deletion_and_an_insertion(self) -> None:
        text, marks = self.run_script(
            "const line = coloured('turn the light on', {text: 'turn a light of', edits: [['replace', 1, 2, 1, 2],"
            "['delete', 2, 3, 2, 2], ['insert', 3, 3, 2, 3]]}, 'word');"
            "return [line.textContent, [...line.find('del'), ...line.find('ins')].map((node) => node.textContent)];"
        )
        self.assertEqual("turn the a light light on ", text)
        self.assertEqual(["the", "light", "a", "light"], marks)

    def test_charts_have_the_names_of_their_titles(self) -> None:
        labels = self.run_script(
            "const line = {label: 'train', points: [[1, 2.0], [2, 1.0]]};"
            "const bin = {confidence: 0.5, right: 0.5, count: 3};"
            "const chart = curves({title: 'loss', series: [line]}, false).find('svg')[0];"
            "return [chart, reliability('Confidence', {bins: [bin]})].map((svg) => svg.attributes)"
            ".map((given) => [given.role, given['aria-label']]);"
        )
        self.assertEqual([["img", "loss"], ["img", "Confidence"]], labels)

    def test_the_keys_of_a_button_show_the_utterances_of_a_confusion(self) -> None:
        role, shown, prevented = self.run_script(
            "const shown = [], prevented = [];"
            "const list = {set: (changes) => shown.push(changes.confusion)};"
            "const row = confusionTable('Substituted words', [['a', 'the', 2]], list, 'replace').find('tr')[1];"
            "const press = (key) => row.handlers.keydown({key, preventDefault: () => prevented.push(key)});"
            "['Enter', ' ', 'x'].forEach(press);"
            "return [row.attributes.role, shown, prevented];"
        )
        self.assertEqual(("button", [["replace", "a", "the"]] * 2, ["Enter", " "]), (role, shown, prevented))

    def test_the_search_field_has_a_name(self) -> None:
        report = "{decoders: ['argmax'], utterances: [], num_scored: 0}"
        script = f"return new UtteranceList({report}).controls().find('input')[0].attributes;"
        self.assertEqual("search", self.run_script(script)["aria-label"])


class ColoursTest(unittest.TestCase):
    def test_small_texts_stand_out_from_their_grounds(self) -> None:
        style = resources.files("hw_asr.report").joinpath("page.css").read_text(encoding="utf-8")
        for scheme in re.findall(r"^:root[^{]*{(.*?)}", style, re.DOTALL | re.MULTILINE)[:2]:
            colours = dict(re.findall(r"--([\w-]+): (#\w{6})", scheme))
            pairs = [("muted", "ground"), ("muted", "panel"), ("muted", "delete")]
            for text, ground in [*pairs, *((f"{kind}-text", kind) for kind in ("replace", "delete", "insert"))]:
                self.assertGreaterEqual(contrast(colours[text], colours[ground]), 4.5, f"{text} on {ground}")
        self.assertNotRegex(style, r"[^-]opacity:")


def contrast(first: str, second: str) -> float:
    """Return the contrast of two colours (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


if __name__ == "__main__":
    unittest.main()
