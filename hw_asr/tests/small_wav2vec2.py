"""The model Wav2Vec2 with small models added to `torchaudio.pipelines`, named by `module` in a config."""

from __future__ import annotations

import torchaudio

from hw_asr.pretrained.wav2vec2 import Wav2Vec2
from hw_asr.tests.test_wav2vec2 import small_bundles

__all__ = ["Wav2Vec2"]

for _name, _bundle in small_bundles().items():
    setattr(torchaudio.pipelines, _name, _bundle)
