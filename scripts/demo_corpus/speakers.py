"""Speakers of the demo corpus: espeak-ng variants, accents, rates and pitches."""

from __future__ import annotations

import random
from typing import NamedTuple

ACCENTS = (
    "en-us", "en-us", "en-us", "en-us", "en-us-nyc", "en-gb", "en-gb", "en-gb-x-rp", "en-gb-scotland",
    "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029",
)  # fmt: skip
"""Each accent as often as it should be drawn."""

VARIANTS: dict[str, tuple[str, ...]] = {
    "train": (
        "Alex", "Andy", "Annie", "Denis", "Diogo", "Gene", "Gene2", "Lee", "Mario", "Mike", "Nguyen", "antonio", "f2",
        "f4", "f5", "linda", "belinda", "m1", "m2", "m4", "m5", "m7", "max", "pedro", "quincy", "robert", "steph",
        "steph2", "victor", "travis",
    ),
    "dev": ("Michael", "f1", "grandpa", "john"),
    "test": ("m3", "m6", "f3", "Andrea", "paul", "aunty"),
}  # fmt: skip
"""Voices of each split; related ones (Gene and Gene2, linda and belinda) are in one. No whispers, robots or mbrola."""

RATES = (165, 195)
"""Range of the rate, words per minute."""
PITCHES = (35, 65)
"""In espeak-ng's own units, 0 to 99, around the variant's pitch range."""


class Speaker(NamedTuple):
    """A voice; `id` names its settings."""

    variant: str
    accent: str
    rate: int
    pitch: int

    @property
    def id(self) -> str:
        """Variant, accent, rate and pitch, as in `Gene-en-us-170-52`."""
        return f"{self.variant}-{self.accent}-{self.rate}-{self.pitch}"

    @property
    def options(self) -> list[str]:
        """Command line options of espeak-ng."""
        return ["-v", f"{self.accent}+{self.variant}", "-s", str(self.rate), "-p", str(self.pitch)]


def draw_speakers(split: str, num_speakers: int, generator: random.Random) -> list[Speaker]:
    """Return distinct speakers; the counts of the split's variants differ by at most one."""
    variants = list(VARIANTS[split])
    speakers: dict[str, Speaker] = {}
    while len(speakers) < num_speakers:
        speaker = Speaker(
            variants[len(speakers) % len(variants)],
            generator.choice(ACCENTS),
            generator.randint(*RATES),
            generator.randint(*PITCHES),
        )
        speakers[speaker.id] = speaker
    return list(speakers.values())
