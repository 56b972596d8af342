"""A config to the objects of an experiment: components, validation, data of a split, network, training run."""
