"""The page about live recognition, and the tree of a live beam search."""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
import unittest
from pathlib import Path

import numpy as np
import soundfile

from hw_asr.checkpoints.writing import save_checkpoint
from hw_asr.streaming.beam import common_ancestor
from hw_asr.tests.streaming_case import make_random, random_config
from hw_asr.tests.test_streaming import RATE, sounds
from hw_asr.tests.transcribe_case import ROOT


class PageTest(unittest.TestCase):
    def test_the_page_runs_as_it_is(self) -> None:
        page = (ROOT / "docs" / "streaming.md").read_text(encoding="utf-8")
        config = random_config(np.random.default_rng(10), normalize="global")
        network = make_random(config)
        printed, before = io.StringIO(), Path.cwd()
        with tempfile.TemporaryDirectory() as folder:
            state = {"state_dict": network.model.state_dict(), "config": config}
            save_checkpoint(state, Path(folder) / "streaming.pth")
            soundfile.write(Path(folder) / "talk.wav", sounds(np.random.default_rng(1), 4.0), RATE, subtype="FLOAT")
            try:
                os.chdir(folder)
                for block in re.findall(r"^```python\n(.*?)^```$", page, flags=re.DOTALL | re.MULTILINE):
                    with contextlib.redirect_stdout(printed):
                        exec(compile(block, "docs/streaming.md", "exec"), {})
            finally:
                os.chdir(before)
        lines = printed.getvalue().splitlines()
        self.assertEqual(lines[-1], "True")
        self.assertGreater(len(lines[-2]), 5)


class CommonAncestorTest(unittest.TestCase):
    def test_it_is_the_last_node_on_all_ways_to_the_root(self) -> None:
        generator = np.random.default_rng(0)
        for _ in range(200):
            size = int(generator.integers(1, 40))
            parents = np.array([-1, *(int(generator.integers(max(0, node - 5), node)) for node in range(1, size))])
            nodes = generator.integers(0, size, int(generator.integers(1, 5))).tolist()

            def way(node: int, parents: np.ndarray = parents) -> list[int]:
                return [node, *way(int(parents[node]))] if node >= 0 else []

            shared = set.intersection(*(set(way(node)) for node in nodes))
            self.assertEqual(common_ancestor(nodes, parents), max(shared))


if __name__ == "__main__":
    unittest.main()
