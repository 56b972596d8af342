"""One module per command: what train.py, test.py and the scripts do."""
