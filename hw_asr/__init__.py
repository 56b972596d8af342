"""hw_asr: train and run CTC speech recognisers from one JSON file."""
