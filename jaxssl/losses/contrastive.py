"""Contrastive losses: tell the other view of an example from the views of all others.

Every loss is a cross-entropy over candidates, computed in float32 (also from bfloat16, float16 or float64 inputs) and
returned as a float32 scalar. Where it runs decides what the candidates are:

* on plain arrays, the batch;
* inside `jax.vmap`, `jax.pmap` or `jax.shard_map` with `axis_name`, the batches of all devices of that axis. The loss
  is the mean over all of them, the same on every device; average the parameters' gradients with `lax.pmean` as usual;
* under a mesh set by `jax.set_mesh` with an axis 'data' (and no `axis_name`), the global batch: each device computes
  the loss of its own rows against everyone's.

Gradients reach the negatives of the other devices. `axis_name` may be a tuple of names.

How it is computed is `implementation`; all but one give the same value and gradients, up to float32 rounding:

* 'dense' stores the scores of this device's rows with all candidates: fastest for small batches, memory in n^2;
* 'tiled' never holds more than a tile of them, memory in n; on several devices it gathers the others' embeddings;
* 'ring', on several devices, passes embeddings from one to the next instead, and each tile swept serves both sides;
* 'pallas_tpu' is 'tiled' as kernels for TPUs (NT-Xent, InfoNCE, CLIP): experimental, compiled for a TPU v5e but not yet
  run on one, never chosen by itself;
* 'mosaic_gpu' is 'tiled' as kernels for Hopper GPUs (the same losses, d up to 256): experimental, compiled for an H100
  but not yet run on one, never chosen by itself. It takes products of bfloat16 numbers, so that scores err by about
  1 / 256 of 1 / temperature: at low temperatures, what an encoder has learnt well leaves a gradient of that size;
* None chooses: 'dense' where the scores are few, else 'ring' on several devices and 'tiled' on one.

All but 'dense' have gradients in reverse mode only (`jax.grad`, not `jax.jvp`).
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _anchors, _checks, _dense, _pairs
from jaxssl.losses._choice import choose
from jaxssl.losses._collectives import AxisName, devices, global_mean, over_batch, vary


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
    implementation: see this module's introduction.

  Returns:
    The mean over the 2n anchors of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    Chen et al., `A Simple Framework for Contrastive Learning of Visual Representations
    <https://arxiv.org/abs/2002.05709>`_, 2020, equation 1.
  """
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  temperature = _checks.temperature(temperature)
  _checks.implementation(implementation)
  split = {'z1': ops.l2_normalize(z1), 'z2': ops.l2_normalize(z2)}
  kernel = functools.partial(_nt_xent, implementation=implementation)
  return over_batch(kernel, split, {'temperature': temperature}, axis_name)


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
    implementation: see this module's introduction; each query's own negatives are always 'dense', since their scores
      are fewer than they.

  Returns:
    The mean over the n queries of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018, equation 4.
  """
  query, key = _checks.embeddings(query=query, key=key)
  temperature = _checks.temperature(temperature)
  _checks.flag('normalize', normalize)
  _checks.implementation(implementation)
  arrays = {'query': query, 'key': key}
  if negatives is not None:
    arrays['negatives'] = _checks.negatives(negatives, *query.shape)
  if normalize:
    arrays = {name: ops.l2_normalize(x) for name, x in arrays.items()}
  whole = {'temperature': temperature}
  if negatives is not None and arrays['negatives'].ndim == 2:
    whole['negatives'] = arrays.pop('negatives')
  kernel = functools.partial(_info_nce, implementation=implementation, unit=normalize)
  return over_batch(kernel, arrays, whole, axis_name)


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
    implementation: see this module's introduction.

  Returns:
    The mean over the n pairs of the global batch and the two directions, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    Radford et al., `Learning Transferable Visual Models From Natural Language Supervision
    <https://arxiv.org/abs/2103.00020>`_, 2021, figure 3.
  """
  a, b = _checks.embeddings(a=a, b=b)
  temperature = _checks.temperature(temperature)
  _checks.implementation(implementation)
  split = {'a': ops.l2_normalize(a), 'b': ops.l2_normalize(b)}
  kernel = functools.partial(_symmetric_info_nce, implementation=implementation)
  return over_batch(kernel, split, {'temperature': temperature}, axis_name)


def siglip(
    a: ArrayLike,
    b: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    bias: ArrayLike = -10.0,
    axis_name: AxisName | None = None,
    implementation: str | None = None,
) -> jax.Array:
  r"""The loss of SigLIP: each of the n^2 pairs is classified alone, as belonging together or not.

  .. math::
    \mathrm{loss} = -\frac{1}{n} \sum_{i=1}^{n} \sum_{j=1}^{n}
      \log \mathrm{sigmoid}\left(y_{ij} \left(\mathrm{sim}(a_i, b_j) / \tau + \beta\right)\right),
    \qquad y_{ij} = 1 \text{ if } i = j \text{ else } -1

  The sum over pairs is divided by n, not n^2, as in the paper. Temperature and bias are meant to be learnt; 1 / 10 and
  -10 are where the paper starts.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> image, text = jnp.eye(3), jnp.eye(3)
    >>> print(f'{losses.siglip(image, text, temperature=0.5, bias=-1.0):.4f}')  # log(1 + e^-1) + 2 log(1 + e^-1)
    0.9398

  Args:
    a: [n, d], embeddings of one modality, of any length.
    b: [n, d], embeddings of the other, in the same order.
    temperature: scalar, Python number or (traced, learnable) array.
    bias: scalar, likewise; added to every score.
    axis_name: the mapped axis or axes whose devices share the batch.
    implementation: see this module's introduction.

  Returns:
    The sum over the pairs of the global batch divided by its n, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or name is wrong.

  References:
    Zhai et al., `Sigmoid Loss for Language Image Pre-Training <https://arxiv.org/abs/2303.15343>`_, 2023, equation 1
    and algorithm 1.
  """
  a, b = _checks.embeddings(a=a, b=b)
  whole = {'temperature': _checks.temperature(temperature), 'bias': _checks.scalar('bias', bias)}
  _checks.implementation(implementation)
  split = {'a': ops.l2_normalize(a), 'b': ops.l2_normalize(b)}
  return over_batch(functools.partial(_siglip, implementation=implementation), split, whole, axis_name)


