# %% [markdown]
# # Augmentations, seen and heard
#
# Each augmentation of `hw_asr` on one utterance of the demo corpus: waveform and spectrogram before (left) and after (right), and a player.
# In training they are listed in the config, run in that order on whole batches, and change the train split only:
#
# ```json
# "augmentations": {
#     "wave": [{"type": "Gain", "args": {"p": 0.3}}, {"type": "PitchShift", "args": {"p": 0.3}}],
#     "spectrogram": [{"type": "SpecAugment", "args": {"time_mask_ratio": 0.1}}]
# }
# ```
#
# `p` is the probability that an utterance is changed; here it is 1. What else is random is narrowed down, so that the effect is plain.

# %%
import base64
import io
import json
import sys
from pathlib import Path

ROOT = next(folder for folder in (Path.cwd(), *Path.cwd().parents) if (folder / "demo" / "corpus").is_dir())
sys.path.insert(0, str(ROOT))

import soundfile
import torch
from matplotlib.figure import Figure

from hw_asr import augmentations as aug

CORPUS = ROOT / "demo" / "corpus"
entry = json.loads((CORPUS / "test.jsonl").read_text().splitlines()[6])
samples, SAMPLE_RATE = soundfile.read(CORPUS / entry["path"], dtype="float32")
samples = torch.from_numpy(samples)
N_FFT, HOP = 400, 100
window = torch.hann_window(N_FFT)


class Picture:
    """A drawing as PNG."""

    def __init__(self, figure):
        file = io.BytesIO()
        figure.savefig(file, format="png")
        self.png = file.getvalue()

    def _repr_png_(self):
        return self.png


class Player:
    """Samples as an audio element of a web page."""

    def __init__(self, title, samples):
        file = io.BytesIO()
        soundfile.write(file, samples.clamp(-1, 1).numpy(), SAMPLE_RATE, format="MP3")
        self.sound = base64.b64encode(file.getvalue()).decode()
        self.title = title

    def _repr_html_(self):
        return f'{self.title}: <audio controls src="data:audio/mpeg;base64,{self.sound}"></audio>'


def transform(samples):
    return torch.stft(samples, N_FFT, HOP, window=window, return_complex=True)


def log_spectrogram(samples):
    return torch.log(transform(samples).abs() + 1e-3)


def show(after, before=samples):
    """Draw two waveforms and their spectrograms, and add a player for the second."""
    figure = Figure(figsize=(11, 4), layout="constrained", dpi=72)
    axes = figure.subplots(2, 2, sharey="row", sharex=True)
    limit = 1.05 * max(float(before.abs().max()), float(after.abs().max()))
    for column, (title, wave) in enumerate((("before", before), ("after", after))):
        seconds = len(wave) / SAMPLE_RATE
        axes[0, column].plot((torch.arange(len(wave)) / SAMPLE_RATE).numpy(), wave.numpy(), linewidth=0.5)
        axes[0, column].set(title=f"{title}, {seconds:.2f} s", ylim=(-limit, limit))
        axes[1, column].imshow(
            log_spectrogram(wave).numpy(), origin="lower", aspect="auto", vmin=-7, vmax=3, cmap="magma",
            extent=(0, seconds, 0, SAMPLE_RATE / 2000),
        )
        axes[1, column].set(xlabel="seconds")
    axes[0, 0].set(xlim=(0, max(len(before), len(after)) / SAMPLE_RATE), ylabel="amplitude")
    axes[1, 0].set(ylabel="kHz")
    display(Picture(figure), Player("after", after))


def augmented(augmentation, seed=0):
    """Augment a batch of one waveform."""
    batch, lengths = samples[None], torch.tensor([len(samples)])
    batch, lengths = augmentation(batch, lengths, torch.Generator().manual_seed(seed))
    return batch[0, : int(lengths)]


print(entry["text"], "|", entry["speaker"])
display(Player("before", samples))

# %% [markdown]
# ## Gain
#
# Louder or softer by a number of decibels, drawn between two bounds; nothing is clipped. Here −12 dB.

