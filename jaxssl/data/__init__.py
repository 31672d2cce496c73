"""Where images, audio and paired views come from (`load`, `load_audio`, `load_paired`), and their `batches`.

`load_spectrograms` shows audio as images. None of them needs TensorFlow unless asked to.
"""

from jaxssl.data._source import Views
from jaxssl.data.audio import Clips, padded
from jaxssl.data.pipeline import batches, indices
from jaxssl.data.sources import (
  AUDIO_SOURCES,
  PAIRED_SOURCES,
  SOURCES,
  SPLITS,
  Source,
  load,
  load_audio,
  load_paired,
)
from jaxssl.data.spectrograms import load_spectrograms, spectrogram_images

__all__ = [
  'AUDIO_SOURCES', 'PAIRED_SOURCES', 'SOURCES', 'SPLITS', 'Clips', 'Source', 'Views', 'batches', 'indices',
  'load', 'load_audio', 'load_paired', 'load_spectrograms', 'padded', 'spectrogram_images',
]
