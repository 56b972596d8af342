"""Fuzzing of the parsers that read files from strangers.

A target is a module `target_NAME.py` here with a constant `TARGET`. The suite feeds each a few hundred mutated inputs;
`python -m hw_asr.tests.fuzz NAME --minutes N` runs for N minutes.
"""
