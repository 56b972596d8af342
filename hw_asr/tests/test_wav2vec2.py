"""Pretrained encoders: against torchaudio's forward pass, in other batches, with weights served over HTTP."""

from __future__ import annotations

import importlib.util
import io
import tempfile
import unittest
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from hw_asr.config.registry import MODELS
from hw_asr.experiment.validation import examine
from hw_asr.models.forward import run_model
from hw_asr.pretrained.bundles import PretrainedError
from hw_asr.pretrained.time_masking import draw_spans
from hw_asr.pretrained.wav2vec2 import Wav2Vec2
from hw_asr.pretrained.waveform import Waveform
from hw_asr.tests.fault_server import FaultServer, fault_server

NUM_CLASSES = 7
SIZES = (4000, 401, 9999, 400, 399, 1, 6100)
SMALL = {
    "extractor_conv_layer_config": [(8, 10, 5), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 3, 2), (8, 2, 2), (8, 2, 2)],
    "extractor_conv_bias": False, "encoder_embed_dim": 16, "encoder_projection_dropout": 0.0,
    "encoder_pos_conv_kernel": 8, "encoder_pos_conv_groups": 4, "encoder_num_layers": 2, "encoder_num_heads": 2,
    "encoder_attention_dropout": 0.0, "encoder_ff_interm_features": 24, "encoder_ff_interm_dropout": 0.0,
    "encoder_dropout": 0.0, "encoder_layer_drop": 0.0, "aux_num_out": None,
}  # fmt: skip
WAVLM = {"extractor_mode": "group_norm", "encoder_num_buckets": 16, "encoder_max_distance": 40}
MODES = {"group_norm": False, "layer_norm": True, "wavlm": False}
"""Layouts by how the convolutions normalise; whether such models normalise the waveform and put layer norms first."""


def small_bundles() -> dict[str, Any]:
    """Return a small model for each mode, by its name in `torchaudio.pipelines`."""
    from torchaudio.pipelines import Wav2Vec2Bundle

    bundles = {}
    for mode, large in MODES.items():
        params = {**SMALL, "extractor_mode": mode, "encoder_layer_norm_first": large}
        kind = "Wav2Vec2"
        if mode == "wavlm":
            params, kind = {**params, **WAVLM}, "WavLM"
        bundles[mode.upper()] = Wav2Vec2Bundle(f"{mode}.pth", params, 16000, large, kind)
    return bundles


@unittest.skipUnless(importlib.util.find_spec("torchaudio"), "torchaudio is not installed")
class Wav2Vec2Case(unittest.TestCase):
    """Adds two small models to `torchaudio.pipelines`."""

    def setUp(self) -> None:
        import torchaudio

        self.pipelines = torchaudio.pipelines
        for name, bundle in small_bundles().items():
            patch = mock.patch.object(self.pipelines, name, bundle, create=True)
            patch.start()
            self.addCleanup(patch.stop)

    def model(self, mode: str, **arguments: Any) -> Wav2Vec2:
        torch.manual_seed(0)
        spec = {"type": "Wav2Vec2", "args": {"bundle": mode.upper(), **arguments}}
        model = MODELS.build(spec, n_feats=1, n_class=NUM_CLASSES)
        assert isinstance(model, Wav2Vec2)
        for layer in model.feature_extractor.conv_layers:
            if layer.layer_norm is not None:
                layer.layer_norm.bias.data.normal_()
        return model


def waveforms() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(size, generator=generator) * 0.1 + 0.02 for size in SIZES]


def batch_of(utterances: list[Tensor], extra: int = 0) -> tuple[Tensor, Tensor]:
    """Pad with large values; the front end has to zero them."""
    lengths = torch.tensor([len(utterance) for utterance in utterances])
    samples = torch.full((len(utterances), int(lengths.max()) + extra), 3.0)
    for row, utterance in zip(samples, utterances, strict=True):
        row[: len(utterance)] = utterance
    return Waveform()(samples, lengths)


