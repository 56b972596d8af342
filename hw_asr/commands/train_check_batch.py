"""`train --check-batch`: two steps on the longest batch, for its time and memory."""

from __future__ import annotations

import time

import torch

from hw_asr.commands.train_check import check
from hw_asr.commands.train_request import Request, read_request
from hw_asr.experiment.network import make_network
from hw_asr.experiment.training_data import TrainingData, load_train_split
from hw_asr.experiment.training_run import Experiment
from hw_asr.runtime.devices import choose_device, set_numerics, set_threads, synchronize
from hw_asr.runtime.processes import Processes
from hw_asr.training.step_result import OUT_OF_MEMORY, SCALE_LOWERED
from hw_asr.training.stream import Placed
from hw_asr.training.trainer import TrainingFailedError


def check_batch(request: Request) -> int:
    """As `check`, and take two steps on the longest batch of the training data, without keeping anything; return 0.

    The time is that of the second step, since the first one prepares kernels. Raises TrainingFailedError when a step
    would be skipped.
    """
    check(request)
    config, _ = read_request(request)
    processes = Processes(device=choose_device(request.device, config.n_gpu))
    if processes.device.type == "cuda":
        torch.cuda.set_device(processes.device)
    set_threads(config.trainer.num_threads, config.data["train"].num_workers)
    set_numerics(tf32=config.trainer.tf32, deterministic=config.trainer.deterministic)
    network = make_network(config, processes.device)
    data = TrainingData(load_train_split(config, network, processes), {})
    batch = data.longest_batch()
    longest = float(batch.sample_lengths.max()) / config.preprocessing.sr
    what = f"{len(batch)} recordings, {longest:.1f} s each at most"
    step = Experiment(config, network, data, processes).learner.step
    for position in range(2):
        start = time.perf_counter()
        result = step.run([Placed(batch, 0, position)])
        synchronize(processes.device)
        seconds = time.perf_counter() - start
        if result.problem == OUT_OF_MEMORY:
            break
    if result.problem == OUT_OF_MEMORY:
        utterance = max(batch.utterances, key=lambda utterance: utterance.duration)
        raise TrainingFailedError(
            f"the longest batch does not fit into memory: {what}, the longest {utterance.audio_path}; lower "
            "data.train.batch_size, or leave out long recordings with max_audio_length"
        )
    if result.problem not in (None, SCALE_LOWERED):
        raise TrainingFailedError(f"the step on the longest batch ({what}) would be skipped: {result.problem}")
    memory = ""
    if processes.device.type == "cuda":
        memory = f", {torch.cuda.max_memory_allocated(processes.device) / 2**30:.1f} GiB of GPU memory"
    print(f"longest batch  {what}: a step of {seconds:.1f} s{memory}")
    return 0
