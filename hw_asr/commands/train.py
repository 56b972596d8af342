"""What train.py does: a new run, fine-tuning, continuation, check."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import distributed

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.config import ExperimentConfig, override, read_json
from hw_asr.config.registry import STORAGES
from hw_asr.experiment import components
from hw_asr.experiment.checkpoint_config import Named, Trust, for_training
from hw_asr.experiment.config_effects import effects
from hw_asr.experiment.network import Network, make_network
from hw_asr.experiment.remembered_runs import remember
from hw_asr.experiment.resume_rules import compare
from hw_asr.experiment.split_data import load_split, make_sampler
from hw_asr.experiment.training_run import Experiment
from hw_asr.experiment.validation import validate
from hw_asr.runtime.atomic_files import write_and_rename
from hw_asr.runtime.console import set_up_logging
from hw_asr.runtime.devices import check_precision, choose_device, explain_out_of_memory, set_numerics, set_threads
from hw_asr.runtime.processes import Processes, join_processes, one_message
from hw_asr.storage.external import StorageUnavailable
from hw_asr.storage.runs import Run, RunError, RunId, Runs
from hw_asr.training.monitor import Monitor
from hw_asr.training.snapshots import LAST, Snapshots, load_newest_whole
from hw_asr.training.step import OUT_OF_MEMORY, SCALE_LOWERED
from hw_asr.training.trainer import TrainingFailedError
from hw_asr.writers.base import Writer

logger = logging.getLogger(__name__)


class Request(NamedTuple):
    """The command line of train.py: at least one of `config` and `resume` is given."""

    config: Path | None
    resume: Path | None
    assignments: Sequence[str] = ()
    device: str | None = None
    allowed_modules: frozenset[str] = frozenset()
    trust_config: bool = False


class Start(NamedTuple):
    """What training goes on from: the whole state of a run, or only weights, with the file they came from."""

    state: dict[str, Any] | None = None
    weights: tuple[dict[str, Any], Path] | None = None


def train(request: Request) -> int:
    """Train; return the exit code. Raises UserError for everything a person can correct."""
    resume = request.resume
    with one_message():
        config, run = _read(request)
        processes = join_processes(request.device, config.n_gpu)
        check_precision(processes.device, config.trainer.precision)
        set_threads(config.trainer.num_threads, config.data["train"].num_workers)
        set_numerics(tf32=config.trainer.tf32, deterministic=config.trainer.deterministic)
        start = Start()
        if run is None:
            if resume is not None:
                start = Start(weights=(load_checkpoint(resume)["state_dict"], resume))
            _refuse_hopeless_exports(config, processes)
            run = _new_run(config, processes)
        with run.lock() if processes.is_main else nullcontext():
            set_up_logging(config.trainer.verbosity if processes.is_main else 0, _log_path(run, processes))
            logger.info("run %s:%s in %s", run.experiment, run.name, run.model_dir)
            _say_where(config, processes)
            _warn_of_test_selection(config)
            if processes.is_main:
                if not run.config_path.is_file():  # the config came from inside the checkpoint
                    _write_config(config, run)
                remember(run.model_dir, effects(config.raw))
            if request.config is None and resume is not None:
                state, source = load_newest_whole(resume)
                compare(config, state.get("config"), source, (state.get("progress") or {}).get("step", 0))
                start = Start(state)
            return _fit(config, run, start, processes)


def check(request: Request) -> int:
    """Validate, build the model and print what would run; return 0. Raises ConfigError with every fault."""
    config, _ = _read(request)
    device = choose_device(request.device, config.n_gpu)
    check_precision(device, config.trainer.precision)
    network = make_network(config, device)
    print("\n".join(_describe(config, network)))
    return 0


def check_batch(request: Request) -> int:
    """As `check`, and take two steps on the longest batch of the training data, without keeping anything; return 0.

    Raises TrainingFailedError when that step would be skipped.
    """
    check(request)
    config, _ = _read(request)
    processes = Processes(device=choose_device(request.device, config.n_gpu))
    if processes.device.type == "cuda":
        torch.cuda.set_device(processes.device)
    set_threads(config.trainer.num_threads, config.data["train"].num_workers)
    set_numerics(tf32=config.trainer.tf32, deterministic=config.trainer.deterministic)
    batch, result, seconds = Experiment(config, None, processes).try_longest_batch()
    if result.problem not in (None, SCALE_LOWERED):
        remedy = "check the data"
        if result.problem == OUT_OF_MEMORY:
            remedy = "lower data.train.batch_size or max_audio_length"
        raise TrainingFailedError(f"the longest batch does not fit: {result.problem}; {remedy}")
    longest = float(batch.sample_lengths.max()) / config.preprocessing.sr
    memory = ""
    if processes.device.type == "cuda":
        memory = f", {torch.cuda.max_memory_allocated(processes.device) / 2**30:.1f} GiB of GPU memory"
    print(f"longest batch  {len(batch)} recordings, {longest:.1f} s each at most: a step of {seconds:.1f} s{memory}")
    return 0


def _fit(config: ExperimentConfig, run: Run, start: Start, processes: Processes) -> int:
    experiment = Experiment(config, run, processes, start.state, start.weights)
    writer = experiment.writer()
    advice = (
        "this happened outside of a batch, which could be skipped: use a smaller model or a lower data.*.batch_size, "
        f"then continue with: python train.py -r {run.checkpoint_path(LAST)}"
    )
    try:
        with explain_out_of_memory(advice), _exports(config, run, writer, processes, experiment) as export:
            snapshots = None
            if processes.is_main:
                trainer = config.trainer
                snapshots = Snapshots(
                    run, lambda: experiment.state_dict(writer), save_period=trainer.save_period,
                    keep_last=trainer.keep_last, keep_every=trainer.keep_every, save_minutes=trainer.save_minutes,
                    save_steps=trainer.save_steps, export=export,
                )  # fmt: skip
                if start.state is None:  # so that a run can be continued whenever it was killed
                    snapshots.write_last()
            return experiment.trainer(writer, snapshots).fit()
    finally:
        writer.close()


@contextmanager
def _exports(
    config: ExperimentConfig, run: Run, writer: Writer, processes: Processes, experiment: Experiment
) -> Iterator[Any]:
    """Export beside training where the config says so; at the end record how many files did not arrive."""
    if config.trainer.external_storage is None or not processes.is_main:
        yield lambda path: None
        return
    from hw_asr.storage.exporter import Exporter

    exporter = Exporter(STORAGES.build(config.trainer.external_storage), run)
    exporter.export(run.config_path)
    try:
        yield exporter.export
    finally:
        exporter.close()
        writer.scalars(experiment.progress.step, {"exports missing": len(exporter.missing)})


def _refuse_hopeless_exports(config: ExperimentConfig, processes: Processes) -> None:
    """Raise StorageError, before anything is made, when uploads are bound to be refused."""
    if config.trainer.external_storage is not None and processes.is_main:
        with suppress(StorageUnavailable):  # it may come back before the first export
            STORAGES.build(config.trainer.external_storage).check_writable()


def _read(request: Request) -> tuple[ExperimentConfig, Run | None]:
    """Return the validated config and, when a run is to be continued, that run."""
    if request.config is not None:
        return validate(override(read_json(request.config), request.assignments), str(request.config)), None
    assert request.resume is not None, "the command line asks for one of them"
    named = Named(assignments=request.assignments, trust=Trust(request.allowed_modules, request.trust_config))
    return for_training(request.resume, named).config, Run.of_checkpoint(request.resume)


def _new_run(config: ExperimentConfig, processes: Processes) -> Run:
    """Make the run's directory, on the main process, and put the config there."""
    runs = Runs(config.trainer.save_dir)
    name: list[Any] = [config.trainer.wandb_run]
    if processes.is_main:
        try:
            run = runs.create(config.name, config.trainer.wandb_run)
            _write_config(config, run)
        except OSError as error:
            raise RunError(f"{config.trainer.save_dir}: a run cannot be written there: {error}") from error
        name = [run.name]
    if processes.size > 1:
        distributed.broadcast_object_list(name)
    return runs.at(RunId(config.name, name[0]))


