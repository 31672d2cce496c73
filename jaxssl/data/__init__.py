"""Where images come from (`load`) and how they become batches (`batches`). Neither needs TensorFlow unless asked to."""

from jaxssl.data.pipeline import ENGINES, batches, indices
from jaxssl.data.sources import SOURCES, SPLITS, Source, load

__all__ = ['ENGINES', 'SOURCES', 'SPLITS', 'Source', 'batches', 'indices', 'load']
