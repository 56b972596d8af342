"""Acoustic models against plain layers of torch; an utterance does not depend on padding or the rest of its batch."""

from __future__ import annotations

import itertools
import unittest
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import hw_asr.models.baseline
import hw_asr.models.deepspeech2  # noqa: F401
from hw_asr.config.registry import MODELS
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.deepspeech2_config import CNNConfig, GRUConfig, LookaheadConfig

NUM_FEATS, NUM_CLASSES = 20, 7
CONVOLUTIONS = {
    "one": CNNConfig(3, (7, 5)),
    "one, strides": CNNConfig(2, (5, 3), (2, 3)),
    "two": CNNConfig([2, 3], [(5, 3), (3, 5)], [(2, 2), (1, 1)]),
    "three": CNNConfig(2, [(5, 7), (3, 3), (1, 3)], [(2, 1), (3, 2), (1, 2)]),
}


def make(convolutions: str = "one", seed: int = 0, lookahead: int | None = None, **gru: Any) -> DeepSpeech2:
    """A small model whose running statistics and affine weights are not the trivial ones."""
    torch.manual_seed(seed)
    config = GRUConfig(**{"hidden_dims": 6, "num_of_layers": 2, **gru})
    ahead = LookaheadConfig(lookahead) if lookahead else None
    model = DeepSpeech2(NUM_FEATS, NUM_CLASSES, CONVOLUTIONS[convolutions], config, ahead)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 2.0)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()
    return model


def batch_of(spectrograms: list[Tensor], extra: int = 0, filler: float = 0.0) -> tuple[Tensor, Tensor]:
    """Pad (F, T) spectrograms with `filler` to their longest and `extra` frames more."""
    lengths = torch.tensor([each.shape[1] for each in spectrograms])
    batch = torch.full((len(spectrograms), spectrograms[0].shape[0], int(lengths.max()) + extra), filler)
    for row, each in zip(batch, spectrograms, strict=True):
        row[:, : each.shape[1]] = each
    return batch, lengths


def alone(model: DeepSpeech2, spectrogram: Tensor) -> Tensor:
    """The network written out with torch's plain layers, for one utterance (F, T): logits (T', V)."""
    x = spectrogram[None, None]
    for layer in model.cnn_block.block:
        if isinstance(layer, nn.Conv2d):
            x = F.conv2d(x, layer.weight, layer.bias, layer.stride, layer.padding)
        elif isinstance(layer, nn.BatchNorm1d):
            x = F.batch_norm(x, layer.running_mean, layer.running_var, layer.weight, layer.bias)
        else:
            x = x.relu()
    x = x.flatten(1, 2).permute(2, 0, 1)
    for index, layer in enumerate(model.gru_block.rnn_layers):
        plain = nn.GRU(layer.input_size, layer.hidden_size, bidirectional=layer.bidirectional)
        plain.load_state_dict(layer.state_dict())
        x = plain(x)[0]
        norm = model.gru_block.bn_layers[index]
        if isinstance(norm, nn.BatchNorm1d):
            x = F.batch_norm(x[:, 0], norm.running_mean, norm.running_var, norm.weight, norm.bias)[:, None]
    if model.lookahead is not None:
        weight = model.lookahead.conv.weight[:, 0]
        future = weight.shape[1]
        x = F.pad(x[:, 0], (0, 0, 0, future - 1)).unfold(0, future, 1).mul(weight).sum(-1)[:, None]
    return F.linear(x[:, 0], model.linear.weight, model.linear.bias)


class IntermediateTest(unittest.TestCase):
    def test_logits_of_inner_layers(self) -> None:
        torch.manual_seed(0)
        model = DeepSpeech2(
            NUM_FEATS, NUM_CLASSES, CNNConfig(2, (5, 3), (2, 2)), GRUConfig([6, 5, 4]), intermediate_layers=[2, 1]
        ).eval()
        batch, lengths = batch_of([torch.randn(NUM_FEATS, size) for size in (20, 13)])
        with torch.no_grad():
            logits, inner = model.forward_all(batch, lengths)
            torch.testing.assert_close(logits, model(batch, lengths), rtol=0, atol=0)
            rows, packing = model.cnn_block(batch, lengths)
            for number, layer in enumerate(inner):
                rows = model.gru_block.bn_layers[number](model.gru_block.rnn_layers[number](rows, packing))
                expected = packing.unpack(model.intermediate.heads[str(number + 1)](rows))
                torch.testing.assert_close(layer, expected, rtol=0, atol=1e-6)
        self.assertEqual(len(inner), 2)

    def test_self_conditioning_is_part_of_the_network(self) -> None:
        torch.manual_seed(0)
        model = DeepSpeech2(
            NUM_FEATS, NUM_CLASSES, CNNConfig(2, (5, 3)), GRUConfig([6, 5]), intermediate_layers=[1],
            self_conditioning=True,
        ).eval()  # fmt: skip
        batch, lengths = batch_of([torch.randn(NUM_FEATS, size) for size in (20, 13)])
        with torch.no_grad():
            logits = model(batch, lengths)
            torch.testing.assert_close(model.forward_all(batch, lengths)[0], logits, rtol=0, atol=0)
            model.intermediate.feedback["1"].weight.mul_(2)
            self.assertGreater((model(batch, lengths) - logits).abs().max().item(), 1e-4)


