"""Spectrogram, MelSpectrogram and MFCC against torchaudio, and against values of torchaudio 2.11 that are stored here.

`python -m hw_asr.tests.test_spectrograms --write` writes the stored values anew; it needs torchaudio.
"""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import unittest
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hw_asr import spectrograms
from hw_asr.config.registry import SPECTROGRAMS
from hw_asr.tests.missing_packages import missing

try:
    import torchaudio
except (ImportError, OSError) as error:
    torchaudio, MISSING = None, f"cannot import torchaudio: {error}"
else:
    MISSING = ""

ROOT = Path(__file__).resolve().parents[2]
STORED = Path(__file__).parent / "fixtures" / "torchaudio_spectrograms.json"
RATE = 16_000
FRAME = 7
CASES: list[tuple[str, dict[str, Any]]] = [
    ("Spectrogram", {"n_fft": 64}),
    ("Spectrogram", {"n_fft": 64, "win_length": 41, "hop_length": 25, "power": 1.0}),
    ("Spectrogram", {"n_fft": 63, "normalized": "frame_length", "power": 0.5}),
    ("Spectrogram", {"n_fft": 64, "normalized": True, "onesided": False, "center": False}),
    ("Spectrogram", {"n_fft": 64, "pad": 100, "pad_mode": "constant"}),
    ("Spectrogram", {"n_fft": 64, "pad_mode": "circular", "wkwargs": {"periodic": False}}),
    ("MelSpectrogram", {}),
    ("MelSpectrogram", {"n_fft": 512, "win_length": 401, "hop_length": 160, "n_mels": 40}),
    ("MelSpectrogram", {"n_mels": 40, "norm": "slaney", "mel_scale": "slaney", "f_min": 20.0, "f_max": 7600.0}),
    ("MelSpectrogram", {"n_mels": 23, "mel_scale": "slaney", "power": 1.0, "sample_rate": 8000}),
    ("MelSpectrogram", {"n_mels": 40, "norm": "slaney", "normalized": True, "sample_rate": 22_051}),
    ("MFCC", {}),
    ("MFCC", {"n_mfcc": 13, "melkwargs": {"n_mels": 40, "hop_length": 160}}),
    ("MFCC", {"n_mfcc": 13, "log_mels": True, "norm": None, "melkwargs": {"n_mels": 23}}),
]


def signal(num_samples: int) -> torch.Tensor:
    """Return a rising tone with an overtone and a click, the same on every machine."""
    time = np.arange(num_samples) / RATE
    samples = 0.3 * np.sin(2 * np.pi * (300 + 2000 * time) * time) + 0.1 * np.sin(2 * np.pi * 3000 * time)
    samples[num_samples // 3] += 0.5
    return torch.from_numpy(samples).float()


def close(actual: torch.Tensor, expected: torch.Tensor) -> None:
    """Compare to 1e-6 of the largest value, which is what float32 arithmetic of another order allows."""
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6 * float(expected.abs().max()))


