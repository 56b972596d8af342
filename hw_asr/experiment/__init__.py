"""Builds an experiment from a config: validation, components, network, data, training run."""
