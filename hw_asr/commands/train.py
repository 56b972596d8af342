"""The `train` command: a new run, fine-tuning, or the continuation of a run."""

from __future__ import annotations

import logging
from contextlib import ExitStack, nullcontext, suppress
from pathlib import Path
from typing import NamedTuple, cast

import torch
from torch import distributed

from hw_asr.checkpoints.restoring import check_format
from hw_asr.checkpoints.weights import belongs_to
from hw_asr.commands.auto_resume import Continuation, find_run
from hw_asr.commands.exports import Exports
from hw_asr.commands.run_directory import copy_of_run, discarded_unless_started, keep_config, log_path, new_run
from hw_asr.commands.train_request import Request, read_request
from hw_asr.config import ExperimentConfig
from hw_asr.config.registry import STORAGES
from hw_asr.experiment.feature_statistics import measure_statistics
from hw_asr.experiment.network import check_fit, make_network
from hw_asr.experiment.resume_rules import compare
from hw_asr.experiment.training_data import TrainingData
from hw_asr.experiment.training_run import Experiment
from hw_asr.experiment.transfer import Weights, read_weights
from hw_asr.runtime.console import ERRORS_ONLY, set_up_logging
from hw_asr.runtime.devices import check_precision, set_numerics, set_threads
from hw_asr.runtime.memory import explain_out_of_memory
from hw_asr.runtime.parent import end_with_torchrun
from hw_asr.runtime.processes import Processes, join_processes, one_message
from hw_asr.runtime.writable import is_writable
from hw_asr.storage.external import StorageUnavailable
from hw_asr.storage.runs import Run
from hw_asr.training.monitor import Monitor
from hw_asr.training.snapshots import LAST, load_newest_whole, num_steps
from hw_asr.types import PretrainedModel

logger = logging.getLogger(__name__)


class Start(NamedTuple):
    """What training starts from: the whole state of a run, or only weights; and the file it comes from."""

    state: dict[str, object] | None = None
    source: Path = Path()
    weights: Weights | None = None


def train(request: Request) -> int:
    """Train; return the exit code. Raises UserError for everything a person can correct."""
    with one_message():
        end_with_torchrun()
        config, resumed = read_request(request)
        processes = join_processes(request.device, config.n_gpu)
        check_precision(processes.device, config.trainer.precision)
        set_threads(config.trainer.num_threads, config.data["train"].num_workers)
        set_numerics(tf32=config.trainer.tf32, deterministic=config.trainer.deterministic)
        if request.auto_resume:
            found = _find_run(config, processes)
            if found.finished:
                return 0
            if found.run is not None:
                resumed = found.run
                request = request._replace(config=None, resume=found.run.checkpoint_path(LAST))
        start, run = Start(), resumed
        if run is None:
            start = read_start(request)
            check_exports_writable(config, processes)
            run = new_run(config, processes)
        elif not (is_writable(run.model_dir) and is_writable(run.log_dir)):
            set_up_logging(_verbosity(config, processes))
            start = read_start(request)
            run = copy_of_run(run, config, request, start.source, processes)
        with ExitStack() as stack:
            if processes.is_main:
                stack.enter_context(run.lock())
            if processes.is_main and resumed is None:
                stack.enter_context(discarded_unless_started(run))
            set_up_logging(_verbosity(config, processes), log_path(run, processes))
            logger.info("run %s:%s in %s", run.experiment, run.name, run.model_dir)
            _log_device(config, processes)
            _warn_of_test_selection(config)
            if resumed is not None and start.state is None:
                start = read_start(request)
            if start.state is not None:
                compare(config, start.state.get("config"), start.source, num_steps(start.state))
            return _fit(config, run, start, processes)


def _find_run(config: ExperimentConfig, processes: Processes) -> Continuation:
    """Find the run that `--auto-resume` continues, on the main process; the others get to know it."""
    found: list[object] = [Continuation(None)]
    if processes.is_main:
        set_up_logging(config.trainer.verbosity)
        found = [find_run(config)]
    if processes.size > 1:
        distributed.broadcast_object_list(found)
    return cast(Continuation, found[0])


