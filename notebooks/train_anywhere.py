# %% [markdown]
# # Train on Kaggle or Colab
#
# The machine may vanish at any minute. This notebook can be run again and again, on a new machine too: `--auto-resume` continues the run from the storage, or starts it.
#
# 1. Open it on Kaggle or Colab, with a GPU or without, and run all cells.
# 2. Replace the demo corpus by your own in the cell "Data and config".

# %% [markdown]
# ## Install
#
# In a clone nothing is installed. Elsewhere `ADDRESS` is cloned and `pip install .` keeps the torch that the machine brings; a clone of an earlier session is used again.

# %%
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

ADDRESS = os.environ.get("HW_ASR_ADDRESS", "ADDRESS-OF-THIS-REPOSITORY")
here = Path.cwd().resolve()
CLONE = here / "hw_asr_clone"
ROOT = next((folder for folder in (here, *here.parents) if (folder / "demo" / "corpus").is_dir()), CLONE)
if ROOT == CLONE:
    if not CLONE.is_dir():
        subprocess.run(["git", "clone", "--depth", "1", ADDRESS, CLONE.name], check=True)
    if not all(map(importlib.util.find_spec, ("hw_asr", "pydrive2", "matplotlib"))):  # the clone may be older than this machine
        subprocess.run([sys.executable, "-m", "pip", "install", "-q", f"{ROOT}[gdrive,plots]"], check=True)
sys.path.insert(0, str(ROOT))
WORK = Path(os.environ.get("HW_ASR_WORK", here / "hw_asr_work"))
WORK.mkdir(parents=True, exist_ok=True)
print("installed;", "working directory:", WORK.name)


