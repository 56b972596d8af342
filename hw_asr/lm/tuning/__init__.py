"""Choosing the weights of a language model on a dev set from cached log-probabilities."""
