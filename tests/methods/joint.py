"""What the tests of the joint-embedding methods share: small networks without batch norm, and views of vectors."""

import functools

import jax
import numpy as np
import optax

from jaxssl.models import MLP

B = 8
plain = functools.partial(MLP, hidden_bn=False, output_bn=False, output_bias=True)
ENCODER, HEAD, PREDICTOR = plain((5,)), plain((6, 4)), plain((7, 4))
OPTIMIZER = optax.sgd(0.5)


def views(seed, count=2):
  """`count` views [B, 7] each, alike for all."""
  content, noise = jax.random.split(jax.random.key(seed))
  x = jax.random.normal(content, (1, B, 7)) + 0.3 * jax.random.normal(noise, (count, B, 7))
  return tuple(x)


def unit(x):
  x = np.asarray(x, np.float64)
  return x / np.linalg.norm(x, axis=-1, keepdims=True)


def cosine(a, b):
  """The mean cosine of rows."""
  return np.mean(np.sum(unit(a) * unit(b), axis=1))


def followed(target, params, momentum):
  return jax.tree.map(lambda old, new: momentum * old + (1 - momentum) * new, target, params)


def assert_close(a, b, atol=1e-6):
  jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=atol), a, b)
