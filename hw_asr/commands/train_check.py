"""`train --check`: every fault that would stop training, or a description of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hw_asr.checkpoints.restoring import check_format
from hw_asr.commands.auto_resume import newest_here
from hw_asr.commands.run_directory import save_dir_of_copy
from hw_asr.commands.train import Start, check_exports_writable, read_start
from hw_asr.commands.train_check_lines import network_lines, training_line
from hw_asr.commands.train_request import Request, rate_assignments, read_request
from hw_asr.config import ConfigError, ExperimentConfig, override, read_json
from hw_asr.config.partial import is_sound
from hw_asr.errors import UserError
from hw_asr.experiment import components
from hw_asr.experiment.network import Network, check_fit, make_network
from hw_asr.experiment.optimizer import build_optimizer
from hw_asr.experiment.resume_rules import compare
from hw_asr.experiment.run_copy import place_of_copy
from hw_asr.experiment.schedules import build_schedule, check_schedule, run_settings
from hw_asr.experiment.split_data import load_split
from hw_asr.experiment.training_data import BatchedSplit, TrainingData, load_train_split
from hw_asr.experiment.training_run import Experiment
from hw_asr.experiment.transfer import load_initial_weights
from hw_asr.experiment.validation import examine
from hw_asr.runtime.devices import check_precision, choose_device
from hw_asr.runtime.processes import Processes
from hw_asr.runtime.writable import is_writable
from hw_asr.storage.runs import Run, Runs
from hw_asr.training.snapshots import LAST, load_newest_whole, num_steps
from hw_asr.types import TextEncoder


def check(request: Request) -> int:
    """Print what would run; return 0. Raises ConfigError with every fault that would stop training."""
    print("\n".join(_Check(request).description()))
    return 0


class _Check:
    """Tries everything that `train` does before its first step, as far as no earlier fault prevents it."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._faults: list[str] = []
        self._run: Run | None = None
        self._device = torch.device("cpu")
        self._source = str(request.config or request.resume)
        self._start = Start()
        self._lines: list[str] = []

    def description(self) -> list[str]:
        """Return lines about the run; raises ConfigError with every fault."""
        config = self._read()
        if config is not None:
            with self._noted():
                self._device = choose_device(self._request.device, config.n_gpu)
                check_precision(self._device, config.trainer.precision)
            with self._noted():
                self._start = read_start(self._request)
                if self._request.auto_resume and is_sound("trainer", self._faults) and is_sound("name", self._faults):
                    self._continue_newest(config)
            network = self._network(config)
            with self._noted():
                if network is not None and self._start.weights is not None:
                    line = load_initial_weights(config, network, self._start.weights)
                    self._lines.append(f"weights     {line}")
            train = self._data(config, network)
            self._places(config)
            if network is not None:
                self._decoders(config, network.text_encoder)
            if network is not None and not self._faults:
                with self._noted():
                    self._assemble(config, network, train)
            if not self._faults:
                self._lines.append(training_line(config, train))
        if self._faults:
            raise ConfigError(dict.fromkeys(self._faults), self._source)
        return self._lines

    @contextmanager
    def _noted(self, path: str = "") -> Iterator[None]:
        """Add an error of the block to the faults; `path` is the part of the config that it concerns."""
        try:
            yield
        except ConfigError as error:
            self._faults += error.faults
        except UserError as error:
            self._faults.append(f"{path}: {error}" if path else str(error))

    def _read(self) -> ExperimentConfig | None:
        request = self._request
        if request.config is None:
            with self._noted():
                config, self._run = read_request(request)
                return config
            return None
        raw: dict[str, object] = override(read_json(request.config), request.assignments)
        with self._noted():
            if request.learning_rate is not None:
                raw = override(raw, rate_assignments(raw, request.learning_rate))
        examination = examine(raw)
        self._faults += examination.faults
        return examination.config

    def _continue_newest(self, config: ExperimentConfig) -> None:
        """Take the run on this machine that `--auto-resume` would continue; the storage is not asked."""
        run = newest_here(Runs(config.trainer.save_dir), config)
        if run is not None:
            last = run.checkpoint_path(LAST)
            self._run, self._start = run, Start(*load_newest_whole(last if last.is_file() else run.checkpoints()[-1]))
            self._lines.append(f"continues   {self._start.source}")

    def _network(self, config: ExperimentConfig) -> Network | None:
        if not all(is_sound(path, self._faults) for path in ("arch", "text_encoder", "preprocessing")):
            return None
        if self._request.config is None and self._start.state is None:  # the checkpoint cannot be read
            return None
        with self._noted():
            if self._start.state is not None:
                check_format(self._start.state, self._start.source)
                check_fit(config, self._start.state["state_dict"], self._start.source)
            network = make_network(config, self._device)
            self._lines += network_lines(config, network)
            return network
        return None

    def _data(self, config: ExperimentConfig, network: Network | None) -> BatchedSplit | None:
        """Load every split that needs no download; return the train split if it is one of them."""
        train = None
        encoder = network.text_encoder if network is not None else self._text_encoder(config)
        for name in config.data:
            if not all(is_sound(path, self._faults) for path in (f"data.{name}", "data.root_dir")):
                continue
            corpora = components.build_corpora(config, name)
            self._lines += [f"{name:<11} {corpus.status()}" for corpus in corpora]
            here = all(corpus.is_here() or not getattr(corpus, "can_download", True) for corpus in corpora)
            if not here or encoder is None:
                continue
            with self._noted(f"data.{name}"):
                if name == "train" and network is not None:
                    train = load_train_split(config, network, Processes(device=self._device))
                dataset = train.dataset if train and name == "train" else load_split(config, name, encoder)
                hours = dataset.durations.sum() / 3600
                self._lines.append(f"{'':<11} {len(dataset)} utterances, {hours:.2f} h")
        return train

    def _text_encoder(self, config: ExperimentConfig) -> TextEncoder | None:
        """Return what the data need where the network could not be built."""
        if is_sound("text_encoder", self._faults):
            with self._noted():
                return components.build_text_encoder(config)
        return None

    def _places(self, config: ExperimentConfig) -> None:
        """Check that a run can be written, and that its name is free."""
        if not is_sound("trainer", self._faults) or not is_sound("name", self._faults):
            return
        run = self._run
        with self._noted():
            if run is None:
                Runs(config.trainer.save_dir).check_writable(config.name, config.trainer.wandb_run)
            elif not (is_writable(run.model_dir) and is_writable(run.log_dir)):
                place_of_copy(run, save_dir_of_copy(run, config, self._request))
        with self._noted("trainer.external_storage"):
            check_exports_writable(config, Processes())

    def _decoders(self, config: ExperimentConfig, encoder: TextEncoder) -> None:
        """Load what training decodes with, unless the text encoder's language model has to be downloaded."""
        if not all(is_sound(path, self._faults) for path in ("decoders", "metrics", "text_encoder", "trainer")):
            return
        if not getattr(encoder, "needs_download", hasattr(encoder, "language_model_path")):
            with self._noted("decoders" if config.decoders else "text_encoder"):
                metrics = components.build_metrics(config)
                components.build_decoders(components.training_decoder_specs(config, encoder, metrics), encoder)

    def _assemble(self, config: ExperimentConfig, network: Network, train: BatchedSplit | None) -> None:
        """Make the objects of the run, with the real length of its schedule and the real weights.

        Without the train split, only the optimiser, and the schedule if its length is known.
        """
        state = self._start.state
        if state is not None:
            compare(config, state.get("config"), self._start.source, num_steps(state))
        if train is None:
            optimizer = build_optimizer(config, network.model)
            if config.trainer.len_epoch is not None:
                settings = run_settings(config.trainer, config.trainer.len_epoch)
                check_schedule(config, settings)
                build_schedule(config, optimizer, settings)
            return
        processes = Processes(device=self._device)
        experiment = Experiment(config, network, TrainingData(train, {}), processes)
        if state is not None:
            experiment.restore(state, self._start.source)
        freezing = experiment.learner.step.freezing
        freezing.begin_epoch(experiment.learner.progress.epoch)
        if freezing.describe():
            self._lines.append(f"not trained {freezing.describe()}")
