"""TensorFlow, imported when first needed and kept off the accelerators."""

import contextlib
import functools
import os
from typing import Any

from jaxssl import extras


@functools.cache
def tensorflow() -> Any:
  """The module `tensorflow`, with no GPU: JAX has them all.

  Raises:
    ImportError: where TensorFlow is not installed, with the extra that brings it.
  """
  os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
  os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # Nothing here needs it, and it announces itself at length.
  try:
    import tensorflow as tf
  except ImportError as error:
    raise ImportError(f'this needs TensorFlow: {extras.command("data")} ({error})') from error
  with contextlib.suppress(RuntimeError):  # A caller has used TensorFlow already: its devices stay as they are.
    tf.config.set_visible_devices([], 'GPU')
  return tf
