"""The numbers behind the report, against counts by hand and closed forms."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import random
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from hw_asr.metrics import char_errors, word_errors
from hw_asr.report.alignment import align, count_confusions, tokens
from hw_asr.report.curves import MAX_POINTS, curves_data
from hw_asr.report.evaluation import evaluation_data
from hw_asr.report.results import ReportError, read_results
from hw_asr.tests.report_case import result
from hw_asr.writers.jsonl import read_metrics
from scripts.report import main


class AlignmentTest(unittest.TestCase):
    def test_edits_turn_the_hypothesis_into_the_reference(self) -> None:
        generator = random.Random(0)
        for _ in range(300):
            reference = [generator.choice("abc") for _ in range(generator.randrange(8))]
            hypothesis = [generator.choice("abc") for _ in range(generator.randrange(8))]
            alignment = align(reference, hypothesis)
            rebuilt = list(hypothesis)
            for _, start, end, from_, to in reversed(alignment.edits):
                rebuilt[from_:to] = reference[start:end]
            self.assertEqual(reference, rebuilt)
            self.assertEqual(word_errors(" ".join(reference), " ".join(hypothesis)).edits, alignment.num_errors)
            self.assertEqual(alignment.num_errors, len(list(alignment.confusions())))
            wrong = sum(kind != "delete" for kind, _, _ in alignment.confusions())
            self.assertEqual(len(hypothesis) - wrong, sum(alignment.matched()))

    def test_confusions_are_counted_most_frequent_first(self) -> None:
        pairs = [("to be or", "do be or"), ("to go", "do go now"), ("or not", "not")]
        found = count_confusions([align(a.split(), b.split()) for a, b in pairs], most=5)
        self.assertEqual([("to", "do", 2)], found["replace"])
        self.assertEqual([("or", "", 1)], found["delete"])
        self.assertEqual([("", "now", 1)], found["insert"])

    def test_scripts_without_spaces_are_aligned_by_characters(self) -> None:
        self.assertEqual(["a", "b"], list(tokens("a  b", by_word=True)))
        data = evaluation_data([result("1", "今天天气很好", "今天气很好吗"), result("2", "好", "好")])
        self.assertEqual("character", data["unit"])
        self.assertEqual(2, data["utterances"][0]["hypotheses"][0]["errors"])

    def test_one_space_does_not_make_words(self) -> None:
        chinese, spaced, english = (result("1", text, text) for text in ("今天天气很好", "我 喜欢", "a cat"))
        for results, unit in (
            ([chinese, chinese, spaced], "character"), ([chinese, spaced, spaced], "word"),
            ([chinese, english, english], "word"), ([result("1", "seven", "seven")], "word"), ([], "word"),
        ):  # fmt: skip
            self.assertEqual(unit, evaluation_data(results)["unit"], results)


class EvaluationTest(unittest.TestCase):
    def test_rates_are_those_of_the_counts(self) -> None:
        results = [
            result("a", "one two three", "one too three", "one two three", speaker="x"),
            result("b", "four", "for four", "four", speaker="y", duration=25.0),
            result("c", None, "hello", "hello"),
            {"audio_path": "d", "duration": None, "error": "the file is empty"},
        ]
        data = evaluation_data(results)
        self.assertEqual(["argmax", "beam search"], data["decoders"])
        self.assertEqual(2, data["num_scored"])
        argmax, beam = data["headline"]
        self.assertEqual([1, 0, 1, 4], argmax["wer"]["counts"])
        self.assertAlmostEqual(2 / 4, argmax["wer"]["corpus"])
        self.assertAlmostEqual((1 / 3 + 1) / 2, argmax["wer"]["mean"])
        edits = char_errors("one two three", "one too three").edits + char_errors("four", "for four").edits
        self.assertAlmostEqual(edits / 17, argmax["cer"]["corpus"])
        self.assertEqual((0.0, 1.0), (beam["wer"]["corpus"], beam["perfect"]))
        self.assertEqual(["0–5 s", "20 s and more"], [group["label"] for group in data["durations"][0]])
        self.assertEqual([("y", 1.0), ("x", 1 / 3)], [(each["label"], each["wer"]) for each in data["speakers"][0]])
        self.assertEqual([("two", "too", 1)], data["confusions"][0]["words"]["replace"])
        self.assertEqual("the file is empty", data["utterances"][3]["error"])

    def test_the_longest_recordings_share_a_bin(self) -> None:
        lengths = [1.5, 2.5, 2.9] * 40 + [3600.0]
        results = [result(str(i), "a", "a", duration=length) for i, length in enumerate(lengths)]
        groups = evaluation_data(results)["durations"][0]
        self.assertEqual(
            [("1.5–2 s", 40), ("2.5 s and more", 81)], [(each["label"], each["utterances"]) for each in groups]
        )

    def test_calibration_bins(self) -> None:
        words = [
            {"word": word, "start": 0.0, "end": 0.1, "confidence": confidence}
            for word, confidence in (("a", 0.95), ("b", 0.95), ("x", 0.15), ("d", None))
        ]
        data = evaluation_data([result("1", "a b c d", "a b x d", words=words)])["calibration"]
        low, high = data["bins"]
        self.assertEqual((0.0, 1), (low["right"], low["count"]))
        self.assertEqual((1.0, 2), (high["right"], high["count"]))
        self.assertAlmostEqual((0.15 + 2 * 0.05) / 3, data["error"])

    def test_calibration_without_spaces_is_of_characters(self) -> None:
        words = [{"word": word, "start": 0.0, "end": 0.1, "confidence": 0.9} for word in ("ที่", "นี่", "ม")]
        results = [result("1", "ที่นี่น", "ที่นี่ม", words=words), result("2", "ที่ม", "ม", words=words[2:])]
        data = evaluation_data(results)["calibration"]
        self.assertEqual((4, 0.75), (data["words"], data["right"]))

    def test_words_of_an_unknown_text_are_not_calibrated(self) -> None:
        words = [{"word": "z", "start": 0.0, "end": 0.1, "confidence": 0.9}]
        self.assertIsNone(evaluation_data([result("1", "a", "a", words=words)])["calibration"])

    def test_nothing_at_all(self) -> None:
        for results in ([], [result("a", None)], [{"audio_path": "d", "error": "empty"}], [result("a", "", "", "")]):
            with self.subTest(results=results):
                json.dumps(evaluation_data(results))


class CurvesTest(unittest.TestCase):
    def test_one_chart_for_a_metric_of_all_splits(self) -> None:
        records = [{"step": 10 * i, "time": i, "train_loss": 1.0 / i, "train_grad_norm": None} for i in range(1, 2001)]
        records += [
            {
                "step": 100 * i,
                "time": 2000,
                "epoch": i,
                "val_loss": abs(i - 3),
                "test_other_loss": 1.0,
                "test_other_WER (argmax) corpus": 0.1,
                "test_other_SER": i / 10,
                "exports missing": 1,
            }
            for i in range(1, 6)
        ]
        data = curves_data(records)
        titles = {chart["title"]: [line["label"] for line in chart["series"]] for chart in data["charts"]}
        self.assertEqual(["train", "val", "test_other"], titles["loss"])
        self.assertEqual(["test_other corpus"], titles["WER (argmax)"])
        train = data["charts"][0]["series"][0]["points"]
        self.assertLessEqual(len(train), MAX_POINTS)
        self.assertAlmostEqual((1 + 1 / 2 + 1 / 3) / 3, train[0][1])
        best = {line["name"]: (line["best"], line["step"], line["last"]) for line in data["bests"]}
        self.assertEqual((0, 300, 2), best["val_loss"])
        self.assertEqual((0.1, 100, 0.5), best["test_other_SER"], "a metric of any name")
        self.assertNotIn("exports missing", best)

    def test_numbers_that_no_run_writes(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory, "metrics.jsonl")
            huge = "9" * 400
            lines = [f'{{"step": {huge}}}', f'{{"step": 1, "loss": {huge}, "time": {huge}, "epoch": 1}}', "[" * 9000,
                     '{"step": 2, "loss": NaN, "time": 1.5}', '{"step": 3, "loss": 0.5, "time": 2}']  # fmt: skip
            path.write_text("\n".join([*lines, ""]))
            data = curves_data(read_metrics(path))
        json.dumps(data, allow_nan=False)
        (chart,) = data["charts"]
        self.assertEqual([(1.0, None), (2.0, None), (3.0, 0.5)], chart["series"][0]["points"])

    def test_an_empty_record(self) -> None:
        self.assertEqual([], curves_data([])["charts"])


class ScriptTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_script(self, *arguments: object) -> tuple[int, str]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            code = main([str(each) for each in arguments])
        return code, printed.getvalue()

    def test_a_run_is_found_by_either_of_its_directories(self) -> None:
        log = self.folder / "saved" / "log" / "exp" / "run"
        models = self.folder / "saved" / "models" / "exp" / "run"
        log.mkdir(parents=True)
        models.mkdir(parents=True)
        (log / "metrics.jsonl").write_text('{"step": 1, "time": 0, "train_loss": 2.0}\n')
        for given in (log, models):
            self.assertEqual((0, f"written: {log / 'report.html'}\n"), self.run_script(given))
            self.assertIn("<title>exp: run</title>", (log / "report.html").read_text(encoding="utf-8"))
            (log / "report.html").unlink()
        code, printed = self.run_script(self.folder)
        self.assertEqual(1, code)
        self.assertIn("no metrics.jsonl; give saved/log/EXP/RUN", printed)

    def test_a_run_in_a_storage_is_drawn_again_and_again(self) -> None:
        stored = self.folder / "storage" / "exp" / "one"
        stored.mkdir(parents=True)
        (stored / "metrics.jsonl").write_text('{"step": 1, "time": 1.0, "train_loss": 2.5}\n', encoding="utf-8")
        config = self.folder / "storage.json"
        spec = {"type": "DirectoryStorage", "args": {"path": str(self.folder / "storage")}}
        config.write_text(json.dumps(spec), encoding="utf-8")
        page, waits = self.folder / "page.html", []

        def wait(seconds: float) -> None:
            waits.append(seconds)
            with (stored / "metrics.jsonl").open("a", encoding="utf-8") as file:
                file.write('{"step": 2, "time": 2.0, "train_loss": 1.25}\n')
            if len(waits) == 2:
                raise KeyboardInterrupt

        with mock.patch("hw_asr.commands.report.time.sleep", wait), self.assertRaises(KeyboardInterrupt):
            self.run_script("exp:one", "-c", config, "--watch", 5, "-o", page)
        text = page.read_text(encoding="utf-8")
        self.assertEqual(waits, [5, 5])
        self.assertIn("1.25", text)
        self.assertIn('<meta http-equiv="refresh" content="5">', text)
        code, printed = self.run_script("exp:two", "-c", config)
        self.assertEqual(code, 1)
        self.assertIn("run exp:two: not on the storage; there are: exp:one", printed)

    def test_watching_outlives_failures_of_the_storage(self) -> None:
        storage, gone = self.folder / "storage", self.folder / "gone"
        stored = storage / "exp" / "one"
        stored.mkdir(parents=True)
        (stored / "config.json").write_text("{}")
        config = self.folder / "storage.json"
        config.write_text(json.dumps({"type": "DirectoryStorage", "args": {"path": str(storage)}}))
        metrics = '{"step": 1, "time": 1.0, "train_loss": 2.5}\n'
        changes = [
            lambda: (stored / "metrics.jsonl").write_text(metrics), lambda: storage.rename(gone),
            lambda: gone.rename(storage), mock.Mock(side_effect=KeyboardInterrupt),
        ]  # fmt: skip
        printed = io.StringIO()
        with (
            mock.patch("hw_asr.commands.report.time.sleep", lambda _: changes.pop(0)()),
            contextlib.redirect_stdout(printed),
            self.assertRaises(KeyboardInterrupt),
        ):
            main(["exp:one", "-c", str(config), "--watch", "5", "-o", str(self.folder / "page.html")])
        lines = printed.getvalue().splitlines()
        for line, begin in zip(lines, ("not updated: run exp:one: no metrics.jsonl in the storage yet", "written: ",
                                       "not updated: external storage", "written: "), strict=True):  # fmt: skip
            self.assertTrue(line.startswith(begin), line)
        code, message = self.run_script("exp:one", "-c", config, "-o", self.folder / "page.html")
        self.assertEqual(0, code, message)

    def test_outputs(self) -> None:
        a, b = self.folder / "a.json", self.folder / "b.json"
        a.write_text(json.dumps([result("1", "a b", "a c")]))
        b.write_text(json.dumps([result("1", "a b", "a b")]))
        self.assertEqual(0, self.run_script(a)[0])
        self.assertTrue((self.folder / "a.html").exists())
        code, printed = self.run_script("--compare", a, b, "-o", self.folder / "both.html")
        self.assertEqual(0, code)
        self.assertIn("WER -50.00 points", printed)
        self.assertIn("<title>a: argmax against b: argmax</title>", (self.folder / "both.html").read_text())
        c = self.folder / "c.json"
        c.write_text(json.dumps([result("1", "a b", "a c", "a b")]))
        decoders = ("--decoder", "argmax", "beam_search")
        printed = self.run_script("--compare", c, c, *decoders, "-o", self.folder / "both.html")[1]
        self.assertEqual(["c: argmax", "c: beam search"], [line.split(": WER")[0] for line in printed.splitlines()[:2]])
        printed = self.run_script("--compare", c, c, "-o", self.folder / "both.html")[1]
        self.assertIn("second: beam search: WER 0.00%", printed)

    def test_what_is_no_output_is_refused(self) -> None:
        path = self.folder / "a.json"
        for text, message in (
            ("{", "is not JSON"),
            ("[" * 10**5, "is not JSON"),
            ('{"a": 1}', "the output of test.py"),
        ):
            path.write_text(text)
            with self.assertRaisesRegex(ReportError, message):
                read_results(path)
        whole = {"audio_path": "a.wav", "duration": 1.5, "ground_truth": "a b", "pred_text_argmax": "a c",
                 "pred_text_beam_search": [["a b", 0.5]], "speaker": "s", "loss": 1, "error": None, "warning": "w",
                 "words": [{"word": "a", "start": 0, "end": 0.2, "confidence": 0.9}],
                 "segments": [{"text": "a b", "start": 0, "end": 1}]}  # fmt: skip
        values = [5, "x", [], {}, [5], {"a": 1}, 10**400, float("nan"), True, [[]], [{"text": 5}], None]
        num_refused = 0
        for name, value in itertools.product(whole, values):
            path.write_text(json.dumps([whole, {**whole, name: value}]))
            try:
                results = read_results(path)
            except ReportError as error:
                num_refused += 1
                self.assertIn(f"entry 2: '{name}' is not what test.py writes", str(error))
            else:
                json.dumps(evaluation_data(results), allow_nan=False)
        self.assertGreater(num_refused, 70)
        self.assertEqual(
            (1, f"error: {path}x.json: cannot be read: No such file or directory\n"), self.run_script(f"{path}x.json")
        )


if __name__ == "__main__":
    unittest.main()
