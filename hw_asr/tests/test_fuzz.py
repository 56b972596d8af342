"""Every fuzz target survives some hundred mutated inputs; hours of it are for hand: python -m hw_asr.tests.fuzz."""

from __future__ import annotations

import logging
import random
import tempfile
import time
import unittest
import unittest.mock
import warnings
from itertools import islice
from pathlib import Path

from hw_asr.tests.fuzz.engine import Hang, Target, mutations, run, targets

NUM_INPUTS = 120


class FuzzTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        logging.disable()
        self.addCleanup(logging.disable, logging.NOTSET)

    def test_every_target(self) -> None:
        for name, target in targets().items():
            with self.subTest(name), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                inputs = islice(mutations(target.seeds(), target.tokens, random.Random(7)), NUM_INPUTS)
                for finding in run(target, self.folder, inputs):
                    if finding is not None:
                        raise AssertionError(f"{finding.data[:2000]!r}") from finding.error

    def test_seeds_are_valid_inputs(self) -> None:
        for name, target in targets().items():
            with self.subTest(name):
                parsed = 0
                for data in target.seeds():
                    target.write(self.folder / f"input{target.suffix}", data)
                    try:
                        target.parse(self.folder / f"input{target.suffix}")
                        parsed += 1
                    except target.expected:
                        continue
                self.assertGreater(parsed, 0, "no seed parses")

    def test_the_engine_finds_what_is_wrong(self) -> None:
        def crash(path: Path) -> None:
            if path.read_bytes() != b"valid":
                raise KeyError("planted")

        found = list(
            run(Target(lambda: [b"valid"], crash), self.folder, islice(mutations([b"valid"], [], random.Random(0)), 20))
        )
        self.assertIsNone(found[0])
        self.assertTrue(any(finding is not None and isinstance(finding.error, KeyError) for finding in found))

    def test_a_hang_ends(self) -> None:
        with unittest.mock.patch("hw_asr.tests.fuzz.engine.SECONDS_PER_INPUT", 0.05):
            start = time.process_time()

            def spin(path: Path) -> None:
                while time.process_time() < start + 60:
                    path.exists()

            (finding,) = run(Target(lambda: [b""], spin), self.folder, iter([b""]))
        self.assertIsNotNone(finding)
        assert finding is not None
        self.assertIsInstance(finding.error, Hang)


if __name__ == "__main__":
    unittest.main()