def read_start(request: Request) -> Start:
    """Read the checkpoint that a request names, if it names one; raises CheckpointError."""
    if request.resume is None:
        return Start()
    if request.config is not None:
        return Start(weights=read_weights(request.resume))
    return Start(*load_newest_whole(request.resume))


def _fit(config: ExperimentConfig, run: Run, start: Start, processes: Processes) -> int:
    experiment = _make_experiment(config, start, processes)
    if processes.is_main:
        keep_config(config, run)
    writer = experiment.writer(run)
    advice = (
        "this happened outside of a batch, which could be skipped: use a smaller model or a lower data.*.batch_size, "
        f"then continue with: python train.py -r {run.checkpoint_path(LAST)}"
    )
    try:
        step = experiment.learner.progress.step
        exports = Exports(config, run, experiment.describe_best, step) if processes.is_main else None
        with explain_out_of_memory(advice), exports or nullcontext():
            snapshots = experiment.snapshots(run, writer, exports.export if exports else None)
            trainer = experiment.trainer(writer, snapshots)
            if snapshots is not None and exports is not None:
                exports.at_end(snapshots.export_last)
                # A new run of an old name leaves the stored state alone until it has one of its own.
                snapshots.write_first(start.source, is_set_back=start.state is not None and exports.is_set_back)
            if not processes.is_main:
                set_up_logging(0)  # warnings about this process's own batches
            code = trainer.fit()
            if exports is not None:
                exports.finished = code == 0
        if exports is not None and exports.missing is not None:
            writer.scalars(experiment.learner.progress.step, {"exports missing": exports.missing})
        return code
    finally:
        writer.close()


def _make_experiment(config: ExperimentConfig, start: Start, processes: Processes) -> Experiment:
    """Load network, data and state; measure the statistics of the features where a new run needs them."""
    if start.state is not None:
        check_format(start.state, start.source)
        check_fit(config, start.state["state_dict"], start.source)
    network = make_network(config, processes.device)
    if start == Start() and isinstance(network.model, PretrainedModel):
        network.model.load_pretrained()
    data = TrainingData.load(config, network, processes)
    is_new = start == Start() or (
        start.weights is not None and belongs_to("feature_statistics.mean", config.trainer.transfer.allow)
    )
    if is_new and network.front_end.statistics is not None:
        measure_statistics(network.front_end, data.train.dataset, config.data["train"].num_workers, processes)
    experiment = Experiment(config, network, data, processes, start.weights)
    if start.state is not None:
        experiment.restore(start.state, start.source)
    return experiment


def check_exports_writable(config: ExperimentConfig, processes: Processes) -> None:
    """Raise StorageError, before anything is made, when uploads will be refused."""
    if config.trainer.external_storage is not None and processes.is_main:
        with suppress(StorageUnavailable):  # it may come back before the first export
            STORAGES.build(config.trainer.external_storage).check_writable()


def _verbosity(config: ExperimentConfig, processes: Processes) -> int:
    """Return which messages a process prints while it starts: all processes would print the same warnings."""
    return config.trainer.verbosity if processes.is_main else ERRORS_ONLY


def _log_device(config: ExperimentConfig, processes: Processes) -> None:
    """Log the device; warn when the config asks for more GPUs than there are, which changes the batch of a step."""
    logger.info("device %s%s", processes.device, f", {processes.size} processes" if processes.size > 1 else "")
    available = torch.cuda.device_count()
    if config.n_gpu > max(1, available):
        logger.warning("n_gpu is %d, but this machine has %d GPUs; a process uses one", config.n_gpu, available)


def _warn_of_test_selection(config: ExperimentConfig) -> None:
    """Warn when the best checkpoint is selected on data that is called test."""
    monitor = Monitor.parse(config.trainer.monitor)
    for name, split in config.data.items():
        args = [spec.get("args", {}) for spec in split.datasets]
        parts = [name, *(str(given[key]) for given in args for key in ("part", "split") if key in given)]
        if monitor and name != "train" and monitor.key.startswith(f"{name}_") and any("test" in part for part in parts):
            logger.warning(
                "monitor %r selects the best checkpoint on test data (%s): its score there is not a test result",
                config.trainer.monitor, ", ".join(parts),
            )  # fmt: skip