class CompanyTest(unittest.TestCase):
    def test_all_architectures_against_plain_layers(self) -> None:
        generator = torch.Generator().manual_seed(1)
        spectrograms = [torch.randn(NUM_FEATS, size, generator=generator) for size in (9, 31, 1, 2, 17)]
        for convolutions, bidirectional, batch_norm, lookahead in itertools.product(
            CONVOLUTIONS, (False, True), (False, True), (None, 1, 4)
        ):
            with self.subTest(convolutions, bidirectional=bidirectional, batch_norm=batch_norm, lookahead=lookahead):
                model = make(
                    convolutions, lookahead=lookahead, bidirectional=bidirectional, use_batch_norm=batch_norm
                ).eval()
                batch, lengths = batch_of(spectrograms, extra=3, filler=5.0)
                with torch.no_grad():
                    logits = model(batch, lengths)
                    sizes = model.transform_input_lengths(lengths).tolist()
                    for row, size, one in zip(logits, sizes, spectrograms, strict=True):
                        expected = alone(model, one)
                        self.assertEqual(len(expected), size)
                        torch.testing.assert_close(row[:size], expected, rtol=0, atol=1e-4)

    def test_batch_1_7_and_32_in_any_order(self) -> None:
        generator = torch.Generator().manual_seed(2)
        model = make("two", bidirectional=True).eval()
        sizes = torch.randint(1, 90, (38,), generator=generator).tolist()
        spectrograms = [torch.randn(NUM_FEATS, size, generator=generator) for size in sizes]
        with torch.no_grad():
            single = [model(*batch_of([each]))[0] for each in spectrograms]
            for batch_size in (7, 32):
                order = torch.randperm(len(sizes), generator=generator).tolist()
                for start in range(0, len(order), batch_size):
                    members = order[start : start + batch_size]
                    logits = model(*batch_of([spectrograms[index] for index in members]))
                    for row, index in zip(logits, members, strict=True):
                        torch.testing.assert_close(row[: len(single[index])], single[index], rtol=0, atol=1e-4)

    def test_padding_changes_neither_training_loss_nor_gradients_nor_statistics(self) -> None:
        generator = torch.Generator().manual_seed(3)
        spectrograms = [torch.randn(NUM_FEATS, size, generator=generator) for size in (40, 25, 12)]
        targets, target_lengths = torch.tensor([[1, 2, 3], [4, 5, 5], [6, 1, 0]]), torch.tensor([3, 3, 2])

        def step(extra: int, filler: float, order: list[int]) -> tuple[Tensor, list[Tensor]]:
            model = make("two", bidirectional=True, lookahead=3)
            batch, lengths = batch_of([spectrograms[index] for index in order], extra, filler)
            log_probs = model(batch, lengths).log_softmax(-1).transpose(0, 1)
            losses = F.ctc_loss(
                log_probs,
                targets[order],
                model.transform_input_lengths(lengths),
                target_lengths[order],
                reduction="none",
            )
            losses.sum().backward()
            state = [each.grad for each in model.parameters()] + [each.clone() for each in model.buffers()]
            return losses[torch.tensor(order).argsort()].detach(), state

        loss, state = step(0, 0.0, [0, 1, 2])
        for extra, filler, order in ((1, 0.0, [0, 1, 2]), (50, -9.0, [2, 0, 1]), (203, float("nan"), [1, 2, 0])):
            other_loss, other_state = step(extra, filler, order)
            torch.testing.assert_close(other_loss, loss, rtol=1e-5, atol=1e-5)
            for ours, theirs in zip(other_state, state, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)

    def test_empty_rows(self) -> None:
        model = make("two", bidirectional=True, lookahead=2)
        spectrogram = torch.randn(3, NUM_FEATS, 15)
        with torch.no_grad():
            self.assertEqual(model(spectrogram, torch.tensor([0, 0, 0])).abs().sum().item(), 0.0)
            self.assertEqual(model(spectrogram[..., :0], torch.tensor([0, 0, 0])).shape, (3, 0, NUM_CLASSES))
            model.eval()
            logits = model(spectrogram, torch.tensor([0, 15, 0]))
            torch.testing.assert_close(logits[1:2], model(spectrogram[1:2], torch.tensor([15])), rtol=0, atol=1e-5)
        model.train()
        model(spectrogram, torch.tensor([0, 15, 0])).sum().backward()
        model(spectrogram[:1, :, :1], torch.tensor([1])).sum().backward()
        self.assertTrue(all(bool(each.grad.isfinite().all()) for each in model.parameters()))


