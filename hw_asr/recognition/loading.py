"""From a checkpoint to a recogniser: what `hw_asr.load` does."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hw_asr.checkpoints.errors import CheckpointError
from hw_asr.config import ConfigError, ExperimentConfig, Spec
from hw_asr.config.registry import DECODERS
from hw_asr.errors import nearest
from hw_asr.experiment import components
from hw_asr.experiment.checkpoint_config import EXPORTED, for_evaluation
from hw_asr.experiment.config_permissions import Named, Trust
from hw_asr.recognition.array_decoder import ArrayDecoder
from hw_asr.recognition.piece_decoder import BEST_FIRST, Decode
from hw_asr.recognition.recogniser import Recogniser, Settings
from hw_asr.recognition.waveform_model import WaveformModel
from hw_asr.runtime.optional import MissingPackageError
from hw_asr.types import TextEncoder

if TYPE_CHECKING:
    import torch

HOTWORD_DECODERS = ("beam_search", "lm_beam_search")


def load(
    checkpoint: str | Path,
    *,
    decoder: str | None = None,
    language_model: str | Path | None = None,
    hotwords: Iterable[str] | Mapping[str, float] = (),
    device: str | int | torch.device = "auto",
    chunk_seconds: float = 60.0,
    skip_silence: bool = True,
    allow_modules: Sequence[str] = (),
) -> Recogniser:
    """Load a checkpoint for recognition.

    Args:
        checkpoint: a `.pth` file of train.py; its config comes from the run's config.json or the checkpoint itself.
            Or an `.onnx` file of scripts/export.py, which needs onnxruntime instead of torch.
        decoder: `argmax`, `beam_search`, `lm_beam_search` or another one of the config. Default: lm_beam_search with a
            `language_model`, else the best one of the config.
        language_model: an ARPA file (.gz too) or a KenLM binary for lm_beam_search.
        hotwords: words or phrases that the beam searches favour, or a mapping of them to boosts in nats.
        device: `auto` (a GPU where there is one), `cpu`, or the index of a GPU; or a `torch.device`.
        chunk_seconds: longer recordings go through the network in overlapping chunks.
        skip_silence: take no text from parts that do not rise above the recording's background noise.
        allow_modules: modules that the checkpoint's config may import, which runs their code.

    Raises hw_asr.Error for a checkpoint, config, decoder, language model or device that cannot be used.
    """
    path = Path(checkpoint)
    state = read_checkpoint(path)
    named = Named(trust=Trust(frozenset(allow_modules)))
    config = for_evaluation(path, named, lambda split: False, state).config
    if not chunk_seconds > MIN_CHUNK_SECONDS:
        raise ConfigError([f"chunk_seconds: expected more than {MIN_CHUNK_SECONDS}, got {chunk_seconds}"], "load")
    model = make_waveform_model(path, state, config, _device_name(device))
    specs = _chosen(decoder_specs(config, model.text_encoder), decoder, language_model)
    if phrases := _phrases(hotwords):
        specs = {name: _with_hotwords(name, spec, phrases) for name, spec in specs.items()}
    settings = Settings(chunk_seconds, skip_silence, max_audio_hours=config.preprocessing.max_audio_hours)
    return Recogniser(model, make_decoders(specs, model.text_encoder), settings)


MIN_CHUNK_SECONDS = 12
"""Chunks overlap by 6 s, which must be less than half of one."""


def read_checkpoint(path: Path) -> dict[str, object]:
    """Read a checkpoint, or an exported model (`.onnx`), for recognition.

    Of an exported model the result has `config`, `alphabet` and the model itself as `exported`. Raises CheckpointError
    or ExportedModelError, which say what to give instead of something else, and MissingPackageError for a checkpoint
    where torch is not installed.
    """
    if path.is_dir():
        found = sorted(path.rglob("*.pth"), key=lambda file: (file.name != "model_best.pth", file.name))
        advice = f"give one of its checkpoints, such as {found[0]}" if found else "it has no .pth file"
        raise CheckpointError(f"{path} is a directory; {advice}")
    if path.suffix.lower() == ".onnx":
        from hw_asr.exported.runtime import read_exported

        exported = read_exported(path)
        return {EXPORTED: exported, "config": exported.metadata.config, "alphabet": exported.metadata.alphabet}
    try:
        from hw_asr.checkpoints.reading import load_checkpoint
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise MissingPackageError(
            f"{path}: checkpoints need torch, which is not installed; install it, or give a model that "
            "scripts/export.py has exported"
        ) from error
    return load_checkpoint(path)


def make_waveform_model(
    path: Path,
    checkpoint: Mapping[str, Any],
    config: ExperimentConfig,
    device: str | None,
    num_threads: int | None = None,
) -> WaveformModel:
    """Make the model that `read_checkpoint` has read.

    `device` None is a GPU where there is one; `num_threads` are those of the CPU, None for the library's default. An
    exported model runs on the CPU. Raises ConfigError for another device then.
    """
    if EXPORTED in checkpoint:
        from hw_asr.exported.runtime import OnnxWaveformModel

        if device not in (None, "cpu"):
            raise ConfigError([f"device {device}: an exported model runs on the CPU; use the checkpoint for a GPU"])
        return OnnxWaveformModel(checkpoint[EXPORTED], components.build_text_encoder(config), num_threads)
    from hw_asr.recognition.torch_loading import make_torch_model

    return make_torch_model(path, checkpoint, config, device, num_threads)


def decoder_specs(config: ExperimentConfig, text_encoder: TextEncoder, hotwords: Sequence[str] = ()) -> dict[str, Spec]:
    """Return the config's decoders by name, the beam searches with the hotwords added."""
    specs = components.decoder_specs(config, text_encoder, max(100, config.trainer.beam_size))
    if hotwords:
        specs |= {name: _with_hotwords(name, specs[name], hotwords) for name in specs if name in HOTWORD_DECODERS}
    return specs


