"""Audio seconds per second of a training step, ours beside the published one: `python -m benchmarks.training`.

Both get the same batches of noise, as long as speech would be, and start from the same weights. They run in turns, and
medians are printed. On a CPU the published step includes its features, which were computed by workers on the same
cores; on a GPU they are computed beforehand. Each side has its own optimiser and numerics: ours a fused one and TF32 as
`trainer.tf32` sets it, the published one torch's defaults. With --cpu-time, processor time is measured, which other
programs on the machine disturb less.
"""

from __future__ import annotations

import argparse
import statistics
import time
import timeit
from collections.abc import Callable

import torch

from benchmarks.training_steps import MODELS, SAMPLE_RATE, Sides, make_batches, make_sides
from hw_asr.batch import Batch
from hw_asr.models.forward import PRECISIONS
from hw_asr.models.matmul import HAS_ONEDNN, onednn
from hw_asr.runtime.devices import set_numerics, synchronize
from hw_asr.training.stream import Placed

SQUARE = 2048
"""Rows and columns of the product that a step's rate is compared with."""
PRODUCTS = ((2048, 2048, 2048), (8, 512, 1536), (16, 192, 576))


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
    parser.add_argument(
        "--precision", choices=tuple(PRECISIONS), default="fp32", help="of ours; the published step is float32"
    )
    parser.add_argument("--cpu-time", action="store_true", help="measure processor time instead of wall time")
    parser.add_argument("--quick", action="store_true", help="one round of short utterances")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds = 1, (0.5, 1.5)
    return options


def compare(name: str, options: argparse.Namespace, device: torch.device, clock: Callable[[], float]) -> None:
    """Run both steps in turns on the same batches and print audio seconds per second, their ratio, and FLOP/s."""
    sides = make_sides(name, device, options.precision)
    parameters = sum(parameter.numel() for parameter in sides.ours.model.parameters())
    batches = list(make_batches(options.rounds + 1, options.batch_size, *options.seconds))
    runs: dict[str, list[float]] = {"ours": [], "published": []}
    flop_rates, products = [], []
    for position, batch in enumerate(batches):
        products.append(square_product_rate(device, options.precision, clock))
        seconds = measure(sides, batch, position, device, clock)
        if position > 0:  # the first batch only warms up
            audio = float(batch.sample_lengths.sum()) / SAMPLE_RATE
            for side, taken in seconds.items():
                runs[side].append(audio / taken)
            flop_rates.append(sides.flops(batch) / seconds["ours"] / 1e9)
    padding = statistics.mean(1 - float(b.sample_lengths.sum()) / b.samples.numel() for b in batches[1:])
    ratio = statistics.median(a / b for a, b in zip(runs["ours"], runs["published"], strict=True))
    rates = {side: f"{statistics.median(rate):7.2f} ({min(rate):.2f}-{max(rate):.2f})" for side, rate in runs.items()}
    flop_rate, product = statistics.median(flop_rates), statistics.median(products)
    print(f"{name}: {parameters / 1e6:.1f} M parameters, {options.rounds} batches, {padding:.0%} padding")
    print(f"  audio seconds per second: ours {rates['ours']}, published {rates['published']}; ratio {ratio:.2f}")
    print(
        f"  ours computes {flop_rate:.0f} GFLOP/s, {flop_rate / product:.0%} of the {product:.0f} GFLOP/s of a product "
        f"of {SQUARE} x {SQUARE} matrices here",
        flush=True,
    )


def measure(
    sides: Sides, batch: Batch, position: int, device: torch.device, clock: Callable[[], float]
) -> dict[str, float]:
    """Return the seconds of both sides for one batch, in an order that alternates."""
    on_gpu = device.type == "cuda"
    prepared = sides.published.features(batch) if on_gpu else None

    def run_ours() -> None:
        set_numerics(tf32=True, deterministic=False)
        sides.ours.run([Placed(batch.pin_memory() if on_gpu else batch, 0, position)])

    def run_published() -> None:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True  # torch's defaults
        sides.published.run(sides.published.features(batch) if prepared is None else prepared)

    turns: list[tuple[str, Callable[[], None]]] = [("ours", run_ours), ("published", run_published)]
    seconds = {}
    for side, run in turns if position % 2 else reversed(turns):
        start = clock()
        run()
        seconds[side] = clock() - start
    return seconds


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


def square_product_rate(device: torch.device, precision: str, clock: Callable[[], float]) -> float:
    """Return GFLOP/s of a product of large square matrices on the device, the best of a few."""
    matrix = torch.randn(SQUARE, SQUARE, dtype=PRECISIONS[precision], device=device)
    number = 2 if device.type == "cpu" else 50
    matrix @ matrix
    best = float("inf")
    for _ in range(3):
        start = clock()
        for _ in range(number):
            matrix @ matrix
        best = min(best, clock() - start)
    return 2 * SQUARE**3 * number / best / 1e9


def processor_clock() -> float:
    """Return the processor seconds of this process."""
    return time.process_time()


def wall_clock(device: torch.device) -> Callable[[], float]:
    """Return a clock that waits for the device before it is read."""

    def read() -> float:
        synchronize(device)
        return time.perf_counter()

    return read


if __name__ == "__main__":
    main()