def _write_config(config: ExperimentConfig, run: Run) -> None:
    with write_and_rename(run.config_path, "w") as file:
        json.dump(config.raw, file, indent=2, ensure_ascii=False)


def _log_path(run: Run, processes: Processes) -> Path | None:
    if not processes.is_main:
        return None
    try:
        run.log_dir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{run.log_dir}: the run's record cannot be written there: {error}") from error
    return run.log_dir / "train.log"


def _describe(config: ExperimentConfig, network: Network) -> Iterator[str]:
    """Say what would run: datasets, sizes, parameters, where it writes."""
    num_parameters = sum(parameter.numel() for parameter in network.model.parameters())
    frame_rate = config.preprocessing.sr / network.front_end.hop_length
    features = (
        f"{config.preprocessing.spectrogram['type']}, {network.front_end.n_feats} values, {frame_rate:g} frames/s"
    )
    alphabet = network.text_encoder.alphabet
    yield f"experiment  {config.name}"
    yield f"model       {config.arch['type']}, {num_parameters:,} parameters"
    yield f"features    {features}"
    yield f"text        {len(alphabet)} classes: blank and {''.join(alphabet[1:])!r}"
    num_batches = config.trainer.len_epoch
    for name, split in config.data.items():
        corpora = components.build_corpora(config, name)
        for corpus in corpora:
            yield f"{name:<11} {corpus.status()}"
        if all(corpus.is_here() for corpus in corpora):
            dataset = load_split(config, name, network.text_encoder)
            yield f"{'':<11} {len(dataset)} utterances, {dataset.durations.sum() / 3600:.2f} h"
            if name == "train" and num_batches is None:
                sampler = make_sampler(split, dataset, training=True, seed=0, processes=Processes())
                num_batches = len(sampler)
    trainer = config.trainer
    steps = "one pass over the training data"
    if num_batches is not None:
        steps = f"{-(-num_batches // trainer.accumulate_grad_steps)} steps"
    yield f"training    {trainer.epochs} epochs of {steps}, {config.optimizer['type']}, {trainer.precision}"
    yield f"writes      {trainer.save_dir / 'models' / config.name}, {trainer.save_dir / 'log' / config.name}"


def _say_where(config: ExperimentConfig, processes: Processes) -> None:
    """Name the device; warn when the config asks for more GPUs than there are, which changes the batch of a step."""
    logger.info("device %s%s", processes.device, f", {processes.size} processes" if processes.size > 1 else "")
    available = torch.cuda.device_count()
    if config.n_gpu > max(1, available):
        logger.warning("n_gpu is %d, but this machine has %d; going on with what there is", config.n_gpu, available)


def _warn_of_test_selection(config: ExperimentConfig) -> None:
    """Warn when the best checkpoint is chosen on data that is called test: the number is then no test result."""
    monitor = Monitor.parse(config.trainer.monitor)
    for name, split in config.data.items():
        args = [spec.get("args", {}) for spec in split.datasets]
        parts = [name, *(str(each[key]) for each in args for key in ("part", "split") if key in each)]
        if monitor and name != "train" and monitor.key.startswith(f"{name}_") and any("test" in each for each in parts):
            logger.warning(
                "monitor %r selects the best checkpoint on test data (%s): what it reaches there is no test result",
                config.trainer.monitor, ", ".join(parts),
            )  # fmt: skip
