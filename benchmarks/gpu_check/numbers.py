"""The same numbers on the device as on the CPU, and how far lower precisions are from them."""

from __future__ import annotations

import torch
from torch import Tensor

from benchmarks.gpu_check.networks import model_name, new_model, short_batches
from benchmarks.gpu_check.report import BAD, OK, Options, Report, Row, judge
from benchmarks.training_steps import MODELS, SAMPLE_RATE
from hw_asr.batch import Batch
from hw_asr.features import FeatureExtractor
from hw_asr.loss import CTCLoss
from hw_asr.models.forward import run_model
from hw_asr.models.gru import FrameGRU
from hw_asr.models.normalization import FrameBatchNorm
from hw_asr.models.packing import Packing
from hw_asr.runtime.devices import DeviceError, check_precision, set_numerics
from hw_asr.runtime.processes import Processes, StepMessages
from hw_asr.spectrograms import MelSpectrogram

LOSS_SCALE = 1024.0
Results = dict[str, Tensor]


def run(options: Options, report: Report) -> None:
    """Compare one step, the recurrence, padding, and precisions."""
    set_numerics(tf32=False, deterministic=False)
    (batch,) = short_batches(options, 1)
    exact = one_step(options, batch, torch.device("cpu"), "fp32")
    own = one_step(options, batch, options.device, "fp32")
    for name, limit in (("features", 2e-3), ("log-probabilities", 2e-3), ("losses", 1e-3)):
        judge(report, f"{name}, against the CPU", float((own[name] - exact[name]).abs().max()), limit)
    worst = max(_gradients(exact), key=lambda name: _relative(own[name], exact[name]))
    judge(report, f"gradients, against the CPU ({worst})", _relative(own[worst], exact[worst]), 1e-2)
    for hidden in (16,) if options.quick else (192, 512, 768):
        judge(report, f"recurrence of {hidden}, against the CPU", recurrence_difference(options, hidden), 1e-3)
    judge(report, "batch normalisation of several processes", synchronized_norm_difference(options, 64), 1e-4)
    judge(report, "alone against in a batch", padding_difference(options, batch), 2e-3)
    for label, precision, tf32 in (("TF32", "fp32", True), ("fp16", "fp16", False), ("bf16", "bf16", False)):
        set_numerics(tf32=tf32, deterministic=False)
        try:
            check_precision(options.device, precision)
            low = one_step(options, batch, options.device, precision)
        except (DeviceError, RuntimeError) as error:
            report(Row(label, " ".join(str(error).split())[:200], BAD if isinstance(error, RuntimeError) else ""))
            continue
        cosine = _cosine(low, own)
        difference = float((low["log-probabilities"] - own["log-probabilities"]).abs().max())
        verdict = OK if cosine > 0.95 else BAD
        report(Row(label, f"log-probabilities {difference:.2g} off, cosine of the gradients {cosine:.4f}", verdict))


def one_step(options: Options, batch: Batch, device: torch.device, precision: str) -> Results:
    """Return everything a step computes, on the CPU: features, log-probabilities, losses and gradients by name."""
    name = model_name(options)
    model = new_model(name).to(device)
    front_end = FeatureExtractor(MelSpectrogram(SAMPLE_RATE, n_mels=MODELS[name][0]), log=True).to(device)
    moved = batch.to(device)
    features, frames = front_end(moved.samples, moved.sample_lengths)
    log_probs, lengths = run_model(model, features, frames, precision)
    losses = CTCLoss()(log_probs, lengths, moved.targets, moved.target_lengths).values
    (losses.sum() * LOSS_SCALE).backward()
    gradients = {
        f"grad {key}": parameter.grad.float().cpu() / LOSS_SCALE
        for key, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    results = {"features": features, "log-probabilities": log_probs, "losses": losses}
    return {**{key: value.detach().float().cpu() for key, value in results.items()}, **gradients}


def recurrence_difference(options: Options, hidden: int) -> float:
    """Return the largest difference of cuDNN's recurrence and its gradients from the CPU's, some lengths being 0."""
    torch.manual_seed(0)
    layer = FrameGRU(hidden, hidden, bidirectional=True)
    lengths = torch.tensor([50, 0, 20, 33, 0])
    results: list[list[Tensor]] = []
    for device in (torch.device("cpu"), options.device):
        moved = layer.to(device)
        moved.zero_grad()
        packing = Packing(lengths, 50, device)
        generator = torch.Generator().manual_seed(1)
        rows = torch.randn(packing.num_rows, hidden, generator=generator).to(device).requires_grad_()
        output = moved(rows, packing) if device.type == "cpu" and not results else moved._by_torch(rows, packing)
        output.square().mean().backward()
        assert rows.grad is not None
        gradients = [parameter.grad.cpu() for parameter in moved.parameters() if parameter.grad is not None]
        results.append([output.detach().cpu(), rows.grad.cpu(), *gradients])
    return max(_relative(own, exact) for own, exact in zip(results[1], results[0], strict=True))


def synchronized_norm_difference(options: Options, hidden: int) -> float:
    """Return how far batch normalisation as several processes do it, here one alone, is from torch's own."""
    results: list[list[Tensor]] = []
    for messages in (None, StepMessages(Processes(device=options.device), 2)):
        layer = FrameBatchNorm(hidden).to(options.device)
        layer.messages = messages
        generator = torch.Generator().manual_seed(1)
        rows = torch.randn(50, hidden, generator=generator).to(options.device).requires_grad_()
        output = layer(rows)
        (output * torch.randn(50, hidden, generator=generator).to(options.device)).sum().backward()
        assert rows.grad is not None and layer.weight.grad is not None
        results.append([output.detach().cpu(), rows.grad.cpu(), layer.weight.grad.cpu()])
    return max(_relative(own, exact) for own, exact in zip(results[1], results[0], strict=True))


def padding_difference(options: Options, batch: Batch) -> float:
    """Return how far log-probabilities of an utterance in a batch are from those that it has alone."""
    name = model_name(options)
    model = new_model(name).to(options.device).eval()
    front_end = FeatureExtractor(MelSpectrogram(SAMPLE_RATE, n_mels=MODELS[name][0]), log=True).to(options.device)
    shortest = int(batch.sample_lengths.argmin())
    length = batch.sample_lengths[shortest]
    with torch.inference_mode():
        samples = batch.samples.to(options.device)
        features, frames = front_end(samples, batch.sample_lengths)
        together, lengths = run_model(model, features, frames, "fp32")
        features, frames = front_end(samples[shortest : shortest + 1, :length], length[None])
        alone, _ = run_model(model, features, frames, "fp32")
    return float((together[shortest, : lengths[shortest]] - alone[0]).abs().max())


def _gradients(results: Results) -> list[str]:
    return [name for name in results if name.startswith("grad ")]


def _relative(value: Tensor, exact: Tensor) -> float:
    """Return the norm of the difference as a share of the norm; tiny tensors count as if they had norm 1e-4."""
    return float((value - exact).norm() / exact.norm().clamp(min=1e-4))


def _cosine(one: Results, other: Results) -> float:
    flat = [torch.cat([results[name].double().flatten() for name in _gradients(other)]) for results in (one, other)]
    return float(torch.nn.functional.cosine_similarity(flat[0], flat[1], dim=0))