def contrastive_accuracy(
    z1: ArrayLike, z2: ArrayLike, *, axis_name: AxisName | None = None, implementation: str | None = None
) -> jax.Array:
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
    implementation: see this module's introduction; 'ring' gathers like 'tiled'.

  Returns:
    The fraction of the 2n anchors of the global batch, a float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.
  """
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  _checks.implementation(implementation)
  kernel = functools.partial(_contrastive_accuracy, implementation=implementation)
  return over_batch(kernel, {'z1': ops.l2_normalize(z1), 'z2': ops.l2_normalize(z2)}, {}, axis_name)


def _nt_xent(z1, z2, temperature, axis_name, implementation):
  shared = devices(axis_name)
  form = choose(implementation, 2 * len(z1), 2 * len(z1) * shared.count, shared)
  if form == 'dense':
    return _dense.nt_xent(z1, z2, temperature, axis_name)
  z, inverse = vary(axis_name, jnp.concatenate([z1, z2]), 1 / temperature)
  (z,) = _pairs.as_seen(form, inverse, z)
  positive = jnp.sum(z * jnp.roll(z, len(z1), axis=0), axis=1) * inverse
  return global_mean(_pairs.self_sum((z, inverse, positive), form, shared) / len(z), axis_name)


def _info_nce(query, key, temperature, axis_name, implementation, unit, negatives=None):
  if negatives is not None:
    return _info_nce_with(negatives, query, key, temperature, axis_name, implementation, unit)
  shared = devices(axis_name)
  form = choose(implementation, len(query), len(key) * shared.count, shared)
  if form == 'dense':
    return _dense.info_nce(query, key, temperature, axis_name)
  query, key, inverse = vary(axis_name, query, key, 1 / temperature)
  query, key = _pairs.as_seen(form, inverse, query, key)
  positive = jnp.sum(query * key, axis=1) * inverse
  total = _pairs.cross_sum((query, key, inverse, positive), unit, 'rows', form, shared)
  return global_mean(total / len(query), axis_name)


def _info_nce_with(negatives, query, key, temperature, axis_name, implementation, unit):
  """InfoNCE against given negatives, which every device holds whole, or has for its own queries: nothing is shared."""
  form = choose(implementation, len(query), negatives.shape[-2], devices(axis_name))
  if form == 'dense' or negatives.ndim == 3 or not len(negatives):
    return _dense.info_nce(query, key, temperature, axis_name, negatives)
  query, key, negatives, inverse = vary(axis_name, query, key, negatives, 1 / temperature)
  query, key, negatives = _pairs.as_seen(form, inverse, query, key, negatives)
  positive = jnp.sum(query * key, axis=1) * inverse
  total = _pairs.cross_sum((query, negatives, inverse, positive), unit, 'others', form, devices(None))
  return global_mean(total / len(query), axis_name)


def _symmetric_info_nce(a, b, temperature, axis_name, implementation):
  shared = devices(axis_name)
  form = choose(implementation, len(a), len(b) * shared.count, shared)
  if form == 'dense':
    return _dense.symmetric_info_nce(a, b, temperature, axis_name)
  a, b, inverse = vary(axis_name, a, b, 1 / temperature)
  a, b = _pairs.as_seen(form, inverse, a, b)
  positive = jnp.sum(a * b, axis=1) * inverse
  return global_mean(_pairs.cross_sum((a, b, inverse, positive), True, 'both', form, shared) / (2 * len(a)), axis_name)


def _siglip(a, b, temperature, bias, axis_name, implementation):
  shared = devices(axis_name)
  form = choose(implementation, len(a), len(b) * shared.count, shared, kernel=False)
  if form == 'dense':
    return _dense.siglip(a, b, temperature, bias, axis_name)
  a, b, inverse, bias = vary(axis_name, a, b, 1 / temperature, bias)
  positive = jnp.sum(a * b, axis=1) * inverse + bias
  return global_mean(_pairs.softplus_sum((a, b, inverse, bias, positive), form, shared) / len(a), axis_name)


def _contrastive_accuracy(z1, z2, axis_name, implementation):
  shared = devices(axis_name)
  if choose(implementation, 2 * len(z1), 2 * len(z1) * shared.count, shared, kernel=False) != 'dense':
    (z,) = vary(axis_name, lax.stop_gradient(jnp.concatenate([z1, z2])))
    return global_mean((_anchors.rivals(z, shared) == 0).astype(jnp.float32), axis_name)
  scores, positive = _dense.view_scores(z1, z2, 1.0, axis_name)
  as_near = scores >= jnp.take_along_axis(scores, positive[:, None], axis=1)
  return global_mean((jnp.sum(as_near, axis=1) == 1).astype(jnp.float32), axis_name)
