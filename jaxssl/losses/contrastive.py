"""Contrastive losses: tell the other view of an example from the views of all others.

Every loss is a cross-entropy over candidates, computed in float32 (also from bfloat16, float16 or float64 inputs) and
returned as a float32 scalar. Where it runs decides what the candidates are:

* on plain arrays, the batch;
* inside `jax.vmap`, `jax.pmap` or `jax.shard_map` with `axis_name`, the batches of all devices of that axis. The loss
  is the mean over all of them, the same on every device; average the parameters' gradients with `lax.pmean` as usual;
* under a mesh set by `jax.set_mesh` with an axis 'data' (and no `axis_name`), the global batch: each device computes
  the loss of its own rows against everyone's.

Gradients reach the negatives of the other devices. `axis_name` may be a tuple of names.
"""

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _checks
from jaxssl.losses._collectives import AxisName, gather, gathered_index, global_mean, over_batch


def nt_xent(
    z1: ArrayLike,
    z2: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
) -> jax.Array:
  r"""NT-Xent, the normalized temperature-scaled cross-entropy of SimCLR.

  Of the 2n views, each is an anchor i whose positive p(i) is the other view of its example:

  .. math::
    \ell_i = -\log \frac{\exp(\mathrm{sim}(z_i, z_{p(i)}) / \tau)}
                        {\sum_{k \neq i} \exp(\mathrm{sim}(z_i, z_k) / \tau)},
    \qquad \mathrm{loss} = \frac{1}{2n} \sum_{i=1}^{2n} \ell_i

  sim is the cosine, in the denominator too. The denominator excludes k = i only: it has 2n - 1 terms, the positive
  among them. An encoder that maps everything to one point therefore scores log(2n - 1), the loss of chance.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.eye(3)  # Three examples at right angles, both views equal: log(1 + 4 exp(-2)).
    >>> print(f'{losses.nt_xent(z, z, temperature=0.5):.4f}')
    0.4327

  Args:
    z1: [n, d], embeddings of the first views, of any length.
    z2: [n, d], embeddings of the second views, in the same order.
    temperature: scalar, Python number or (traced, learnable) array.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: 'dense' (the [2n, 2n] scores are stored), or None to let the library choose.

  Returns:
    The mean over the 2n anchors of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    Chen et al., `A Simple Framework for Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, 2020, equation 1.
  """
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  temperature = _checks.scalar('temperature', temperature)
  _checks.implementation(implementation)
  split = {'z1': ops.l2_normalize(z1), 'z2': ops.l2_normalize(z2)}
  return over_batch(_nt_xent, split, {'temperature': temperature}, axis_name)


def info_nce(
    query: ArrayLike,
    key: ArrayLike,
    negatives: ArrayLike | None = None,
    *,
    temperature: ArrayLike = 0.1,
    normalize: bool = True,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
) -> jax.Array:
  r"""InfoNCE: the cross-entropy of finding each query's key among c candidates, itself and c - 1 negatives.

  .. math::
    \ell_i = -\log \frac{\exp(q_i \cdot k_i / \tau)}
                        {\exp(q_i \cdot k_i / \tau) + \sum_j \exp(q_i \cdot \bar k_{ij} / \tau)},
    \qquad \mathrm{loss} = \frac{1}{n} \sum_{i=1}^{n} \ell_i

  What is often written as InfoNCE, L(g) = E[1/n sum_i log(c g_ii / (g_ii + sum_j g_ij))] with g = exp(score), is the
  lower bound on the mutual information, to be maximised. This is the loss, to be minimised: log c - L(g). Equal scores
  give log c.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> query = jnp.eye(3)
    >>> print(f'{losses.info_nce(query, query, temperature=0.5):.4f}')  # log(1 + 2 exp(-2))
    0.2395
    >>> bank = jnp.zeros([7, 3])  # Seven negatives that resemble nothing: log(1 + 7 exp(-2)).
    >>> print(f'{losses.info_nce(query, query, bank, temperature=0.5):.4f}')
    0.6665

  Args:
    query: [n, d].
    key: [n, d], the positive of each query.
    negatives: None: the other keys of the global batch. [m, d]: a bank that all queries share; it is not gathered, so
      every device must hold the same. [n, m, d]: each query's own, on the query's device.
    temperature: scalar, Python number or (traced, learnable) array.
    normalize: whether to compare by cosine; otherwise by the inner product as it is.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: 'dense' (the scores are stored), or None to let the library choose.

  Returns:
    The mean over the n queries of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018, equation 4.
  """
  query, key = _checks.embeddings(query=query, key=key)
  temperature = _checks.scalar('temperature', temperature)
  _checks.implementation(implementation)
  arrays = {'query': query, 'key': key}
  if negatives is not None:
    arrays['negatives'] = _checks.negatives(negatives, *query.shape)
  if normalize:
    arrays = {name: ops.l2_normalize(x) for name, x in arrays.items()}
  whole = {'temperature': temperature}
  if negatives is not None and arrays['negatives'].ndim == 2:
    whole['negatives'] = arrays.pop('negatives')
  return over_batch(_info_nce, arrays, whole, axis_name)


