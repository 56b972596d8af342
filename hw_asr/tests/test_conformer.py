"""The Conformer: against torchaudio's layer, a loop over frames, and itself in other batches."""

from __future__ import annotations

import importlib.util
import math
import unittest

import torch
from torch import Tensor, nn

from hw_asr.config.registry import MODELS
from hw_asr.models.conformer import Conformer
from hw_asr.models.conformer_layer import ConformerLayer, SelfAttention
from hw_asr.models.packing import Packing
from hw_asr.models.rotary import RotaryPositions, Rotation

NUM_FEATS, NUM_CLASSES, DIM = 20, 7, 16


def make(intermediate_layers: tuple[int, ...] = (), self_conditioning: bool = False, dropout: float = 0.0) -> Conformer:
    """A small model whose running statistics and affine weights are not the initial ones."""
    torch.manual_seed(0)
    model = Conformer(
        NUM_FEATS, NUM_CLASSES, dim=DIM, num_layers=3, num_heads=2, ffn_dim=24, kernel_size=5, dropout=dropout,
        intermediate_layers=intermediate_layers, self_conditioning=self_conditioning,
    )  # fmt: skip
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d):
            module.running_var.uniform_(0.5, 2.0)
            module.running_mean.normal_()
    return model


def spectrograms(*sizes: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(NUM_FEATS, size, generator=generator) for size in sizes]


def batch_of(utterances: list[Tensor], extra: int = 0) -> tuple[Tensor, Tensor]:
    """Pad with large values, which must have no effect."""
    lengths = torch.tensor([utterance.shape[1] for utterance in utterances])
    batch = torch.full((len(utterances), NUM_FEATS, int(lengths.max()) + extra), 7.0)
    for row, utterance in zip(batch, utterances, strict=True):
        row[:, : utterance.shape[1]] = utterance
    return batch, lengths


class LayerTest(unittest.TestCase):
    @unittest.skipUnless(importlib.util.find_spec("torchaudio"), "torchaudio is not installed")
    def test_without_positions_it_is_the_layer_of_torchaudio(self) -> None:
        from torchaudio.models.conformer import ConformerLayer as Reference

        torch.manual_seed(0)
        reference = Reference(DIM, 24, 2, 5, dropout=0.0).eval()
        layer = ConformerLayer(DIM, 2, 24, 5, 0.0).eval()
        for own, theirs in (("first_ffn", reference.ffn1), ("second_ffn", reference.ffn2)):
            getattr(layer, own).layers.load_state_dict(theirs.sequential.state_dict())
        attention, convolution = reference.self_attn, reference.conv_module
        norm, depthwise = convolution.sequential[3], convolution.sequential[2]
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        pairs: list[tuple[nn.Module, dict[str, Tensor]]] = [
            (layer.attention.norm, reference.self_attn_layer_norm.state_dict()),
            (layer.attention.inputs, {"weight": attention.in_proj_weight, "bias": attention.in_proj_bias}),
            (layer.attention.output, attention.out_proj.state_dict()),
            (layer.convolution.norm, convolution.layer_norm.state_dict()),
            (layer.convolution.gated, _linear(convolution.sequential[0])),
            (layer.convolution.depthwise, depthwise.state_dict()),
            (layer.convolution.batch_norm, norm.state_dict()),
            (layer.convolution.output, _linear(convolution.sequential[5])),
            (layer.norm, reference.final_layer_norm.state_dict()),
        ]
        for module, state in pairs:
            module.load_state_dict(state)
        frames = torch.randn(11, 1, DIM)
        packing = Packing(torch.tensor([11]), 11, torch.device("cpu"))
        still = Rotation(torch.ones(11, 4), torch.zeros(11, 4))
        with torch.no_grad():
            expected = reference(frames, torch.zeros(1, 11, dtype=torch.bool))[:, 0]
            torch.testing.assert_close(layer(frames[:, 0], packing, still), expected, rtol=0, atol=1e-5)

    def test_attention_with_positions_against_a_loop_over_frames(self) -> None:
        torch.manual_seed(0)
        attention, num_frames, size = SelfAttention(DIM, 2, 0.0), 9, 8
        rows = torch.randn(num_frames, DIM)
        packing = Packing(torch.tensor([num_frames]), num_frames, torch.device("cpu"))
        with torch.no_grad():
            result = attention(rows, packing, RotaryPositions(size)(num_frames, rows.device))
            query, key, value = attention.inputs(attention.norm(rows)).view(num_frames, 3, 2, size).unbind(1)
            expected = torch.zeros(num_frames, 2, size)
            for head in range(2):
                for here in range(num_frames):
                    scores = [
                        self.score(query[here, head], key[there, head], here - there) for there in range(num_frames)
                    ]
                    weights = torch.tensor(scores).softmax(0)
                    expected[here, head] = weights @ value[:, head]
            torch.testing.assert_close(result, attention.output(expected.flatten(1)), rtol=0, atol=1e-5)

    @staticmethod
    def score(query: Tensor, key: Tensor, distance: int) -> float:
        """The definition: pairs as complex numbers, turned by an angle proportional to the distance."""
        half, total = len(query) // 2, 0.0
        for index in range(half):
            angle = distance * 10000.0 ** (-2 * index / len(query))
            turned = complex(query[index], query[index + half]) * complex(math.cos(angle), math.sin(angle))
            total += (turned * complex(key[index], key[index + half]).conjugate()).real
        return total / math.sqrt(len(query))


