"""Training that starts from a checkpoint of another alphabet or with other parts, and parts that stay frozen."""

from __future__ import annotations

import json
import unittest
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.commands.average import average_checkpoints
from hw_asr.config import ConfigError, ExperimentConfig, parse
from hw_asr.experiment.network import Network, make_network
from hw_asr.experiment.transfer import Weights, load_initial_weights, read_weights
from hw_asr.experiment.validation import examine
from hw_asr.tests.published_layout import write_published
from hw_asr.tests.training_case import TrainingCase, differences, make_config, outcome, run_dir
from hw_asr.training.freezing import Freezing

SOURCE = Path("start.pth")
CPU = torch.device("cpu")
RECURRENT = make_config(Path())["arch"]["args"]
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "DeepSpeech2": {**RECURRENT, "intermediate_layers": [1], "self_conditioning": True},
    "Conformer": {
        "dim": 8, "num_layers": 3, "num_heads": 2, "ffn_dim": 8, "kernel_size": 3,
        "intermediate_layers": [1, 2], "self_conditioning": True,
    },
    "BaselineModel": {"fc_hidden": 8},
}  # fmt: skip


def network_of(
    alphabet: str, type_name: str = "DeepSpeech2", seed: int = 1, **transfer: Any
) -> tuple[ExperimentConfig, Network]:
    raw = make_config(Path(), seed=seed, transfer=transfer)
    raw["arch"] = {"type": type_name, "args": ARCHITECTURES[type_name]}
    raw["text_encoder"]["args"]["alphabet"] = alphabet
    config = parse(raw)
    network = make_network(config, CPU)
    network.model.eval()
    return config, network


def weights_of(network: Network) -> Weights:
    return Weights(network.model.state_dict(), SOURCE, network.text_encoder.alphabet)


