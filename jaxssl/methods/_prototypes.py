"""Prototypes in training: frozen at first, and how they are used."""

import math
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl import core


def kept(new: dict[str, Any], old: dict[str, Any], frozen: jax.Array) -> dict[str, Any]:
  """Returns the new parameters, with the prototypes of the old ones where these are frozen."""
  prototypes = jax.tree.map(lambda new, old: jnp.where(frozen, old, new), new['prototypes'], old['prototypes'])
  return {**new, 'prototypes': prototypes}


def usage(codes: jax.Array) -> core.Metrics:
  """Returns how many prototypes assignments [n, k] use, and how undecided they are.

  `prototypes_used`: the exponential of the entropy of the mean assignment, from 1, the same one for all examples, to k.
  `assignment_entropy`: the mean entropy, in shares of log k: from 0, one prototype an example, to 1, all alike.
  """
  entropy = lambda p: -jnp.sum(p * jnp.log(jnp.maximum(p, 1e-30)), axis=-1)
  undecided = jnp.mean(entropy(codes)) / max(math.log(codes.shape[1]), 1e-9)
  return {'prototypes_used': jnp.exp(entropy(jnp.mean(codes, axis=0))), 'assignment_entropy': undecided}
