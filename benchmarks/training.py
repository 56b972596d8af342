"""Audio seconds per second of a training step, ours beside the published one: `python -m benchmarks.training`.

Both get the same batches of noise, as long as speech would be, and start from the same weights; they run in turns, and
medians are printed. With --cpu-time the processor's time is counted, which neighbours on the machine disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import time
import timeit
from collections.abc import Callable, Iterator

import torch

from benchmarks.published_step import PaddedDeepSpeech2, PublishedStep
from hw_asr.features import FeatureExtractor
from hw_asr.loss import CTCLoss
from hw_asr.models.deepspeech2 import DeepSpeech2
from hw_asr.models.deepspeech2_config import CNNConfig, GRUConfig
from hw_asr.models.matmul import HAS_ONEDNN, onednn
from hw_asr.runtime.processes import Processes
from hw_asr.spectrograms import MelSpectrogram
from hw_asr.training.step import Augmentations, StepSettings, TrainingStep
from hw_asr.training.stream import Placed
from hw_asr.types import Batch, Utterance

SAMPLE_RATE = 16_000
CHARACTERS_PER_SECOND = 14
NUM_CLASSES = 28
PRODUCTS = ((2048, 2048, 2048), (8, 512, 1536), (16, 192, 576))
MODELS = {
    "1+6": (128, CNNConfig(16, (41, 11)), GRUConfig(512, 6, bidirectional=True)),
    "small": (80, CNNConfig([16, 16], [(21, 11), (11, 11)], [(2, 2), (2, 1)]), GRUConfig(192, 3, bidirectional=True)),
}


def main() -> None:
    """Measure and print."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    device = torch.device(options.device)
    clock = processor_clock if options.cpu_time and device.type == "cpu" else wall_clock(device)
    place = f"{options.threads} threads" if device.type == "cpu" else torch.cuda.get_device_name(device)
    print(f"torch {torch.__version__}, {place}, {options.precision}, batch {options.batch_size}")
    if device.type == "cpu":
        print_products()
    for name in options.models:
        compare(name, options, device, clock)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--seconds", type=float, nargs=2, default=(1.0, 6.0), metavar=("SHORTEST", "LONGEST"))
    parser.add_argument("--rounds", type=int, default=3, help="batches; each is run by both sides")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32", help="of ours; the published is fp32")
    parser.add_argument("--cpu-time", action="store_true", help="count processor time instead of wall time")
    parser.add_argument("--quick", action="store_true", help="one round of short utterances")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, (0.5, 1.5)
    return options


def compare(name: str, options: argparse.Namespace, device: torch.device, clock: Callable[[], float]) -> None:
    """Run both steps in turns on the same batches and print seconds, audio seconds per second and their ratio."""
    ours, published = steps(name, device, options.precision)
    parameters = sum(each.numel() for each in ours.model.parameters())
    batches = list(make_batches(options.rounds + 1, options.batch_size, *options.seconds))
    ours.run([Placed(batches[0], 0, 0)])
    published.run(batches[0])
    runs: dict[str, list[float]] = {"ours": [], "published": []}
    for position, batch in enumerate(batches[1:], start=1):
        placed = Placed(batch, 0, position)
        seconds = float(batch.sample_lengths.sum()) / SAMPLE_RATE
        turns: list[tuple[str, Callable[[], object]]] = [
            ("ours", lambda placed=placed: ours.run([placed])),  # type: ignore[misc]
            ("published", lambda batch=batch: published.run(batch)),  # type: ignore[misc]
        ]
        for side, run in turns if position % 2 else reversed(turns):
            start = clock()
            run()
            runs[side].append(seconds / (clock() - start))
    padding = statistics.mean(1 - float(b.sample_lengths.sum()) / b.samples.numel() for b in batches[1:])
    ratio = statistics.median(a / b for a, b in zip(runs["ours"], runs["published"], strict=True))
    rates = {side: f"{statistics.median(each):7.2f} ({min(each):.2f}-{max(each):.2f})" for side, each in runs.items()}
    print(f"{name}: {parameters / 1e6:.1f} M parameters, {options.rounds} batches, {padding:.0%} padding")
    print(
        f"  audio seconds per second: ours {rates['ours']}, published {rates['published']}; ratio {ratio:.2f}",
        flush=True,
    )


def steps(name: str, device: torch.device, precision: str) -> tuple[TrainingStep, PublishedStep]:
    """Build both sides with the same weights."""
    torch.manual_seed(0)
    n_feats, cnn_config, gru_config = MODELS[name]
    model = DeepSpeech2(n_feats, NUM_CLASSES, cnn_config, gru_config)
    padded = PaddedDeepSpeech2(n_feats, NUM_CLASSES, cnn_config, gru_config)
    padded.load_state_dict(model.state_dict())
    model.to(device)
    front_end = FeatureExtractor(MelSpectrogram(SAMPLE_RATE, n_mels=n_feats), log=True).to(device)
    ours = TrainingStep(
        model,
        front_end,
        Augmentations(),
        CTCLoss(),
        torch.optim.Adam(model.parameters(), lr=6e-4),
        Processes(device=device),
        StepSettings(precision, grad_norm_clip=400),
    )
    time_stride = int(model.transform_input_lengths(torch.tensor([1000])).item())
    return ours, PublishedStep(padded, -(-1000 // time_stride), n_feats, device)


def make_batches(number: int, batch_size: int, shortest: float, longest: float) -> Iterator[Batch]:
    """Make batches of noise whose lengths are drawn evenly, with as many characters as speech would have."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(number):
        seconds = shortest + (longest - shortest) * torch.rand(batch_size, generator=generator)
        lengths = (seconds * SAMPLE_RATE).long()
        target_lengths = (seconds * CHARACTERS_PER_SECOND).long()
        samples = 0.1 * torch.randn(batch_size, int(lengths.max()), generator=generator)
        samples[torch.arange(samples.shape[1]) >= lengths[:, None]] = 0.0
        targets = torch.randint(1, NUM_CLASSES, (batch_size, int(target_lengths.max())), generator=generator)
        utterances = tuple(Utterance("noise", "noise", None, float(each)) for each in seconds)
        yield Batch(utterances, samples, lengths, targets, target_lengths)


def print_products() -> None:
    """Print GFLOP/s of float32 products, a large one and two of a recurrence, by either library."""
    print(f"GFLOP/s of products (AVX-512: {torch.backends.cpu.get_cpu_capability() == 'AVX512'}):", end="")
    for rows, inner, columns in PRODUCTS:
        left, right, addend = torch.randn(rows, inner), torch.randn(inner, columns), torch.randn(rows, columns)
        rates = [product_rate(lambda: torch.addmm(addend, left, right), left.numel() * columns)]  # noqa: B023
        if HAS_ONEDNN:
            rates.append(product_rate(lambda: onednn(left, right, addend), left.numel() * columns))  # noqa: B023
        print(f"  {rows} x {inner} x {columns}: torch {', oneDNN '.join(f'{rate:.0f}' for rate in rates)}", end="")
    print()


def product_rate(product: Callable[[], object], multiplications: int) -> float:
    """Return GFLOP/s of a product, the best of twenty rounds of the same length."""
    number = max(1, 10_000_000 // multiplications)
    return 2 * multiplications * number / min(timeit.repeat(product, number=number, repeat=20)) / 1e9


def processor_clock() -> float:
    """Return the processor seconds of this process."""
    return time.process_time()


def wall_clock(device: torch.device) -> Callable[[], float]:
    """Return a clock that waits for the device before it is read."""

    def read() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()

    return read


if __name__ == "__main__":
    main()
