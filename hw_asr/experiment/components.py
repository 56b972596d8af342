"""Builds the components of a config.

Importing this module imports none of them, and no torch: recognition with an exported model works without it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from hw_asr.config import ExperimentConfig, Preprocessing, Spec
from hw_asr.config.registry import (
    DATASETS,
    DECODERS,
    LOSSES,
    METRICS,
    MODELS,
    SAMPLERS,
    SCHEDULERS,
    SPECTROGRAM_AUGMENTATIONS,
    SPECTROGRAMS,
    TEXT_ENCODERS,
    WAVE_AUGMENTATIONS,
)
from hw_asr.experiment.schedule_length import given_length, resolved
from hw_asr.types import (
    Corpus,
    CTCDecoder,
    EpochSampler,
    Metric,
    SpectrogramAugmentation,
    TextEncoder,
    Utterance,
    WaveAugmentation,
)

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from hw_asr.datasets.samplers import Shard
    from hw_asr.features import FrontEnd

# Arguments that the program adds for constructors that accept them.
PROVIDED: dict[str, tuple[str, ...]] = {
    "arch": ("n_feats", "n_class"),
    "dataset": ("root_dir", "sample_rate"),
    "batch sampler": ("shard", "durations", "seed", "rank", "world_size"),
    "wave augmentation": ("sample_rate",),
    "spectrogram augmentation": ("n_feats",),
    "spectrogram": ("sample_rate",),
    "text encoder": (),
    "decoder": ("text_encoder",),
    "optimizer": ("params",),
    "lr scheduler": ("optimizer",),
}


def build_text_encoder(config: ExperimentConfig) -> TextEncoder:
    """Return the text encoder; raises ValueError for an invalid alphabet."""
    return TEXT_ENCODERS.build(config.text_encoder)


def build_features(preprocessing: Preprocessing) -> FrontEnd:
    """Return the front end; raises ValueError for one that cannot be built."""
    from hw_asr.features import FeatureExtractor, FrontEnd

    spectrogram = SPECTROGRAMS.build(preprocessing.spectrogram, sample_rate=preprocessing.sr)
    if isinstance(spectrogram, FrontEnd):  # complete by itself, for example Waveform
        if preprocessing.normalize != "none":
            name, given = preprocessing.spectrogram["type"], preprocessing.normalize
            raise ValueError(f'{name} does not support normalize "{given}"; set preprocessing.normalize to "none"')
        return spectrogram
    return FeatureExtractor(spectrogram, preprocessing.log_spec, preprocessing.normalize)


def build_model(config: ExperimentConfig, n_feats: int, n_class: int) -> nn.Module:
    """Return the acoustic model; sizes that the config leaves out come from the features and the alphabet."""
    return MODELS.build(config.arch, n_feats=n_feats, n_class=n_class)


def build_loss(config: ExperimentConfig) -> nn.Module:
    """Return the loss function."""
    return LOSSES.build(config.loss)


def build_metrics(config: ExperimentConfig) -> list[Metric]:
    """Return new metrics; an empty list if the config names none."""
    return [METRICS.build(spec) for spec in config.metrics]


def build_augmentations(
    config: ExperimentConfig, n_feats: int
) -> tuple[list[WaveAugmentation], list[SpectrogramAugmentation]]:
    """Return the wave and the spectrogram augmentations, in the order they are applied."""
    rate = config.preprocessing.sr
    wave = [WAVE_AUGMENTATIONS.build(spec, sample_rate=rate) for spec in config.augmentations.wave]
    spectrogram = [SPECTROGRAM_AUGMENTATIONS.build(spec, n_feats=n_feats) for spec in config.augmentations.spectrogram]
    return wave, spectrogram


def build_corpora(config: ExperimentConfig, split: str) -> list[Corpus]:
    """Return the corpora of a split, without reading or downloading anything."""
    rate = config.preprocessing.sr
    specs = config.data[split].datasets
    return [DATASETS.build(spec, root_dir=config.root_dir, sample_rate=rate) for spec in specs]


def build_batch_sampler(spec: Spec, shard: Shard) -> EpochSampler:
    """Return the batch sampler of a split; its constructor gets `shard`, or fields of it by their names."""
    return SAMPLERS.build(spec, shard=shard, **shard._asdict())


def select_utterances(
    corpora: Iterable[Corpus], normalize: Callable[[str], str]
) -> tuple[list[Utterance], dict[str, int]]:
    """Download, index and filter; return the utterances, and the number left out by reason."""
    utterances: list[Utterance] = []
    dropped: dict[str, int] = {}
    for corpus in corpora:
        selection = corpus.select(normalize)
        utterances += selection.utterances
        for reason, count in selection.dropped.items():
            dropped[reason] = dropped.get(reason, 0) + count
    return utterances, dropped


def build_scheduler(config: ExperimentConfig, optimizer: Optimizer, num_steps: int) -> LRScheduler | None:
    """Return the learning-rate schedule of a run of `num_steps` steps (or epochs, if it counts them), or None."""
    if config.lr_scheduler is None:
        return None
    spec = _usable(resolved(config.lr_scheduler, num_steps), config.trainer.monitor)
    scales = [group.get("lr_scale", 1.0) for group in optimizer.param_groups]
    if any(scale != 1.0 for scale in scales):  # schedules that set the rate instead of scaling the optimizer's
        args = {
            name: [value * scale for scale in scales] if name in ("max_lr", "base_lr") and not isinstance(value, list)
            else value
            for name, value in spec["args"].items()
        }  # fmt: skip
        spec = {**spec, "args": args}
    return SCHEDULERS.build(spec, optimizer=optimizer)


def _usable(spec: Spec, monitor: str) -> Spec:
    """Return the spec of a schedule with the direction of `monitor`, and without a first phase of exactly one step."""
    args, kind = spec.get("args", {}), spec["type"] if spec.get("module") is None else None
    if kind == "ReduceLROnPlateau" and monitor.startswith("max "):
        args = {"mode": "max", **args}
    if kind == "OneCycleLR" and (length := given_length(spec)) is not None:
        share = args.get("pct_start", 0.3)
        if share * length[1] == 1:  # torch divides by the length of the phase less one step
            args = {**args, "pct_start": share * (1 - 1e-9)}
    return {**spec, "args": args}


def decoder_specs(config: ExperimentConfig, text_encoder: TextEncoder, beam_size: int) -> dict[str, Spec]:
    """Return the specs of the decoders by the names of their results.

    Without a `decoders` section: argmax, a beam search, and one with a language model if the text encoder has one.
    """
    if config.decoders is not None:
        return {spec["type"]: spec for spec in config.decoders}
    specs: dict[str, Spec] = {
        "argmax": {"type": "argmax"},
        "beam_search": {"type": "beam_search", "args": {"beam_size": beam_size}},
    }
    if hasattr(text_encoder, "language_model_path"):
        names = {"alpha": "alpha", "beta": "beta", "beam_size": "beam_width"}
        args = {name: getattr(text_encoder, attribute) for name, attribute in names.items()}
        specs["lm_beam_search"] = {"type": "lm_beam_search", "args": args}
    return specs


def training_decoder_specs(
    config: ExperimentConfig, text_encoder: TextEncoder, metrics: Iterable[Metric]
) -> dict[str, Spec]:
    """Return the specs of the decoders that training uses: for its log, for `metrics`, for what writers show."""
    specs = decoder_specs(config, text_encoder, config.trainer.beam_size)
    specs.setdefault("argmax", {"type": "argmax"})  # the log needs it, whatever the config decodes with
    shown = [] if config.trainer.visualize in ("none", [], ["none"]) else ["beam_search"]
    names = {"argmax", *shown, *(metric.decoder for metric in metrics)}
    return {name: specs[name] for name in sorted(names & specs.keys())}


def build_decoders(specs: dict[str, Spec], text_encoder: TextEncoder) -> dict[str, CTCDecoder]:
    """Make decoders; language models are downloaded and loaded here.

    Raises ValueError for arguments a decoder refuses, UserError for a language model that cannot be used.
    """
    decoders = {}
    for name, spec in specs.items():
        provided: dict[str, object] = {"text_encoder": text_encoder}
        if hasattr(text_encoder, "language_model_path") and DECODERS.accepts(spec, "language_model"):
            provided["language_model"] = Path(text_encoder.language_model_path())
        decoder = DECODERS.build(spec, **provided)
        if hasattr(decoder, "prepare"):
            decoder.prepare()
        decoders[name] = decoder
    return decoders
