"""What the commands do, one module for each; their options are in `hw_asr.cli`."""