class ForwardTest(Wav2Vec2Case):
    def test_one_utterance_is_what_torchaudio_computes(self) -> None:
        from torchaudio.models import wav2vec2_model, wavlm_model

        for mode, large in MODES.items():
            model = self.model(mode).eval()
            make = wavlm_model if mode == "wavlm" else wav2vec2_model
            reference = make(**getattr(self.pipelines, mode.upper())._params)
            reference.feature_extractor.load_state_dict(model.feature_extractor.state_dict())
            reference.encoder.load_state_dict(model.encoder.state_dict())
            reference.eval()
            for samples in (utterance for utterance in waveforms() if len(utterance) >= 400):
                with self.subTest(mode, samples=len(samples)), torch.no_grad():
                    given = torch.nn.functional.layer_norm(samples, samples.shape) if large else samples
                    expected = model.linear(reference(given[None])[0][0])
                    torch.testing.assert_close(model(*batch_of([samples]))[0], expected, rtol=0, atol=1e-5)

    def test_logits_do_not_depend_on_the_batch(self) -> None:
        for mode in MODES:
            model = self.model(mode).eval()
            with self.subTest(mode), torch.no_grad():
                alone = [model(*batch_of([samples]))[0] for samples in waveforms()]
                features, lengths = batch_of(waveforms() * 2, extra=777)
                logits, sizes = model(features, lengths), model.transform_input_lengths(lengths).tolist()
                self.assertEqual(sizes[: len(SIZES)], [12, 1, 30, 1, 0, 0, 18])
                for row, size, one in zip(logits, sizes, alone * 2, strict=True):
                    torch.testing.assert_close(row[:size], one[:size], rtol=0, atol=1e-4)
                    self.assertEqual(row[size:].abs().sum().item(), 0)

    def test_training_loss_does_not_depend_on_padding(self) -> None:
        for mode in MODES:
            with self.subTest(mode):
                self.check_padding(mode)

    def check_padding(self, mode: str) -> None:
        losses = []
        for extra in (0, 5000):
            model = self.model(mode, freeze_feature_extractor=False).train()
            features, lengths = batch_of(waveforms(), extra)
            torch.manual_seed(3)  # the masked spans
            log_probs, sizes = run_model(model, features, lengths, "fp32")
            losses.append(sum(row[:size].sum() for row, size in zip(log_probs, sizes.tolist(), strict=True)))
            losses[-1].backward()
            self.assertTrue(model.feature_extractor.conv_layers[0].conv.weight.grad.isfinite().all())
        torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=1e-3)

    def test_frozen_convolutions_get_no_gradient(self) -> None:
        model = self.model("group_norm").train()
        model(*batch_of(waveforms())).sum().backward()
        grads = {name: value.grad for name, value in model.named_parameters()}
        self.assertTrue(all(value is None for name, value in grads.items() if name.startswith("feature_extractor")))
        self.assertIsNotNone(grads["encoder.feature_projection.projection.weight"])
        self.assertIsNotNone(grads["mask_embedding"])


class MaskingTest(unittest.TestCase):
    def test_spans_lie_inside_and_cover_the_share(self) -> None:
        torch.manual_seed(0)
        lengths = torch.tensor([1000, 400, 9, 0] * 20)
        mask = draw_spans(lengths, 1000, 0.5, 10)
        for row, length in zip(mask, lengths.tolist(), strict=True):
            self.assertFalse(row[length:].any())
            runs = torch.diff(
                row.int(), prepend=torch.zeros(1, dtype=torch.int), append=torch.zeros(1, dtype=torch.int)
            )
            starts, ends = (runs == 1).nonzero()[:, 0], (runs == -1).nonzero()[:, 0]
            self.assertTrue(((ends - starts) >= 10).all())
        share = mask[lengths == 1000].float().mean().item()
        self.assertAlmostEqual(
            share, 1 - 2.718281828**-0.5, delta=0.03
        )  # overlaps: a Poisson number of spans per frame


