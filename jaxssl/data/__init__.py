"""Where images and audio come from (`load`, `load_audio`) and how they become batches (`batches`).

None of them needs TensorFlow unless asked to.
"""

from jaxssl.data.audio import Clips, padded
from jaxssl.data.pipeline import ENGINES, batches, indices
from jaxssl.data.sources import AUDIO_SOURCES, SOURCES, SPLITS, Source, load, load_audio

__all__ = [
  'AUDIO_SOURCES', 'ENGINES', 'SOURCES', 'SPLITS', 'Clips', 'Source', 'batches', 'indices', 'load', 'load_audio',
  'padded',
]
