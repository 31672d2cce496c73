"""A run compiles at its first step, and never again."""

import json
import os
import sys

import jax
import pytest

from jaxssl.cli.train import train
from jaxssl.training.logging import MetricLogger

sys.path.insert(0, os.path.join(os.path.dirname(__file__), '..', 'cli'))
from tiny_config import get_config


@pytest.fixture
def compilations():
  """A list that grows by one with every compilation."""
  found = []

  def note(event, duration, **details):
    if event == '/jax/core/compile/backend_compile_duration':
      found.append(duration)

  jax.monitoring.register_event_duration_secs_listener(note)
  yield found
  jax.monitoring.unregister_event_duration_listener(note)


def test_nothing_is_compiled_after_the_first_rows(tmp_path, monkeypatch, compilations):
  counts, write = {}, MetricLogger.write

  def counting(self, step, metrics):
    counts[step] = len(compilations)
    write(self, step, metrics)

  monkeypatch.setattr(MetricLogger, 'write', counting)
  config = get_config()
  config.mesh.data, config.steps, config.logging.every = 8, 24, 1
  train(config, str(tmp_path / 'run'))
  assert len(counts) == 24 and counts[1] > 0
  later = {step: count - counts[1] for step, count in counts.items() if step > config.checkpoint.every}
  # Logging runs at step 1, saving at step 4 for the first time; whatever they compile is there after that.
  assert len(set(later.values())) == 1, json.dumps(counts)
