"""Losses of self-distillation: a student predicts what a teacher makes of another view.

The teacher's part is a target: stop its gradient where the method does (`jax.lax.stop_gradient`), as these functions
do not, but for `sinkhorn` and `relational`, whose targets never have one. `axis_name` means the same as in
`jaxssl.losses.contrastive`; under an ambient mesh nothing need be said, since all but `koleo` are means over examples.
All compute in float32, whatever float type comes in.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _checks, _dense
from jaxssl.losses._collectives import AxisName, gather, gathered_index, global_mean, over_batch


def negative_cosine(prediction: ArrayLike, target: ArrayLike, *, axis_name: AxisName | None = None) -> jax.Array:
  r"""Negative cosine similarity of predictions and targets, a mean over the batch, in [-1, 1].

  SimSiam's D (equation 1). BYOL's squared distance of the scaled vectors (equation 2) is 2 + 2 of it.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.negative_cosine(jnp.array([[2.0, 0.0], [1.0, 0.0]]), jnp.array([[5.0, 0.0], [0.0, 1.0]])))
    -0.5

  Args:
    prediction: [n, d], of any length; a zero vector has cosine 0 with all, and no gradient.
    target: [n, d].
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Grill et al., `BYOL <https://arxiv.org/abs/2006.07733>`_, 2020; Chen and He, `SimSiam
    <https://arxiv.org/abs/2011.10566>`_, 2020.
  """
  prediction, target = _checks.embeddings(prediction=prediction, target=target)
  cosine = jnp.sum(ops.l2_normalize(prediction) * ops.l2_normalize(target), axis=1)
  return -global_mean(cosine, axis_name)


def soft_cross_entropy(
    scores: ArrayLike, targets: ArrayLike, *, temperature: ArrayLike = 0.1, axis_name: AxisName | None = None,
) -> jax.Array:
  r"""Cross-entropy of a softmax with soft targets.

  .. math::
    -\frac{1}{n} \sum_{ik} q_{ik} \log \mathrm{softmax}(s_i / \tau)_k

  SwAV's with the codes of `sinkhorn` (equation 2), DINO's with a sharpened and centred softmax of the teacher's scores
  (equation 2 there).

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.soft_cross_entropy(jnp.zeros((3, 4)), jnp.eye(3, 4)):.4f}')  # log 4
    1.3863

  Args:
    scores: [n, k], the student's, before the softmax.
    targets: [n, k], distributions over the k prototypes.
    temperature: tau, a scalar, Python number or (traced, learnable) array.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The mean over the examples of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Caron et al., `SwAV <https://arxiv.org/abs/2006.09882>`_, 2020; Caron et al., `DINO
    <https://arxiv.org/abs/2104.14294>`_, 2021.
  """
  scores, targets = _checks.embeddings(scores=scores, targets=targets)
  log_p = jax.nn.log_softmax(scores / _checks.temperature(temperature), axis=1)
  return -global_mean(jnp.sum(targets * log_p, axis=1), axis_name)


def sinkhorn(
    scores: ArrayLike, *, epsilon: float = 0.05, iterations: int = 3, axis_name: AxisName | None = None) -> jax.Array:
  r"""Soft assignments of examples to prototypes that use all prototypes alike, by Sinkhorn and Knopp's iterations.

  Starts from :math:`\exp(s / \epsilon)` and makes, in turn, the prototypes' sums over the global batch equal and each
  example's a distribution; in logarithms, so that no scores overflow, but of scores beyond 1000 epsilon float32 keeps
  ever fewer digits. No gradient flows through it.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.sinkhorn(jnp.array([[1.0, 0.9], [1.0, 0.0]]), iterations=100).round(2))  # Each gets one.
    [[0. 1.]
     [1. 0.]]

  Args:
    scores: [n, k], similarities.
    epsilon: smoothness of the assignments.
    iterations: how many; 3 leave the prototypes not quite equal.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    [n, k], float32; rows sum to 1.

  Raises:
    ValueError: naming the argument whose shape, dtype or value is wrong.

  References:
    Caron et al., `SwAV <https://arxiv.org/abs/2006.09882>`_, 2020, equation 3, and its code; Cuturi 2013,
    https://arxiv.org/abs/1306.0895.
  """
  (scores,) = _checks.embeddings(scores=scores)
  _checks.count('iterations', iterations)
  _checks.positive('epsilon', epsilon)

  def balance(_, log_q):
    log_q = log_q - _lse_over_batch(log_q, axis_name)[None]
    shifted = _below_highest(log_q, jnp.max(log_q, axis=1, keepdims=True))
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), axis=1, keepdims=True))

  log_q = lax.stop_gradient(scores) / epsilon
  # The first iterations written out, as usually there are no others; beyond, a loop, or they would compile for ever.
  q = jnp.exp(lax.fori_loop(0, iterations, balance, log_q, unroll=min(iterations, 3)))
  return q / jnp.sum(q, axis=1, keepdims=True)


def koleo(z: ArrayLike, *, epsilon: ArrayLike = 1e-8, axis_name: AxisName | None = None) -> jax.Array:
  r"""Kozachenko-Leonenko regulariser: embeddings of a batch, scaled to length 1, keep away from their nearest.

  .. math::
    -\frac{1}{n} \sum_i \log \left( \min_{j \ne i} \lVert z_i - z_j \rVert + \epsilon \right)

  over the global batch. Two embeddings that are the same have no direction to part in, and no gradient.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.koleo(jnp.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0]])):.4f}')  # -log sqrt(2)
    -0.3466

  Args:
    z: [n, d], n at least 2.
    epsilon: added to the distances.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Sablayrolles et al., `Spreading vectors for similarity search <https://arxiv.org/abs/1806.03198>`_, 2019, equation
    3; Oquab et al., `DINOv2 <https://arxiv.org/abs/2304.07193>`_, 2023, weight 0.1.
  """
  (z,) = _checks.embeddings(z=z)
  epsilon = _checks.epsilon(epsilon)

  def kernel(z, axis_name):
    z = ops.l2_normalize(z)
    everyone = gather(z, axis_name)
    if len(everyone) < 2:
      raise ValueError(f'z must hold at least 2 examples, got {len(everyone)}')
    own = gathered_index(len(z), axis_name)[:, None] == jnp.arange(len(everyone))[None]
    scores = jnp.where(own, -jnp.inf, _dense.inner_products(z, everyone))
    nearest = jnp.take(everyone, jnp.argmax(lax.stop_gradient(scores), axis=1), axis=0)
    squared = jnp.sum(jnp.square(z - nearest), axis=1)
    same = squared == 0
    distance = jnp.where(same, 0.0, jnp.sqrt(jnp.where(same, 1.0, squared)))
    return -global_mean(jnp.log(distance + epsilon), axis_name)

  return over_batch(kernel, {'z': z}, {}, axis_name)


def relational(
    query: ArrayLike,
    target: ArrayLike,
    others: ArrayLike,
    *,
    temperature: ArrayLike = 0.1,
    target_temperature: ArrayLike = 0.04,
    axis_name: AxisName | None = None,
) -> jax.Array:
  r"""Relational distillation, ReSSL: the student is as similar to other examples as the teacher's view of it is.

  The cross-entropy of softmax(cos(query, others) / temperature) with softmax(cos(target, others) / target_temperature),
  which has no gradient.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z, others = jnp.zeros((2, 3)), jnp.eye(3)
    >>> print(f'{losses.relational(z, z, others):.4f}')  # log 3: equally far from all.
    1.0986

  Args:
    query: [n, d], the student's embeddings.
    target: [n, d], the teacher's, of a weakly augmented view.
    others: [m, d], such as the embeddings of past batches in a queue; the same on all devices.
    temperature: of the student.
    target_temperature: of the teacher; smaller, for sharper targets.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    The mean over the examples of the global batch, a float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Zheng et al., `ReSSL <https://arxiv.org/abs/2107.09282>`_, 2021, equations 4 to 6.
  """
  query, target = _checks.embeddings(query=query, target=target)
  others = ops.l2_normalize(_checks.floating('others', others))
  if others.ndim != 2 or others.shape[1] != query.shape[1]:
    raise ValueError(f'others must have shape [m, {query.shape[1]}], got {list(others.shape)}')
  similar = lambda z: _dense.inner_products(ops.l2_normalize(z), others)
  sharp = similar(lax.stop_gradient(target)) / _checks.temperature(target_temperature, 'target_temperature')
  return soft_cross_entropy(
      similar(query), lax.stop_gradient(jax.nn.softmax(sharp, axis=1)), temperature=temperature, axis_name=axis_name)


def smooth_l1(
    prediction: ArrayLike, target: ArrayLike, *, beta: float = 1.0, mask: ArrayLike | None = None,
    axis_name: AxisName | None = None) -> jax.Array:
  r"""Smooth L1 distance, a mean over elements: :math:`d^2 / 2\beta` below beta, :math:`d - \beta / 2` above.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.smooth_l1(jnp.array([[0.0, 3.0]]), jnp.array([[1.0, 0.0]])))  # (0.5 + 2.5) / 2
    1.5

  Args:
    prediction: [b, ...].
    target: [b, ...], the same shape.
    beta: where the parabola ends; a positive Python number.
    mask: bool, of some of the leading axes, such as [b, n] beside [b, n, d]: which elements the mean is over; the
      others get no gradient. None: all.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    A float32 scalar; 0 where the mean is over nothing.

  Raises:
    ValueError: naming the argument whose shape, dtype or value is wrong.

  References:
    Girshick, `Fast R-CNN <https://arxiv.org/abs/1504.08083>`_, 2015, equation 3; in the code of I-JEPA
    (https://arxiv.org/abs/2301.08243).
  """
  prediction, target = _checks.alike(prediction=prediction, target=target)
  _checks.positive('beta', beta)
  d = jnp.abs(prediction - target)
  if mask is None:
    return global_mean(_huber(d, beta), axis_name)
  mask = jnp.asarray(mask)
  if mask.dtype != bool or mask.shape != d.shape[:mask.ndim]:
    raise ValueError(f'mask must be boolean, of the leading axes of {list(d.shape)}, got {mask.dtype} '
                     f'{list(mask.shape)}')
  counted = jnp.broadcast_to(mask.reshape(*mask.shape, *(1,) * (d.ndim - mask.ndim)), d.shape)
  share = global_mean(counted.astype(jnp.float32), axis_name)  # Of all devices: each may have counted another number.
  return global_mean(_huber(jnp.where(counted, d, 0.0), beta), axis_name) / jnp.maximum(share, jnp.finfo(d.dtype).tiny)


def _huber(d: jax.Array, beta: float) -> jax.Array:
  return jnp.where(d < beta, d * d / (2 * beta), d - beta / 2)


def _lse_over_batch(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
  """Returns log(sum(exp(x))) over the global batch: [n, k] -> [k]."""
  highest = jnp.max(x, axis=0)
  if axis_name is not None:
    highest = lax.pmax(highest, axis_name)
  total = jnp.sum(jnp.exp(_below_highest(x, highest[None])), axis=0)
  return jnp.log(total if axis_name is None else lax.psum(total, axis_name)) + highest


def _below_highest(x: jax.Array, highest: jax.Array) -> jax.Array:
  """Returns x - highest, at most 0.

  XLA may compute x twice, for its maximum and for the difference, with another rounding: exp could then overflow.
  """
  return jnp.minimum(x - highest, 0.0)
