"""Exports the network of a checkpoint to ONNX."""

from __future__ import annotations

import argparse

import torch

from hw_asr.checkpoints.reading import load_checkpoint
from hw_asr.commands.output_files import check_file
from hw_asr.config import ConfigError
from hw_asr.experiment.checkpoint_config import for_evaluation
from hw_asr.experiment.config_permissions import Named, Trust
from hw_asr.experiment.network import load_network
from hw_asr.exported.errors import ExportError
from hw_asr.runtime.optional import optional_import
from hw_asr.storage.secrets import secrets_in

BEGINNING = "\x08\x08\x12\x06hw_asr"
"""Of an exported file: the version of the format and the name of the program."""


def run(options: argparse.Namespace) -> int:
    """Write the model and print its size; `options` are those that `hw_asr.cli.export` declares.

    Raises UserError for everything the user can correct.
    """
    if options.output.suffix.lower() != ".onnx":
        raise ExportError(f"--output {options.output}: expected a name that ends with .onnx")
    check_file(options.output, "--output", (options.resume, options.config), begins=BEGINNING)
    with optional_import("export", "onnx", "onnx"):
        from hw_asr.exported.export import make_model, write_model
    checkpoint = load_checkpoint(options.resume)
    named = Named(options.config, trust=Trust(frozenset(options.allowed_modules), options.trust_config))
    found = for_evaluation(options.resume, named, lambda split: False, checkpoint)
    secrets = secrets_in(found.config.raw)
    if secrets:
        raise ConfigError([f'{fault}; put it into an environment variable and write "$NAME"' for fault in secrets])
    network = load_network(found.config, torch.device("cpu"), checkpoint["state_dict"], options.resume)
    network.model.eval()
    with torch.no_grad():
        size = write_model(make_model(network, found.config, options.int8), options.output)
    print(f"written: {options.output}, {size / 1e6:.1f} MB")
    return 0
