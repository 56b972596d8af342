"""What train.py does: a new run, fine-tuning, continuation, check."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from torch import distributed

from hw_asr import build
from hw_asr.config import ConfigError, ExperimentConfig, override, read_json
from hw_asr.experiment import Experiment, Network, make_network
from hw_asr.files import write_and_rename
from hw_asr.monitor import Monitor
from hw_asr.processes import Processes, choose_device, join_processes, set_threads
from hw_asr.registry import STORAGES
from hw_asr.storage.runs import Run, Runs
from hw_asr.training.checkpoint import load_checkpoint
from hw_asr.training.console import set_up_logging
from hw_asr.training.snapshots import Snapshots, load_newest_whole
from hw_asr.validation import validate
from hw_asr.writers.base import Writer

logger = logging.getLogger(__name__)

# Sections that decide what the saved weights and optimiser state mean.
_FIXED = ("arch", "text_encoder", "preprocessing", "optimizer.type", "lr_scheduler.type", "data.train")


class Plan(NamedTuple):
    """What a command line asks for: a config, and the run, state or weights to go on from."""

    config: ExperimentConfig
    run: Run | None = None
    state: dict[str, Any] | None = None
    weights: tuple[dict[str, Any], Path] | None = None


def train(config_path: Path | None, resume: Path | None, assignments: Sequence[str], device: str | None) -> int:
    """Train; return the exit code. Raises UserError for everything a person can mend."""
    plan = _plan(config_path, resume, assignments)
    config = plan.config
    processes = join_processes(device, config.n_gpu)
    set_threads(config.trainer.num_threads, config.data["train"].num_workers)
    run = plan.run or _new_run(config, processes)
    try:
        with run.lock() if processes.is_main else nullcontext():
            set_up_logging(config.trainer.verbosity if processes.is_main else 0, run.log_dir / "train.log")
            logger.info("run %s:%s in %s", run.experiment, run.name, run.model_dir)
            _warn_of_test_selection(config)
            return _fit(plan._replace(run=run), run, processes)
    finally:
        if processes.size > 1:
            distributed.destroy_process_group()


def check(config_path: Path | None, resume: Path | None, assignments: Sequence[str], device: str | None) -> int:
    """Validate, build the model and print what would run; return 0. Raises ConfigError with every fault."""
    config = _plan(config_path, resume, assignments).config
    network = make_network(config, choose_device(device, config.n_gpu))
    print("\n".join(_describe(config, network)))
    return 0


def _fit(plan: Plan, run: Run, processes: Processes) -> int:
    experiment = Experiment(plan.config, run, processes, plan.state, plan.weights)
    writer = experiment.writer()
    try:
        with _exports(plan.config, run, writer, processes, experiment) as export:
            snapshots = None
            if processes.is_main:
                trainer = plan.config.trainer
                snapshots = Snapshots(
                    run, save_period=trainer.save_period, keep_last=trainer.keep_last,
                    save_minutes=trainer.save_minutes, export=export,
                )  # fmt: skip
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


def _plan(config_path: Path | None, resume: Path | None, assignments: Sequence[str]) -> Plan:
    if config_path is not None:
        config = validate(override(read_json(config_path), assignments), str(config_path))
        if resume is None:
            return Plan(config)
        return Plan(config, weights=(load_checkpoint(resume)["state_dict"], resume))
    assert resume is not None, "the command line asks for one of them"
    run = Run.of_checkpoint(resume)
    config = validate(override(read_json(run.config_path), assignments), str(run.config_path))
    state, source = load_newest_whole(resume)
    _compare(config, state.get("config"), source)
    return Plan(config, run, state)


def _compare(config: ExperimentConfig, saved: Any, source: Path) -> None:
    """Say in what a run's config differs from its checkpoint's; refuse what would not be the same run.

    Raises ConfigError.
    """
    if not isinstance(saved, dict):
        return
    faults = [
        f"{path}: differs from what {source} was trained with; undo the change, or start a new run with -c and -r"
        for path in _FIXED
        if _at(config.raw, path) != _at(saved, path)
    ]
    if faults:
        raise ConfigError(faults, "resume")
    for key in sorted(config.raw.keys() | saved.keys()):
        if config.raw.get(key) != saved.get(key):
            logger.warning("config section %r was changed since %s was written; the new one is used", key, source)


def _new_run(config: ExperimentConfig, processes: Processes) -> Run:
    """Make the run's directory, on the main process, and put the config there."""
    runs = Runs(config.trainer.save_dir)
    name: list[Any] = [config.trainer.wandb_run]
    if processes.is_main:
        run = runs.create(config.name, config.trainer.wandb_run)
        with write_and_rename(run.config_path, "w") as file:
            json.dump(config.raw, file, indent=2, ensure_ascii=False)
        name = [run.name]
    if processes.size > 1:
        distributed.broadcast_object_list(name)
    return next(run for run in runs.list() if (run.experiment, run.name) == (config.name, name[0]))


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
    for split in config.data:
        for corpus in build.build_corpora(config, split):
            yield f"{split:<11} {corpus.status()}"
    trainer = config.trainer
    length = f"{trainer.len_epoch} batches" if trainer.len_epoch else "one pass over the training data"
    yield f"training    {trainer.epochs} epochs of {length}, {config.optimizer['type']}, {trainer.precision}"
    yield f"writes      {trainer.save_dir / 'models' / config.name}, {trainer.save_dir / 'log' / config.name}"


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


def _at(raw: Any, path: str) -> Any:
    for key in path.split("."):
        raw = raw.get(key) if isinstance(raw, dict) else None
    return raw