class BatchTest(unittest.TestCase):
    def test_logits_do_not_depend_on_the_batch(self) -> None:
        utterances = spectrograms(9, 31, 1, 2, 17, 64, 30)
        for conditioned in (False, True):
            model = make((1, 2), conditioned).eval()
            with torch.no_grad():
                alone = [model(*batch_of([utterance]))[0] for utterance in utterances]
                for group in (utterances, utterances[::-1], utterances * 4):
                    batch, lengths = batch_of(group, extra=5)
                    logits, sizes = model(batch, lengths), model.transform_input_lengths(lengths)
                    references = {id(utterance): one for utterance, one in zip(utterances, alone, strict=True)}
                    for row, size, utterance in zip(logits, sizes, group, strict=True):
                        one = references[id(utterance)]
                        self.assertEqual(len(one), int(size))
                        torch.testing.assert_close(row[:size], one, rtol=0, atol=1e-4)

    def test_padding_is_not_read(self) -> None:
        model = make().eval()
        batch, lengths = batch_of(spectrograms(23, 40, 9), extra=5)
        noisy = batch.clone()
        for row, length in zip(noisy, lengths.tolist(), strict=True):
            row[:, length:] = float("nan")
        with torch.no_grad():
            torch.testing.assert_close(model(noisy, lengths), model(batch, lengths), rtol=0, atol=0)

    def test_training_does_not_depend_on_padding(self) -> None:
        gradients = []
        for extra in (0, 13):
            model = make((2,), dropout=0.2).train()
            batch, lengths = batch_of(spectrograms(23, 40, 8), extra)
            torch.manual_seed(5)
            logits, inner = model.forward_all(batch, lengths)
            sizes = model.transform_input_lengths(lengths).tolist()
            loss = sum(
                row[:size].square().sum() for each in (logits, *inner) for row, size in zip(each, sizes, strict=True)
            )
            assert isinstance(loss, Tensor)
            loss.backward()
            gradients.append([parameter.grad for parameter in model.parameters()])
        for first, second in zip(*gradients, strict=True):
            torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)

    def test_an_utterance_without_frames_changes_nothing(self) -> None:
        model = make().train()
        batch, _ = batch_of(spectrograms(12, 12))
        logits = model(batch, torch.tensor([12, 0]))
        logits.sum().backward()
        self.assertTrue(
            all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())
        )
        self.assertEqual(logits[1].abs().max().item(), 0)


class IntermediateTest(unittest.TestCase):
    def test_logits_of_inner_layers(self) -> None:
        model = make((1, 2)).eval()
        batch, lengths = batch_of(spectrograms(20, 13))
        with torch.no_grad():
            logits, inner = model.forward_all(batch, lengths)
            torch.testing.assert_close(logits, model(batch, lengths), rtol=0, atol=0)
            rows, packing = model.subsampling(batch, lengths)
            rows = model.layers[0](rows, packing, model.positions(packing.num_frames, rows.device))
            expected = packing.unpack(model.intermediate.heads["1"](rows))
        self.assertEqual([each.shape for each in inner], [logits.shape] * 2)
        torch.testing.assert_close(inner[0], expected, rtol=0, atol=1e-6)

    def test_heads_are_not_computed_where_nothing_reads_them(self) -> None:
        model = make((1,)).eval()
        for parameter in model.intermediate.parameters():
            parameter.data.fill_(float("nan"))
        with torch.no_grad():
            self.assertTrue(model(*batch_of(spectrograms(20))).isfinite().all())

    def test_self_conditioning_changes_what_the_next_layer_reads(self) -> None:
        model = make((1,), self_conditioning=True).eval()
        batch = batch_of(spectrograms(20))
        with torch.no_grad():
            before = model(*batch)
            model.intermediate.feedback["1"].weight.data.mul_(2)
            self.assertGreater((model(*batch) - before).abs().max().item(), 1e-4)


class ArgumentsTest(unittest.TestCase):
    def test_values_that_make_no_network_are_refused(self) -> None:
        for arguments, message in (
            ({"dim": 18, "num_heads": 4}, "dim: expected a multiple of 2 . num_heads = 8, got 18"),
            ({"kernel_size": 4}, "kernel_size: expected an odd number, got 4"),
            ({"dropout": 1.0}, "dropout: expected a probability"),
            ({"num_layers": 3, "intermediate_layers": [3]}, "intermediate_layers: expected numbers from 1 to 2"),
            ({"num_layers": 3, "intermediate_layers": [1, 1]}, "each layer once"),
            ({"self_conditioning": True}, "self_conditioning: needs"),
        ):
            spec = {"type": "Conformer", "args": arguments}
            with self.subTest(arguments), self.assertRaisesRegex(ValueError, message):
                MODELS.build(spec, n_feats=NUM_FEATS, n_class=NUM_CLASSES)


def _linear(convolution: nn.Module) -> dict[str, Tensor]:
    """A convolution over one frame as the linear layer it is."""
    state = convolution.state_dict()
    return {"weight": state["weight"][:, :, 0], "bias": state["bias"]}


if __name__ == "__main__":
    unittest.main()