class WeightsTest(Wav2Vec2Case):
    def setUp(self) -> None:
        super().setUp()
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.directory = Path(directory.name)

    def serve(self, content: bytes) -> FaultServer:
        stack = ExitStack()  # enterContext is of Python 3.11
        self.addCleanup(stack.close)
        server = stack.enter_context(fault_server())
        server.files["/group_norm.pth"] = content
        return server

    def test_published_weights_are_downloaded_and_loaded(self) -> None:
        published = self.model("group_norm")
        state = {**published.feature_extractor.state_dict(prefix="feature_extractor."),
                 **published.encoder.state_dict(prefix="encoder."), "aux.weight": torch.zeros(3, 16)}  # fmt: skip
        file = io.BytesIO()
        torch.save(state, file)
        server = self.serve(file.getvalue())
        model = self.model("group_norm", weights_dir=str(self.directory), base_url=server.url)
        for parameter in model.encoder.parameters():
            parameter.data.zero_()
        for _ in range(2):  # the second time from the directory
            model.load_pretrained()
            for name, value in published.encoder.state_dict().items():
                torch.testing.assert_close(model.encoder.state_dict()[name], value, rtol=0, atol=0)
            server.files.clear()

    def test_a_bundle_with_an_address_of_its_own(self) -> None:
        server = self.serve(b"not weights at all")
        bundle = small_bundles()["GROUP_NORM"]
        bundle._path = f"{server.url}/group_norm.pth"
        with mock.patch.object(self.pipelines, "GROUP_NORM", bundle):
            model = self.model("group_norm", weights_dir=str(self.directory), base_url="http://localhost:1/models/")
            with self.assertRaisesRegex(PretrainedError, "group_norm.pth: not the weights of this model"):
                model.load_pretrained()
        self.assertTrue((self.directory / "group_norm.pth").is_file())

    def test_another_file_is_refused(self) -> None:
        server = self.serve(b"not weights at all")
        model = self.model("group_norm", weights_dir=str(self.directory), base_url=server.url)
        with self.assertRaisesRegex(PretrainedError, "not the weights of this model"):
            model.load_pretrained()


class ArgumentsTest(Wav2Vec2Case):
    def test_values_that_make_no_network_are_refused(self) -> None:
        for arguments, num_feats, message in (
            ({"bundle": "WAV2VEC2_BAES"}, 1, "unknown pretrained model 'WAV2VEC2_BAES'; did you mean 'WAV2VEC2_BASE'"),
            ({"bundle": "MMS_FA2"}, 1, "unknown pretrained model"),
            ({"mask_prob": 1.0}, 1, "mask_prob: expected a number in"),
            ({"mask_length": 0}, 1, "mask_length: expected a positive integer"),
            ({}, 64, "Wav2Vec2 reads waveforms"),
        ):
            spec = {"type": "Wav2Vec2", "args": {"bundle": "GROUP_NORM", **arguments}}
            with self.subTest(arguments), self.assertRaisesRegex(ValueError, message):
                MODELS.build(spec, n_feats=num_feats, n_class=NUM_CLASSES)

    def test_another_sample_rate_is_a_fault_of_the_config(self) -> None:
        config = {
            "name": "x", "arch": {"type": "Wav2Vec2", "args": {"bundle": "GROUP_NORM"}}, "data": {},
            "preprocessing": {"sr": 8000, "spectrogram": {"type": "Waveform"}},
            "trainer": {"epochs": 1}, "optimizer": {"type": "SGD", "args": {"lr": 0.1}},
        }  # fmt: skip
        for training in (True, False):  # not for training: the config of a checkpoint
            faults = examine(config, training=training).faults
            self.assertIn("preprocessing.sr: 8000 Hz, but Wav2Vec2 needs 16000 Hz", "\n".join(faults))


if __name__ == "__main__":
    unittest.main()
