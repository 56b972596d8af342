"""`train --check`: every fault that would stop training, or a description of the run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hw_asr.checkpoints.restoring import check_format
from hw_asr.commands.auto_resume import newest_here
from hw_asr.commands.run_directory import save_dir_of_copy
from hw_asr.commands.train import Start, check_exports_writable, read_start
from hw_asr.commands.train_request import Request, rate_assignments, read_request
from hw_asr.config import ConfigError, ExperimentConfig, override, read_json
from hw_asr.config.partial import is_sound
from hw_asr.errors import UserError
from hw_asr.experiment import components
from hw_asr.experiment.network import Network, check_fit, make_network
from hw_asr.experiment.resume_rules import compare
from hw_asr.experiment.run_copy import place_of_copy
from hw_asr.experiment.split_data import load_split
from hw_asr.experiment.training_data import BatchedSplit, TrainingData, load_train_split
from hw_asr.experiment.training_run import Experiment
from hw_asr.experiment.transfer import load_initial_weights
from hw_asr.experiment.validation import examine
from hw_asr.runtime.devices import check_precision, choose_device
from hw_asr.runtime.processes import Processes
from hw_asr.runtime.writable import is_writable
from hw_asr.storage.runs import Run, Runs
from hw_asr.streaming.network import look_ahead_seconds
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
            if network is not None and train is not None and not self._faults:
                with self._noted():
                    self._assemble(config, network, train)
            if not self._faults:
                self._lines.append(_training_line(config, train))
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
            num_parameters = sum(parameter.numel() for parameter in network.model.parameters())
            frame_rate = config.preprocessing.sr / network.front_end.hop_length
            alphabet = network.text_encoder.alphabet
            self._lines += [
                f"experiment  {config.name}",
                f"model       {config.arch['type']}, {num_parameters:,} parameters",
                f"features    {config.preprocessing.spectrogram['type']}, {network.front_end.n_feats} values, "
                f"{frame_rate:g} frames/s",
                *_live_lines(network, config.preprocessing.sr),
                f"text        {len(alphabet)} classes: blank and {''.join(alphabet[1:])!r}",
            ]
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

    def _assemble(self, config: ExperimentConfig, network: Network, train: BatchedSplit) -> None:
        """Make the objects of the run, with the real length of its schedule and the real weights."""
        state = self._start.state
        if state is not None:
            compare(config, state.get("config"), self._start.source, num_steps(state))
        processes = Processes(device=self._device)
        experiment = Experiment(config, network, TrainingData(train, {}), processes)
        if state is not None:
            experiment.restore(state, self._start.source)
        freezing = experiment.learner.step.freezing
        freezing.begin_epoch(experiment.learner.progress.epoch)
        if freezing.describe():
            self._lines.append(f"not trained {freezing.describe()}")


def _live_lines(network: Network, sample_rate: int) -> list[str]:
    """Return the look-ahead of a network that can recognise live audio."""
    seconds = look_ahead_seconds(network.front_end, network.model, sample_rate)
    return [] if seconds is None else [f"live        yes, with a look-ahead of {seconds:.3f} s"]


def _training_line(config: ExperimentConfig, train: BatchedSplit | None) -> str:
    trainer = config.trainer
    num_batches = trainer.len_epoch or (len(train.sampler) if train is not None else None)
    steps = "one pass over the training data"
    if num_batches is not None:
        steps = f"{-(-num_batches // trainer.accumulate_grad_steps)} steps"
    return (
        f"training    {trainer.epochs} epochs of {steps}, {config.optimizer['type']}, {trainer.precision}\n"
        f"writes      {trainer.save_dir / 'models' / config.name}, {trainer.save_dir / 'log' / config.name}"
    )