class PrecisionTest(unittest.TestCase):
    def test_bfloat16_training_stays_near(self) -> None:
        generator = torch.Generator().manual_seed(5)
        batch, lengths = batch_of([torch.randn(NUM_FEATS, size, generator=generator) for size in (30, 11)])
        model = make("two", bidirectional=True, lookahead=2)
        expected = model(batch, lengths)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(batch, lengths)
        logits.float().sum().backward()
        self.assertLess((logits.float() - expected).abs().max().item(), 0.2)
        self.assertTrue(all(bool(each.grad.isfinite().all()) for each in model.parameters()))


class LengthsTest(unittest.TestCase):
    def test_lengths_1_to_500(self) -> None:
        lengths = torch.arange(1, 501)
        for name in CONVOLUTIONS:
            model = make(name)
            transformed = model.transform_input_lengths(lengths).tolist()
            shapes = [torch.empty(1, 1, NUM_FEATS, size, device="meta") for size in lengths.tolist()]
            for layer in model.cnn_block.block:
                if isinstance(layer, nn.Conv2d):
                    shapes = [layer.to("meta")(each) for each in shapes]
            self.assertEqual(transformed, [each.shape[-1] for each in shapes], name)

    def test_output_is_as_long_as_the_padded_length_transforms_to(self) -> None:
        for name in CONVOLUTIONS:
            model = make(name).eval()
            logits = model(torch.zeros(2, NUM_FEATS, 33), torch.tensor([4, 20]))
            self.assertEqual(logits.shape[1], int(model.transform_input_lengths(torch.tensor([33]))))


class ConfigTest(unittest.TestCase):
    def test_scalars_stand_for_all_layers(self) -> None:
        args = {"n_feats": 16, "cnn_config": {"output_channels": 2, "filters": [[5, 3], [3, 3]], "stride": [2, 1]}}
        spec = {"type": "DeepSpeech2", "args": {**args, "gru_config": {"hidden_dims": 4, "num_of_layers": 3}}}
        self.assertEqual(MODELS.check(spec, "arch", ["n_class"]), [])
        model = MODELS.build(spec, n_class=5)
        self.assertEqual([tuple(layer.stride) for layer in model.cnn_block.block[::3]], [(2, 1), (2, 1)])
        self.assertEqual([layer.hidden_size for layer in model.gru_block.rnn_layers], [4, 4, 4])

    def test_impossible_values_are_explained(self) -> None:
        cases = {
            "n_class": {"n_class": 0},
            "cnn_config.filters": {"cnn_config": CNNConfig(2, (4, 3))},
            "cnn_config.stride": {"cnn_config": CNNConfig(2, (3, 3), (0, 1))},
            "cnn_config.output_channels": {"cnn_config": CNNConfig([2, -1], (3, 3))},
            "gru_config.hidden_dims": {"gru_config": GRUConfig([4, 4], num_of_layers=3)},
            "gru_config.dropout": {"gru_config": GRUConfig(4, dropout=1.0)},
            "lookahead_config.future_time": {"lookahead_config": LookaheadConfig(0)},
        }
        good = {"n_feats": 16, "n_class": 5, "cnn_config": CNNConfig(2, (3, 3)), "gru_config": GRUConfig(4)}
        with self.assertRaisesRegex(ValueError, "^cnn_config.filters: expected 3 entries, one per layer, got 2"):
            CNNConfig([2, 2, 2], [(3, 3), (3, 3)]).layers()
        for name, change in cases.items():
            with self.assertRaisesRegex(ValueError, f"^{name}: expected "):
                DeepSpeech2(**{**good, **change})

    def test_baseline(self) -> None:
        model = MODELS.build({"type": "BaselineModel", "args": {"n_feats": 12, "fc_hidden": 8}}, n_class=5)
        names = [f"net.{index}.{kind}" for index in (0, 2, 4) for kind in ("weight", "bias")]
        self.assertEqual(list(model.state_dict()), names)
        lengths = torch.tensor([9, 4])
        self.assertEqual(model(torch.zeros(2, 12, 9), lengths).shape, (2, 9, 5))
        self.assertEqual(model.transform_input_lengths(lengths).tolist(), [9, 4])


if __name__ == "__main__":
    unittest.main()