def logits_of(network: Network) -> list[torch.Tensor]:
    """Return the logits (B, T, V) of the output layer and of all intermediate layers."""
    features = torch.randn(2, 16, 30, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        if not hasattr(network.model, "forward_all"):
            return [network.model(features, torch.tensor([30, 21]))]
        main, inner = network.model.forward_all(features, torch.tensor([30, 21]))
    return [main, *inner]


class AlphabetTest(unittest.TestCase):
    def test_logits_of_a_reordered_alphabet_are_the_same_by_character(self) -> None:
        for name in ARCHITECTURES:
            with self.subTest(name):
                _, old = network_of("abcd", name)
                config, new = network_of("dbca", name, seed=2)
                line = load_initial_weights(config, new, weights_of(old))
                order = torch.tensor([0, 4, 2, 3, 1])
                for before, after in zip(logits_of(old), logits_of(new), strict=True):
                    torch.testing.assert_close(after, before[..., order], rtol=0, atol=1e-6)
                count = len(old.model.state_dict())
                self.assertEqual(
                    line, f"{count} of {count} tensors carried over from start.pth; 4 of 4 characters carried over"
                )

    def test_characters_are_started_and_dropped(self) -> None:
        _, old = network_of("abcd")
        config, new = network_of("éca ", seed=2)
        fresh = network_of("éca ", seed=2)[1].model.state_dict()
        line = load_initial_weights(config, new, weights_of(old))
        self.assertRegex(line, "; 2 of 4 characters carried over, new: 'é' ' ', dropped: 'b' 'd'$")
        before, after = old.model.state_dict(), new.model.state_dict()
        by_class = {"linear.weight": 0, "linear.bias": 0, "intermediate.heads.1.weight": 0,
                    "intermediate.heads.1.bias": 0, "intermediate.feedback.1.weight": 1}  # fmt: skip
        for name, axis in by_class.items():
            for index, source in enumerate([0, None, 3, 1, None]):
                expected = (fresh if source is None else before)[name].select(axis, index if source is None else source)
                self.assertTrue(torch.equal(after[name].select(axis, index), expected), (name, index))
        for name in after.keys() - by_class.keys():
            self.assertTrue(torch.equal(after[name], before[name]), name)

    def test_an_unknown_alphabet_is_carried_by_position_or_refused(self) -> None:
        _, old = network_of("abcd")
        config, new = network_of("efgh", seed=2)
        line = load_initial_weights(config, new, weights_of(old)._replace(alphabet=None))
        self.assertIn("the checkpoint does not contain its alphabet, classes carried over by position", line)
        self.assertTrue(torch.equal(new.model.state_dict()["linear.bias"], old.model.state_dict()["linear.bias"]))
        config, new = network_of("efg")
        with self.assertRaisesRegex(
            CheckpointError, "does not contain its alphabet;.*\n  .*linear.weight is .5, 24. in"
        ):
            load_initial_weights(config, new, weights_of(old)._replace(alphabet=None))

    def test_an_alphabet_that_does_not_fit_its_weights_is_refused(self) -> None:
        config, new = network_of("abcd")
        for alphabet, message in (
            ("^abcde", "linear.bias has 5 classes, the checkpoint's alphabet 6"),
            ("^", "alphabet 1"),
        ):
            with self.subTest(alphabet), self.assertRaisesRegex(CheckpointError, message):
                load_initial_weights(config, new, weights_of(new)._replace(alphabet=list(alphabet)))

    def test_an_alphabet_of_another_kind_is_refused(self) -> None:
        with TemporaryDirectory() as directory:
            path = Path(directory) / "weights.pth"
            for entries in ({"alphabet": "abc"}, {"alphabet": [1]},
                            {"config": {"text_encoder": {"args": {"alphabet": "aa"}}}}):  # fmt: skip
                torch.save({"state_dict": {}, **entries}, path)
                with self.subTest(entries), self.assertRaisesRegex(CheckpointError, "alphabet"):
                    read_weights(path)

    def test_published_checkpoints_bring_their_alphabet_in_the_config(self) -> None:
        with TemporaryDirectory() as directory:
            write_published(Path(directory))
            path = Path(directory) / "model_best.pth"
            raw = load_checkpoint(path)["config"]
            raw["text_encoder"] = {"type": "CTCCharTextEncoder", "args": {"alphabet": "'zyxwvutsrqponmlkjihgfedcba"}}
            raw["trainer"] = {"epochs": 1}
            config = parse(raw)
            network = make_network(config, CPU)
            line = load_initial_weights(config, network, read_weights(path))
            self.assertIn("26 of 27 characters carried over, new: \"'\", dropped: ' '", line)
            before = load_checkpoint(path)["state_dict"]["linear.bias"]
            after = network.model.state_dict()["linear.bias"]
            self.assertTrue(torch.equal(after[2:], before[1:27].flip(0)))


class PartsTest(unittest.TestCase):
    def test_every_difference_is_listed_and_refused(self) -> None:
        config, network = network_of("abcd")
        state = dict(network.model.state_dict())
        removed = [state.pop(name) for name in list(state) if name.startswith("gru_block.rnn_layers.0.")]
        state |= {"linear.weight": torch.zeros(5, 7), "lookahead.conv.weight": torch.zeros(3)}
        with self.assertRaises(CheckpointError) as caught:
            load_initial_weights(config, network, Weights(state, SOURCE, network.text_encoder.alphabet))
        first, *listed = str(caught.exception).split("\n  ")
        self.assertIn("start.pth: its weights do not fit the model of the config; undo the differences, or name", first)
        self.assertEqual(len(listed), len(removed) + 2)
        self.assertIn("linear.weight is [5, 7] in the checkpoint and [5, 24] in the model", listed)
        self.assertIn("the model has no lookahead.conv.weight", listed)

    def test_allowed_parts_start_anew(self) -> None:
        allow = ["gru_block.rnn_layers.0", "lookahead", "intermediate"]
        config, network = network_of("abcd", seed=2, allow=allow)
        fresh = network_of("abcd", seed=2)[1].model.state_dict()
        before = network_of("abcd", seed=1)[1].model.state_dict()
        saved = {name: value for name, value in before.items() if not name.startswith("gru_block.rnn_layers.0.")}
        saved["lookahead.conv.weight"] = torch.zeros(3)
        line = load_initial_weights(config, network, Weights(saved, SOURCE, network.text_encoder.alphabet))
        self.assertIn("initialised: gru_block.rnn_layers.0 (8 tensors), lookahead (0 tensors), intermediate (", line)
        self.assertIn("dropped: 1 tensors that the model does not have", line)
        for name, value in network.model.state_dict().items():
            source = fresh if name.startswith(("gru_block.rnn_layers.0.", "intermediate.")) else before
            self.assertTrue(torch.equal(value, source[name]), name)

    def test_a_part_that_neither_side_has(self) -> None:
        config, network = network_of("abcd", allow=["cnn_blok", "gru_block.rnn_layer"])
        with self.assertRaises(ConfigError) as caught:
            load_initial_weights(config, network, weights_of(network))
        self.assertEqual(caught.exception.faults, [
            "trainer.transfer.allow[0]: no weight belongs to 'cnn_blok'; did you mean 'cnn_block'?",
            "trainer.transfer.allow[1]: no weight belongs to 'gru_block.rnn_layer'; did you mean "
            "'gru_block.rnn_layers'?",
        ])  # fmt: skip


class FineTuningTest(TrainingCase):
    """Real runs of train.py from the checkpoint of another run."""

    def test_another_alphabet_trains_and_resumes_exactly(self) -> None:
        first = self.place(self.config(epochs=1, ema_decay=0.9))
        self.train(first, "-c", "config.json")
        start = run_dir(first) / "last.pth"
        raw = self.config(epochs=2, ema_decay=0.9, save_steps=1)
        raw["text_encoder"]["args"]["alphabet"] = "dxcba"
        place = self.place(raw)
        line = "4 of 5 characters carried over, new: 'x'"
        self.assertIn(line, self.train(place, "-c", "config.json", "-r", str(start), "--check"))
        self.assertFalse((place / "saved").exists())
        output = self.train(place, "-c", "config.json", "-r", str(start))
        self.assertEqual(output.count(line), 1)
        self.assertEqual(load_checkpoint(run_dir(place) / "last.pth")["alphabet"], list("^dxcba"))
        again = self.place(raw)
        self.train(again, "-c", "config.json", "-r", str(start), "--set", "trainer.epochs=1")
        self.train(again, "-r", str(run_dir(again) / "last.pth"), "--set", "trainer.epochs=2")
        self.assertEqual(differences(outcome(place), outcome(again)), [])

    def test_the_check_lists_what_a_start_refuses(self) -> None:
        first = self.place(self.config(epochs=1, len_epoch=2))
        self.train(first, "-c", "config.json")
        raw = self.config(transfer={"allow": ["linaer"]})
        raw["arch"]["args"]["gru_config"]["hidden_dims"] = [12, 12, 12]
        place = self.place(raw)
        arguments = ["-c", "config.json", "-r", str(run_dir(first) / "last.pth")]
        self.assertIn("'linaer'; did you mean 'linear'?", self.train(place, *arguments, "--check", code=2))
        for code, check in ((2, ["--check"]), (1, [])):
            output = self.train(place, *arguments, "--set", "trainer.transfer.allow=[]", *check, code=code)
            self.assertIn("the checkpoint lacks gru_block.rnn_layers.2.weight_ih_l0\n", output)
        output = self.train(
            place, *arguments, "--set", 'trainer.transfer.allow=["gru_block.rnn_layers.2", "gru_block.bn_layers.2"]'
        )
        self.assertIn("initialised: gru_block.rnn_layers.2 (8 tensors), gru_block.bn_layers.2 (5 tensors)", output)
        self.assertTrue(json.loads((run_dir(place) / "config.json").read_text())["trainer"]["transfer"]["allow"])

    def test_feature_statistics_that_the_checkpoint_lacks_are_measured(self) -> None:
        first = self.place(self.config(epochs=1, len_epoch=2))
        self.train(first, "-c", "config.json")
        raw = self.config(epochs=1, len_epoch=2)
        raw["preprocessing"]["normalize"] = "global"
        place = self.place(raw)
        arguments = ["-c", "config.json", "-r", str(run_dir(first) / "last.pth")]
        self.assertIn("the checkpoint lacks feature_statistics.mean", self.train(place, *arguments, code=1))
        self.train(place, *arguments, "--set", 'trainer.transfer.allow=["feature_statistics"]')
        self.train(place, "-c", "config.json", "--set", "trainer.wandb_run=scratch")
        transferred, scratch = (
            load_checkpoint(run_dir(place).with_name(name) / "last.pth")["state_dict"] for name in ("run", "scratch")
        )
        self.assertGreater(float(scratch["feature_statistics.mean"].abs().max()), 0.1)
        for name in ("feature_statistics.mean", "feature_statistics.deviation"):
            self.assertTrue(torch.equal(transferred[name], scratch[name]), name)


class FreezingTest(TrainingCase):
    FROZEN = ("cnn_block", "gru_block.rnn_layers.0", "gru_block.bn_layers.0")

    def test_frozen_parts_keep_every_bit_until_they_are_trained(self) -> None:
        transfer = {"freeze": list(self.FROZEN), "unfreeze_after_epochs": 1}
        raw = self.config(epochs=2, ema_decay=0.9, keep_last=None, transfer=transfer)
        raw["optimizer"]["args"]["weight_decay"] = 0.1
        raw["optimizer"]["groups"] = [{"match": "gru_block", "lr_scale": 0.5}]
        place = self.place(raw)
        self.assertIn("not trained cnn_block, ", self.train(place, "-c", "config.json", "--check"))
        output = self.train(place, "-c", "config.json")
        self.assertRegex(output, r"not trained: cnn_block, .* until the end of epoch 1: 3,472 of 6,381 parameters")
        self.assertEqual(output.count("epoch 2: cnn_block, gru_block.rnn_layers.0, gru_block.bn_layers.0 trained"), 1)
        start = make_network(parse(raw), CPU).model.state_dict()
        paths = [run_dir(place) / f"checkpoint-epoch{number}.pth" for number in (1, 2)]
        one, two = map(load_checkpoint, paths)
        for key in ("state_dict", "training_state_dict"):
            changed = {name for name, value in one[key].items() if not torch.equal(value, start[name])}
            self.assertEqual(changed, {name for name in start if not name.startswith(self.FROZEN)}, key)
            same = {name for name, value in two[key].items() if torch.equal(value, one[key][name])}
            self.assertEqual({name for name in same if not name.endswith("num_batches_tracked")}, set(), key)
        network = make_network(parse(raw), CPU)
        names = [name for name, _ in network.model.named_parameters()]
        self.assertEqual(
            len(one["optimizer"]["state"]), len([name for name in names if not name.startswith(self.FROZEN)])
        )
        self.assertEqual(len(two["optimizer"]["state"]), len(names))
        average_checkpoints([paths[0]] * 3, place / "average.pth")
        mean = load_checkpoint(place / "average.pth")["state_dict"]
        self.assertEqual(differences(mean, one["state_dict"]), [])

    def test_frozen_batch_normalisation_uses_its_running_statistics(self) -> None:
        model = network_of("abcd")[1].model
        freezing = Freezing(model, self.FROZEN, 3)
        for epoch, training in ((1, False), (3, False), (4, True), (2, False)):
            freezing.begin_epoch(epoch)
            freezing.set_train_mode()
            modes = [model.cnn_block.block[1].training, *(norm.training for norm in model.gru_block.bn_layers)]
            self.assertEqual(modes, [training, training, True], epoch)
            grads = {name: parameter.requires_grad for name, parameter in model.named_parameters()}
            self.assertEqual(grads, {name: training or not name.startswith(self.FROZEN) for name in grads}, epoch)

    def test_faults(self) -> None:
        everything = ["cnn_block", "gru_block", "linear"]
        for transfer, fault in (
            ({"freeze": ["cnn_block", "lineer"]}, "freeze[1]: no weight belongs to 'lineer'; did you mean 'linear'?"),
            (
                {"freeze": ["xyz"]},
                "freeze[0]: no weight belongs to 'xyz'; names begin with cnn_block, gru_block, linear",
            ),
            ({"freeze": everything}, "freeze: leaves no parameter of the model to train"),
            ({"unfreeze_after_epochs": 1}, "unfreeze_after_epochs: has no effect without trainer.transfer.freeze"),
            ({"freeze": ["linear"], "unfreeze_after_epochs": 0}, "unfreeze_after_epochs: expected a positive integer"),
            ({"freze": []}, "freze: unknown key; did you mean 'freeze'?"),
        ):
            with self.subTest(fault):
                faults = "\n".join(examine(make_config(Path(), transfer=transfer)).faults)
                self.assertIn(f"trainer.transfer.{fault}", faults)


if __name__ == "__main__":
    unittest.main()