# %%
show(augmented(aug.Gain(p=1.0, min_gain_in_db=-12, max_gain_in_db=-12)))

# %% [markdown]
# ## PitchShift
#
# Raises or lowers the pitch and the formants by a number of semitones; the duration stays. Here +4: a smaller speaker.

# %%
higher = aug.PitchShift(p=1.0, min_transpose_semitones=4, max_transpose_semitones=4, sample_rate=SAMPLE_RATE)
show(augmented(higher))

# %% [markdown]
# And −4: a larger one.

# %%
deeper = aug.PitchShift(p=1.0, min_transpose_semitones=-4, max_transpose_semitones=-4, sample_rate=SAMPLE_RATE)
show(augmented(deeper))

# %% [markdown]
# ## TimeStretching
#
# Changes the duration at the same pitch. Here 0.8 times as fast: the harmonics lie where they lay.

# %%
show(augmented(aug.TimeStretching(p=1.0, min_rate=0.8, max_rate=0.8, sample_rate=SAMPLE_RATE)))

# %% [markdown]
# ## SpeedPerturbation
#
# Plays the recording faster or slower, as a tape would: duration and pitch change together. One of the factors is drawn; here 1.2.

# %%
show(augmented(aug.SpeedPerturbation(p=1.0, factors=(1.2,))))

# %% [markdown]
# ## RandomNoise
#
# White noise by signal-to-noise ratio, so that soft and loud recordings are disturbed alike. Here 10 dB.

# %%
show(augmented(aug.RandomNoise(p=1.0, min_snr_in_db=10, max_snr_in_db=10)))

# %% [markdown]
# With `noise_dir` a random stretch of a random recording is added instead: here another speaker of the corpus, 6 dB below.

# %%
babble = aug.RandomNoise(p=1.0, min_snr_in_db=6, max_snr_in_db=6, noise_dir=CORPUS / "dev", sample_rate=SAMPLE_RATE)
show(augmented(babble))

# %% [markdown]
# ## Pauses
#
# Adds a pause before and after the utterance, with background noise and clicks. Here half a second each.

# %%
show(augmented(aug.Pauses(p=1.0, min_seconds=0.5, max_seconds=0.5, clicks_per_second=4, sample_rate=SAMPLE_RATE)))

# %% [markdown]
# ## RoomImpulseResponse
#
# Puts the speaker into a room. Here a made-up one that takes 0.5 s to fall silent; `ir_dir` takes recorded ones.

# %%
room = aug.RoomImpulseResponse(p=1.0, min_rt60=0.5, max_rt60=0.5, min_drr_in_db=3, max_drr_in_db=3)
show(augmented(room))

# %% [markdown]
# ## FrequencyMasking
#
# Hides some adjacent frequency bins behind their own mean over the utterance. Masks work on the features; to be heard, they are applied here to a spectrogram that can be turned back into sound.

# %%
def masked(augmentation, seed=0):
    """Augment a spectrogram; turn it into sound with the phase of the original, to hear what is left."""
    spectrum = transform(samples)
    features = log_spectrogram(samples)[None]
    features, _ = augmentation(features, torch.tensor([features.shape[2]]), torch.Generator().manual_seed(seed))
    spectrum = torch.polar((features[0].exp() - 1e-3).clamp(min=0), spectrum.angle())
    return torch.istft(spectrum, N_FFT, HOP, window=window, length=len(samples))


show(masked(aug.FrequencyMasking(p=1.0, freq_mask_param=60), seed=3))

# %% [markdown]
# ## TimeMasking
#
# Hides some adjacent frames in the same way, never more than half of the utterance.

# %%
show(masked(aug.TimeMasking(p=1.0, time_mask_param=80), seed=4))

# %% [markdown]
# ## SpecAugment
#
# Several masks of both kinds; the width of those in time is also bounded by a share of the utterance.

# %%
masks = aug.SpecAugment(freq_mask_param=40, time_mask_param=60, time_mask_ratio=0.15)
show(masked(masks, seed=2))