def command(*arguments):
    """Run a command of hw_asr; print its lines as they come."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hw_asr", *map(str, arguments)],
        cwd=WORK, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )
    for line in process.stdout:
        print(line.rstrip())
    if process.wait():
        raise RuntimeError(f"the command ended with {process.returncode}")


# %% [markdown]
# ## Storage: what survives the machine
#
# | machine | storage | to prepare |
# |---|---|---|
# | Colab | a folder on your Google Drive, mounted as a directory | nothing; the cell asks for permission |
# | Kaggle | a folder on Google Drive through its interface | two secrets (*Add-ons, Secrets*): `GDRIVE_FOLDER_ID` and `GDRIVE_CLIENT_SECRETS`, `GDRIVE_TOKEN` with the contents of `client_secrets.json` and `client_secrets.token.json` ([how to get them](../docs/gdrive_storage.md)) |
# | elsewhere | a directory | nothing |

# %%
def colab_storage():
    from google.colab import drive

    drive.mount("/content/drive")
    folder = Path("/content/drive/MyDrive/hw_asr")
    folder.mkdir(exist_ok=True)
    return {"type": "DirectoryStorage", "args": {"path": str(folder)}}


def kaggle_storage():
    from kaggle_secrets import UserSecretsClient

    secrets = UserSecretsClient()
    folder = Path.home() / ".config" / "hw_asr"  # outside of /kaggle/working, which is published with the notebook
    folder.mkdir(parents=True, exist_ok=True)
    for name, file in (("GDRIVE_CLIENT_SECRETS", "client_secrets.json"), ("GDRIVE_TOKEN", "client_secrets.token.json")):
        path = folder / file
        path.touch(mode=0o600)
        path.write_text(secrets.get_secret(name))
    args = {"storage_folder_id": secrets.get_secret("GDRIVE_FOLDER_ID"), "client_credentials_filepath": str(folder / "client_secrets.json")}
    return {"type": "GDriveStorage", "args": args}


def local_storage():
    folder = WORK / "storage"
    folder.mkdir(exist_ok=True)
    return {"type": "DirectoryStorage", "args": {"path": "storage"}}


if "COLAB_GPU" in os.environ:
    storage = colab_storage()
elif "KAGGLE_KERNEL_RUN_TYPE" in os.environ:
    storage = kaggle_storage()
else:
    storage = local_storage()
print("storage:", storage["type"])

# %% [markdown]
# ## Data and config
#
# The demo corpus is part of the repository. Your own: manifests with one `{"path": ..., "text": ...}` per line; on Kaggle below `/kaggle/input`, on Colab on the mounted Drive.

# %%
CORPUS = Path(os.path.relpath(ROOT / "demo" / "corpus", WORK))
config = json.loads((ROOT / "hw_asr" / "configs" / "demo.json").read_text())
config["name"] = "notebook"
config["data"].pop("root_dir", None)
for split in ("train", "dev"):
    config["data"][split]["datasets"] = [{"type": "CustomAudioDataset", "args": {"data": str(CORPUS / f"{split}.jsonl")}}]
config["trainer"].update({"wandb_run": "first", "external_storage": storage, "export_minutes": 5, "save_minutes": 2})
if "HW_ASR_NOTEBOOK_SMALL" in os.environ:  # how the tests run this notebook
    config["trainer"].update({"epochs": 1, "len_epoch": 3, "log_step": 1, "heartbeat_seconds": 0.2})
    for split in ("train", "dev"):
        config["data"][split]["datasets"][0]["args"]["limit"] = 24
(WORK / "config.json").write_text(json.dumps(config, indent=2))
command("train", "-c", "config.json", "--check", "--auto-resume")

# %% [markdown]
# ## Train
#
# Run this cell again whenever the machine was lost.

# %%
command("train", "-c", "config.json", "--auto-resume")

# %% [markdown]
# ## Curves

# %%
import base64
import io

from matplotlib.figure import Figure

lines = (WORK / "saved/log/notebook/first/metrics.jsonl").read_text().splitlines()
records = [json.loads(line) for line in lines]


class Picture:
    """A plot as PNG."""

    def __init__(self, figure):
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=80)
        self.png = file.getvalue()

    def _repr_png_(self):
        return self.png


figure = Figure(figsize=(9, 3), layout="constrained")
for axes, names in zip(figure.subplots(1, 2), (("train_loss", "dev_loss"), ("train_CER (argmax)", "dev_CER (argmax)"))):
    for name in names:
        points = [(record["step"], record[name]) for record in records if record.get(name) is not None]
        axes.plot(*zip(*points, strict=True), marker=".", label=name)
    axes.set_xlabel("step")
    axes.legend()
display(Picture(figure))

# %% [markdown]
# ## Evaluate on sentences and speakers that are not in the training data

# %%
(WORK / "test.json").write_text(json.dumps({
    "data": {"test": {"batch_size": 8, "datasets": [{"type": "CustomAudioDataset", "args": {
        "data": str(CORPUS / "test.jsonl"), **({"limit": 6} if "HW_ASR_NOTEBOOK_SMALL" in os.environ else {})}}]}},
}))
command("test", "-r", "saved/models/notebook/first/model_best.pth", "-c", "test.json", "-o", "output.json", "--overwrite")

# %% [markdown]
# ## Listen

# %%
import html

import soundfile


class Transcript:
    """A recording with its reference and transcript, and a player."""

    def __init__(self, entry):
        samples, rate = soundfile.read(WORK / entry["audio_path"], dtype="float32")
        file = io.BytesIO()
        soundfile.write(file, samples, rate, format="MP3")
        self.sound = base64.b64encode(file.getvalue()).decode()
        self.entry = entry

    def _repr_html_(self):
        best = self.entry["pred_text_beam_search"][0][0] if self.entry["pred_text_beam_search"] else ""
        player = f'<audio controls src="data:audio/mpeg;base64,{self.sound}"></audio>'
        return f"<p>{player}<br>reference: {html.escape(self.entry['ground_truth'])}<br>transcript: {html.escape(best)}</p>"


for entry in json.loads((WORK / "output.json").read_text())[:3]:
    display(Transcript(entry))

# %% [markdown]
# ## Download
#
# The checkpoint to keep is `saved/models/notebook/first/model_best.pth`. On another machine: `python -m hw_asr models download -c config.json --run notebook:first best`, or, from Python:

# %%
import hw_asr

recogniser = hw_asr.load(WORK / "saved/models/notebook/first/model_best.pth", decoder="beam_search")
entry = json.loads((WORK / CORPUS / "test.jsonl").read_text().splitlines()[0])
print(recogniser.transcribe(WORK / CORPUS / entry["path"]).text or "(no text yet)")
