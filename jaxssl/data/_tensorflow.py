"""TensorFlow, imported when first needed and kept off the accelerators."""

import contextlib
import functools
import os
from typing import Any


@functools.cache
def tensorflow() -> Any:
  """The module `tensorflow`, with no GPU: JAX has them all.

  Raises:
    ImportError: where TensorFlow is not installed, with the extra that brings it.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  try:
    import tensorflow as tf
  except ImportError as error:
    raise ImportError(f'this needs TensorFlow: pip install "jaxssl[data]" ({error})') from error
  with contextlib.suppress(RuntimeError):  # A caller has used TensorFlow already: its devices stay as they are.
    tf.config.set_visible_devices([], 'GPU')
  return tf
