"""The MFCC baseline: statistics over what is real, and what they know of the real spoken digits."""

import os
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import data
from jaxssl.evaluation import linear_probe, mfcc


def test_statistics_are_numpys_over_the_mask():
  features = np.random.default_rng(0).normal(3, 2, (4, 9, 5)).astype(np.float32)
  lengths = [9, 4, 1, 0]
  actual = mfcc.statistics(jnp.asarray(features), jnp.arange(9)[None] < jnp.asarray(lengths)[:, None])
  for row, each, length in zip(actual, features, lengths, strict=True):
    expected = np.concatenate([each[:length].mean(0), each[:length].std(0)]) if length else np.zeros(10)
    np.testing.assert_allclose(row, expected, atol=1e-5)
  np.testing.assert_allclose(mfcc.statistics(jnp.asarray(features)), mfcc.statistics(
    jnp.asarray(features), jnp.ones((4, 9), bool)), atol=0)


def test_padding_does_not_change_the_encoding():
  wave = np.random.default_rng(0).normal(size=(1, 1000)).astype(np.float32)
  encode = mfcc.encoder(8000)
  long = encode(jnp.asarray(np.pad(wave, ((0, 0), (0, 500)))), jnp.arange(1500)[None] < 1000)
  assert long.shape == (1, 26)
  np.testing.assert_allclose(long, encode(jnp.asarray(wave), jnp.ones((1, 1000), bool)), atol=1e-3)


def test_real_spoken_digits():
  """Logistic regression, takes 0 to 4 the test set: .94 of the digits, all but a few of the speakers."""
  root = os.environ.get('TFDS_DATA_DIR', os.path.expanduser('~/tensorflow_datasets'))
  if not (pathlib.Path(root) / 'spoken_digit').is_dir():
    pytest.skip(f'spoken_digit is not prepared in {root}')
  pytest.importorskip('tensorflow_datasets')
  encode, features, parts = jax.jit(mfcc.encoder(8000)), [], []
  for split in ('train', 'test'):
    source = data.load_audio('tfds', 'spoken_digit', None, split, 8000)
    rows = np.array_split(np.arange(len(source)), len(source) // 100)
    features.append(np.concatenate([encode(*data.padded(source.inputs, each, 20_000)) for each in rows]))
    parts.append(source)
  train, test = parts
  digits, _ = linear_probe.accuracy(features[0], train.labels, features[1], test.labels, l2=1e-3)
  speakers, _ = linear_probe.accuracy(features[0], train.groups, features[1], test.groups, l2=1e-3)
  assert 0.92 <= digits <= 0.96 and speakers >= 0.95
