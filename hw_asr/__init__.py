"""hw_asr: train and run CTC speech recognisers from one JSON file."""

import os

# Threads that wait for each other by spinning take the cores from whatever else runs (data workers, a neighbour on
# Kaggle): a step then takes up to 30 times as long. Sleeping costs nothing measurable on a quiet machine. The OpenMP
# runtime reads this when torch is first imported.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