def symmetric_info_nce(
    a: ArrayLike,
    b: ArrayLike,
    *,
    temperature: ArrayLike = 0.07,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
) -> jax.Array:
  r"""The loss of CLIP: InfoNCE on cosines in both directions, a finding its b and b finding its a.

  .. math::
    \mathrm{loss} = \tfrac{1}{2} \left(\mathrm{InfoNCE}(a, b) + \mathrm{InfoNCE}(b, a)\right)

  Unlike in NT-Xent, candidates come from the other modality (or view) only: n of them. Chance is log n.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> image, text = jnp.eye(3), jnp.eye(3)
    >>> print(f'{losses.symmetric_info_nce(image, text, temperature=0.5):.4f}')  # log(1 + 2 exp(-2))
    0.2395

  Args:
    a: [n, d], embeddings of one modality, of any length.
    b: [n, d], embeddings of the other, in the same order.
    temperature: scalar, Python number or (traced, learnable) array.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: 'dense' (the [n, n] scores are stored), or None to let the library choose.

  Returns:
    The mean over the n pairs of the global batch and the two directions, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    Radford et al., `Learning Transferable Visual Models From Natural Language Supervision
    <https://arxiv.org/abs/2103.00020>`_, 2021, figure 3.
  """
  a, b = _checks.embeddings(a=a, b=b)
  temperature = _checks.scalar('temperature', temperature)
  _checks.implementation(implementation)
  split = {'a': ops.l2_normalize(a), 'b': ops.l2_normalize(b)}
  return over_batch(_symmetric_info_nce, split, {'temperature': temperature}, axis_name)


def contrastive_accuracy(z1: ArrayLike, z2: ArrayLike, *, axis_name: AxisName | None = None) -> jax.Array:
  """How often an anchor's positive is its nearest neighbour among the 2n - 1 other views, by cosine.

  A tie is a miss, so that an encoder that maps everything to one point scores 0.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z1 = jnp.array([[1.0, 0.0], [0.0, 1.0]])
    >>> z2 = jnp.array([[1.0, 0.1], [1.0, -0.2]])  # The second example's second view has gone astray.
    >>> print(losses.contrastive_accuracy(z1, z2))
    0.5

  Args:
    z1: [n, d], embeddings of the first views, of any length.
    z2: [n, d], embeddings of the second views, in the same order.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The fraction of the 2n anchors of the global batch, a float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.
  """
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  return over_batch(_contrastive_accuracy, {'z1': ops.l2_normalize(z1), 'z2': ops.l2_normalize(z2)}, {}, axis_name)


def _nt_xent(z1, z2, temperature, axis_name):
  scores, positive = _view_scores(z1, z2, temperature, axis_name)
  return global_mean(optax.softmax_cross_entropy_with_integer_labels(scores, positive), axis_name)


def _contrastive_accuracy(z1, z2, axis_name):
  scores, positive = _view_scores(z1, z2, 1.0, axis_name)
  as_near = scores >= jnp.take_along_axis(scores, positive[:, None], axis=1)
  return global_mean((jnp.sum(as_near, axis=1) == 1).astype(jnp.float32), axis_name)


def _info_nce(query, key, temperature, axis_name, negatives=None):
  if negatives is None:
    scores, positive = _inner_products(query, gather(key, axis_name)), gathered_index(len(query), axis_name)
  else:
    scores = jnp.concatenate([_inner_products(query, key[:, None]), _inner_products(query, negatives)], axis=1)
    positive = jnp.zeros(len(query), jnp.int32)
  return global_mean(optax.softmax_cross_entropy_with_integer_labels(scores / temperature, positive), axis_name)


def _symmetric_info_nce(a, b, temperature, axis_name):
  return (_info_nce(a, b, temperature, axis_name) + _info_nce(b, a, temperature, axis_name)) / 2


def _view_scores(z1, z2, temperature, axis_name):
  """Returns scores [2n, 2N] of this device's views against all N examples', and each row's positive [2n].

  A view's score against itself is minus infinity, set after the division by the temperature: its gradient stays 0.
  """
  z = jnp.concatenate([z1, z2])
  own = gathered_index(len(z), axis_name)
  scores = _inner_products(z, gather(z, axis_name)) / temperature
  is_own = own[:, None] == jnp.arange(scores.shape[1])[None, :]
  return jnp.where(is_own, -jnp.inf, scores), jnp.roll(own, len(z1))


def _inner_products(x, y):
  """Returns the inner products [n, m] of x [n, d] with y, [m, d] or [n, m, d].

  In full float32: the bfloat16 passes of TPUs move a cosine by up to 2e-3, the TF32 of GPUs by 2e-4 (d = 128), which at
  temperature 0.01 is 0.2 and 0.02 in a score.
  """
  return jnp.einsum('nd,nmd->nm' if y.ndim == 3 else 'nd,md->nm', x, y, precision=lax.Precision.HIGHEST)
