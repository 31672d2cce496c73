"""The metric beside the losses of two views or modalities; `axis_name` as in `jaxssl.losses.contrastive`."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _checks, _dense
from jaxssl.losses._collectives import AxisName, gather, gathered_index, global_mean, over_batch


def retrieval_accuracy(a: ArrayLike, b: ArrayLike, *, axis_name: AxisName | None = None) -> jax.Array:
  """How often the nearest b of an a is its own, and the nearest a of a b, by cosine: recall at 1, both ways.

  Unlike in `contrastive_accuracy`, candidates come from the other side only: what InfoNCE, CLIP's loss and CMC train. A
  tie is a miss, so that an encoder that maps everything to one point scores 0.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> a = jnp.eye(3)
    >>> print(f'{losses.retrieval_accuracy(a, a.at[2].set(jnp.array([0.0, 1.0, 0.9]))):.4f}')  # The last looks like 1.
    0.8333

  Args:
    a: [n, d], embeddings of one view or modality, of any length.
    b: [n, d], embeddings of the other, in the same order.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The fraction of the 2n rows of the global batch, a float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.
  """
  a, b = _checks.embeddings(a=a, b=b)
  return over_batch(_retrieval_accuracy, {'a': ops.l2_normalize(a), 'b': ops.l2_normalize(b)}, {}, axis_name)


def _retrieval_accuracy(a, b, axis_name):
  own = gathered_index(len(a), axis_name)

  def hits(query, key):
    scores = _dense.inner_products(query, gather(key, axis_name))
    others = own[:, None] != jnp.arange(scores.shape[1])[None, :]
    # A rival as near up to float32 rounding ties.
    nearest = jnp.sum(query * key, axis=1) - 1e-6
    return ~jnp.any(others & ~(scores < nearest[:, None]), axis=1)

  return global_mean(jnp.stack([hits(a, b), hits(b, a)]).astype(jnp.float32), axis_name)
