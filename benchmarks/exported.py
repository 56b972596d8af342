"""Processor time and accuracy of a network in torch, exported to ONNX, and exported with 8-bit weights; on one core.

    OMP_NUM_THREADS=1 python -m benchmarks.exported -r model_best.pth [--speech demo/corpus/test.jsonl] [--rounds 5]
    OMP_NUM_THREADS=1 python -m benchmarks.exported -c hw_asr/configs/librispeech_100.json --limit 16

With a checkpoint the word error rate of argmax is measured, too. With a config the weights are random. The three run in
turns; the table has medians of the rounds, and medians of the ratios within a round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.config import ExperimentConfig, read_json
from hw_asr.datasets.audio import read_audio
from hw_asr.datasets.custom import CustomAudioDataset
from hw_asr.datasets.recording import Samples
from hw_asr.experiment.checkpoint_config import for_evaluation
from hw_asr.experiment.config_permissions import Named
from hw_asr.experiment.network import Network, load_network, make_network
from hw_asr.experiment.validation import validate
from hw_asr.exported.export import make_model, write_model
from hw_asr.exported.runtime import OnnxWaveformModel, read_exported
from hw_asr.metrics import ErrorRate, word_errors
from hw_asr.recognition.waveform_model import TorchWaveformModel, WaveformModel

ROOT = Path(__file__).resolve().parents[1]
CPU = torch.device("cpu")
HEADER = f"{'':<10}{'processor s':>12}{'x real time':>13}{'to torch':>10}{'MB':>8}{'WER':>9}"


def main() -> None:
    """Export, measure and print the table."""
    options = parse_arguments()
    torch.set_num_threads(1)
    network, config = read_network(options)
    utterances = CustomAudioDataset(options.speech).select(network.text_encoder.normalize).utterances[: options.limit]
    texts = [utterance.text or "" for utterance in utterances]
    samples = [read_audio(Path(utterance.audio_path), config.preprocessing.sr) for utterance in utterances]
    seconds = sum(map(len, samples)) / config.preprocessing.sr
    print(f"{len(samples)} recordings, {seconds:.0f} s of audio, {options.rounds} rounds, one core")
    with tempfile.TemporaryDirectory() as folder:
        models, sizes = make_models(network, config, Path(folder))
        for batch_size in options.batch_sizes:
            times = measure(models, batches(samples, batch_size), options.rounds)
            print(f"\nbatches of {batch_size}\n{HEADER}")
            for name, model in models.items():
                ratio = statistics.median(a / b for a, b in zip(times[name], times["torch"], strict=True))
                spent = statistics.median(times[name])
                wer = f"{word_error_rate(model, samples, texts):.2%}" if options.resume else "-"
                size = f"{sizes[name] / 1e6:.1f}"
                print(f"{name:<10}{spent:>12.2f}{seconds / spent:>13.0f}{ratio:>10.2f}{size:>8}{wer:>9}")


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-r", "--resume", type=Path, metavar="CKPT")
    source.add_argument("-c", "--config", type=Path, help="random weights")
    parser.add_argument("--speech", type=Path, default=ROOT / "demo/corpus/test.jsonl", help="manifest of utterances")
    parser.add_argument("--limit", type=int, help="use only so many recordings")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 32])
    return parser.parse_args()


def read_network(options: argparse.Namespace) -> tuple[Network, ExperimentConfig]:
    """Return the network of the checkpoint, or one with random weights."""
    if options.config is not None:
        config = validate({**read_json(options.config), "data": {}}, str(options.config), training=False)
        network = make_network(config, CPU)
    else:
        checkpoint = load_checkpoint(options.resume)
        config = for_evaluation(options.resume, Named(), lambda split: False, checkpoint).config
        network = load_network(config, CPU, checkpoint["state_dict"], options.resume)
    network.model.eval()
    return network, config


def make_models(
    network: Network, config: ExperimentConfig, folder: Path
) -> tuple[dict[str, WaveformModel], dict[str, int]]:
    """Return the three models by name, and the bytes of their weights or files."""
    models: dict[str, WaveformModel] = {"torch": TorchWaveformModel(network, config.preprocessing.sr, CPU)}
    sizes = {"torch": sum(value.numel() * value.element_size() for value in network.model.state_dict().values())}
    for name, int8 in (("ONNX", False), ("ONNX int8", True)):
        path = folder / f"{int8}.onnx"
        sizes[name] = write_model(make_model(network, config, int8), path)
        models[name] = OnnxWaveformModel(read_exported(path), network.text_encoder, num_threads=1)
    return models, sizes


def batches(samples: Sequence[Samples], size: int) -> list[list[Samples]]:
    """Return batches of recordings of similar lengths."""
    ordered = sorted(samples, key=len)
    return [ordered[start : start + size] for start in range(0, len(ordered), size)]


def measure(models: dict[str, WaveformModel], work: Sequence[Sequence[Samples]], rounds: int) -> dict[str, list[float]]:
    """Return the processor times of each round; one batch before the first round is not measured."""
    times: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        model.batch(work[-1])
    for _ in range(rounds):
        for name, model in models.items():
            start = time.process_time()
            for batch in work:
                model.batch(batch)
            times[name].append(time.process_time() - start)
    return times


def word_error_rate(model: WaveformModel, samples: Sequence[Samples], texts: Sequence[str]) -> float:
    """Return the corpus WER of argmax."""
    rate = ErrorRate()
    for recording, text in zip(samples, texts, strict=True):
        path = model.batch([recording])[0].argmax(axis=1).tolist()
        merged = [label for label, before in zip(path, [None, *path], strict=False) if label not in (0, before)]
        rate.add(word_errors(text, model.text_encoder.decode(merged)))
    return rate.corpus


if __name__ == "__main__":
    main()