def make_decoders(specs: Mapping[str, Spec], text_encoder: TextEncoder) -> dict[str, Decode]:
    """Make the decoders, which take arrays; language models are loaded here.

    Raises ConfigError for arguments a decoder refuses.
    """
    try:
        decoders = components.build_decoders(dict(specs), text_encoder)
    except ValueError as error:
        raise ConfigError([f"decoders: {error}"], "decoders") from error
    return {name: ArrayDecoder(decoder) for name, decoder in decoders.items()}


def _chosen(specs: dict[str, Spec], name: str | None, language_model: str | Path | None) -> dict[str, Spec]:
    """Return the one decoder that is wanted, with the language model that was given."""
    specs = {"argmax": {"type": "argmax"}, "beam_search": {"type": "beam_search"}} | specs
    if language_model is not None:
        name = name or "lm_beam_search"
        specs.setdefault("lm_beam_search", {"type": "lm_beam_search"})
    name = name or next((known for known in BEST_FIRST if known in specs), next(iter(specs)))
    if name not in specs:
        advice = "give language_model" if name == "lm_beam_search" else f"unknown decoder{nearest(name, specs)}"
        raise ConfigError([f"decoder {name!r}: {advice}"], "load")
    if language_model is not None:
        if not Path(language_model).is_file():
            reason = "is not a file" if Path(language_model).exists() else "no such file"
            raise ConfigError(
                [f"language_model: {language_model}: {reason}; give an ARPA file or a KenLM binary"], "load"
            )
        if not DECODERS.accepts(specs[name], "language_model"):
            raise ConfigError([f"language_model: decoder {name!r} uses none; use lm_beam_search"], "load")
        specs[name] = _with_args(specs[name], language_model=str(language_model))
    return {name: specs[name]}


def _device_name(device: object) -> str | None:
    """Return a device as `choose_device` takes it; None is a GPU where there is one."""
    name = str(device)
    if device is None or name == "auto":
        return None
    return (name.removeprefix("cuda").removeprefix(":") or "0") if name.startswith("cuda") else name


def _phrases(hotwords: Any) -> list[str] | dict[str, float]:
    """Return hotwords as a list or a dictionary. Raises ConfigError for something else than words."""
    if hotwords is None:
        return []
    if isinstance(hotwords, str) or not isinstance(hotwords, Iterable):
        raise ConfigError([f"hotwords: expected a list of words or a mapping, got {hotwords!r}"], "load")
    phrases = dict(hotwords) if isinstance(hotwords, Mapping) else list(hotwords)
    for phrase in phrases:
        if not isinstance(phrase, str):
            raise ConfigError([f"hotwords: expected words, got {phrase!r}"], "load")
    return phrases


def _with_hotwords(name: str, spec: Spec, hotwords: Sequence[str] | Mapping[str, float]) -> Spec:
    """Return the spec of a decoder with hotwords added; raises ConfigError for a decoder that uses none."""
    if not DECODERS.accepts(spec, "hotwords"):
        raise ConfigError([f"hotwords: decoder {name!r} uses none; use beam_search or lm_beam_search"], "load")
    return _with_args(spec, hotwords=hotwords)


def _with_args(spec: Spec, **args: object) -> Spec:
    return {**spec, "args": {**spec.get("args", {}), **args}}