class SpectrogramsTest(unittest.TestCase):
    def test_stored_values_of_torchaudio(self) -> None:
        stored = json.loads(STORED.read_text(encoding="utf-8"))
        self.assertEqual(len(stored), len(CASES))
        for (kind, arguments), expected in zip(CASES, stored, strict=True):
            with self.subTest(kind=kind, arguments=arguments):
                features = getattr(spectrograms, kind)(**arguments)(signal(4000))
                self.assertEqual(list(features.shape), expected["shape"])
                close(features[:, FRAME], torch.tensor(expected["frame"]))

    @unittest.skipIf(MISSING, MISSING)
    def test_torchaudio_gives_the_same(self) -> None:
        generator = torch.Generator().manual_seed(0)
        for kind, arguments in CASES:
            for samples in (signal(4000), 0.1 * torch.randn(2, 1, 3001, generator=generator)):
                with self.subTest(kind=kind, arguments=arguments, shape=samples.shape), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # about mel filters without a frequency
                    theirs = getattr(torchaudio.transforms, kind)(**arguments)
                    close(getattr(spectrograms, kind)(**arguments)(samples), theirs(samples))

    @unittest.skipIf(MISSING, MISSING)
    def test_torchaudio_has_the_same_arguments_and_defaults(self) -> None:
        for kind in spectrograms.__all__:
            ours, theirs = (
                [(name, p.default) for name, p in inspect.signature(getattr(module, kind)).parameters.items()]
                for module in (spectrograms, torchaudio.transforms)
            )
            self.assertEqual(ours, theirs)

    def test_parseval(self) -> None:
        """Independent of torchaudio: with a window of ones, frames keep their energy."""
        transform = spectrograms.Spectrogram(n_fft=64, hop_length=64, center=False, onesided=False,
                                             window_fn=torch.ones, normalized="frame_length")  # fmt: skip
        samples = signal(640)
        torch.testing.assert_close(transform(samples).sum(dim=0), samples.reshape(10, 64).square().sum(dim=1))

    def test_mel_scales(self) -> None:
        def peaks(f_max: float, scale: str) -> list[int]:
            transform = spectrograms.MelSpectrogram(RATE, RATE, n_mels=3, f_max=f_max, mel_scale=scale)  # type: ignore[arg-type]
            return transform.mel_scale.fb.argmax(dim=0).tolist()  # type: ignore[no-any-return]

        self.assertEqual(peaks(800.0, "slaney"), [200, 400, 600])  # linear below 1000 Hz
        # equally spaced in log(1 + f / 700), from log(1) to log(3)
        np.testing.assert_allclose(peaks(1400.0, "htk"), [700 * (3 ** (i / 4) - 1) for i in (1, 2, 3)], atol=1)

    def test_wrong_arguments(self) -> None:
        for kind, arguments, message in (
            ("Spectrogram", {"win_length": 500}, "win_length 500, n_fft 400"),
            ("Spectrogram", {"hop_length": 0}, "hop_length must be positive"),
            ("MelSpectrogram", {"f_min": 9000.0}, "f_min 9000, f_max 8000"),
            ("MelSpectrogram", {"n_mels": 0}, "n_mels must be positive"),
            ("MFCC", {"n_mfcc": 41, "melkwargs": {"n_mels": 40}}, "n_mfcc 41, n_mels 40"),
            ("MFCC", {"dct_type": 3}, "dct_type must be 2"),
        ):
            with self.subTest(message), self.assertRaisesRegex(ValueError, message):
                getattr(spectrograms, kind)(**arguments)


class WithoutTorchaudioTest(unittest.TestCase):
    def test_only_other_types_need_it(self) -> None:
        with missing("torchaudio", "torchaudio.transforms"):
            for name in spectrograms.__all__:
                self.assertEqual(SPECTROGRAMS.check({"type": name}, "x"), [])
            (fault,) = SPECTROGRAMS.check({"type": "LFCC"}, "x")
        self.assertRegex(fault, "x.type: unknown spectrogram 'LFCC'.*known: MFCC, MelSpectrogram, Spectrogram[;,]")
        self.assertRegex(fault, r"cannot import torchaudio.transforms, .*pip install 'hw_asr\[torchaudio\]'$")

    @unittest.skipIf(MISSING, MISSING)
    def test_other_types_come_from_it(self) -> None:
        self.assertIs(SPECTROGRAMS.find({"type": "LFCC"}), torchaudio.transforms.LFCC)

    def test_the_program_does_not_import_it(self) -> None:
        code = "import sys, train, test, hw_asr.experiment.components; print('torchaudio' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
        self.assertEqual(done.stdout.strip(), "False")


def write_stored() -> None:
    """Write what torchaudio computes."""
    lines = []
    for kind, arguments in CASES:
        features = getattr(torchaudio.transforms, kind)(**arguments)(signal(4000))
        frame = [float(f"{value:.8g}") for value in features[:, FRAME].tolist()]
        lines.append(json.dumps({"type": kind, "args": arguments, "shape": list(features.shape), "frame": frame}))
    STORED.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        write_stored()
    else:
        unittest.main()
