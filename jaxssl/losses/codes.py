"""Losses of codes: how sparse a code is, and how far from the codebook that quantizes it.

All compute in float32. Means are those of the batch at hand: inside `jax.vmap`, `jax.pmap` or `jax.shard_map` average
them with `lax.pmean`; under `jax.jit` the batch is the global one. `sparsity_kl` and `codebook_perplexity` are no means
over examples: there give them the mean activations over all devices, as [1, d], and the sum of the counts.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxssl.losses import _checks


def sparsity_kl(activations: ArrayLike, *, target: float = 0.05) -> jax.Array:
  r"""How far units are from being active a share `target` of the time: :math:`\sum_j \mathrm{KL}(\rho || \hat\rho_j)`.

  :math:`\hat\rho_j` is the mean of unit j over the batch, and both are taken as Bernoulli probabilities. The penalty of
  sparse autoencoders; in the reference with target 0.05, and weight 3 beside half the squared error.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.sparsity_kl(jnp.full((8, 3), 0.5), target=0.25).round(4))  # 3 (log(1/2) / 4 + 3 log(3/2) / 4)
    0.3924

  Args:
    activations: [b, d], in [0, 1], such as a sigmoid's.
    target: in (0, 1), the desired mean.

  Returns:
    A float32 scalar, in nats, summed over the d units.

  Raises:
    ValueError: naming the argument whose shape, dtype or range is wrong.

  References:
    Ng, "Sparse autoencoder", CS294A lecture notes.
  """
  (activations,) = _checks.embeddings(activations=activations)
  _checks.number('target', target, 0.0, 1.0)
  if not target > 0:
    raise ValueError(f'target must be positive, got {target}')
  # A unit that is always on or off has a large penalty, not an infinite one, and a gradient (with a clip it had none).
  epsilon = jnp.finfo(jnp.float32).eps
  mean = epsilon + (1 - 2 * epsilon) * jnp.mean(activations, axis=0)
  kl = target * (math.log(target) - jnp.log(mean)) + (1 - target) * (math.log1p(-target) - jnp.log1p(-mean))
  return jnp.sum(kl)


def l1_sparsity(codes: ArrayLike) -> jax.Array:
  r"""The L1 norm of a code, averaged over the batch: :math:`\frac{1}{b} \sum_i \lVert z_i \rVert_1`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.l1_sparsity(jnp.array([[1.0, -2.0], [0.0, 1.0]])))
    2.0

  Args:
    codes: [b, ...].

  Returns:
    A float32 scalar.

  Raises:
    ValueError: if `codes` are not floating-point, or have no batch.
  """
  (codes,) = _checks.alike(codes=codes)
  return jnp.mean(jnp.sum(jnp.abs(codes), axis=tuple(range(1, codes.ndim))))


def k_sparse(codes: ArrayLike, k: int) -> jax.Array:
  """Keeps the k largest entries of every code and sets all others to zero, so that gradients reach those k alone.

  Of equal entries the first are kept.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.k_sparse(jnp.array([[3.0, 1.0, 2.0]]), 2))
    [[3. 0. 2.]]

  Args:
    codes: [b, d].
    k: how many to keep, from 1 to d.

  Returns:
    [b, d], float32.

  Raises:
    ValueError: naming the argument whose shape, dtype or range is wrong.

  References:
    Makhzani and Frey, `k-Sparse Autoencoders <https://arxiv.org/abs/1312.5663>`_, 2013, step 2 of algorithm 1.
  """
  (codes,) = _checks.embeddings(codes=codes)
  width = codes.shape[1]
  _checks.count('k', k, width)
  _, largest = jax.lax.top_k(codes, k)
  kept = jnp.any(largest[:, :, None] == jnp.arange(width)[None, None, :], axis=1)
  return jnp.where(kept, codes, 0.0)


def codebook_loss(z_e: ArrayLike, codes: ArrayLike) -> jax.Array:
  r"""Draws the nearest codes to the encoder's outputs: :math:`\lVert \mathrm{sg}[z_e] - e \rVert^2`.

  Summed over a code's dimensions, averaged over the batch and all positions. No gradient reaches the encoder. With a
  codebook that follows moving averages (the paper's appendix A.1) there is no need of it.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.codebook_loss(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0]])))
    4.0

  Args:
    z_e: [b, ..., d], outputs of the encoder.
    codes: [b, ..., d], the entry of the codebook nearest to each.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    van den Oord, Vinyals, Kavukcuoglu, `Neural Discrete Representation Learning <https://arxiv.org/abs/1711.00937>`_,
    2017, second term of equation 3.
  """
  z_e, codes = _checks.alike(z_e=z_e, codes=codes)
  return jnp.mean(jnp.sum(jnp.square(jax.lax.stop_gradient(z_e) - codes), axis=-1))


def commitment_loss(z_e: ArrayLike, codes: ArrayLike) -> jax.Array:
  r"""Keeps the encoder's outputs near their codes: :math:`\lVert z_e - \mathrm{sg}[e] \rVert^2`.

  Summed over a code's dimensions, averaged over the batch and all positions. No gradient reaches the codebook. The
  paper weighs it by 0.25.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.commitment_loss(jnp.array([[1.0, 2.0]]), jnp.array([[1.0, 0.0]])))
    4.0

  Args:
    z_e: [b, ..., d], outputs of the encoder.
    codes: [b, ..., d], the entry of the codebook nearest to each.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    van den Oord, Vinyals, Kavukcuoglu, `Neural Discrete Representation Learning <https://arxiv.org/abs/1711.00937>`_,
    2017, third term of equation 3.
  """
  z_e, codes = _checks.alike(z_e=z_e, codes=codes)
  return jnp.mean(jnp.sum(jnp.square(z_e - jax.lax.stop_gradient(codes)), axis=-1))


def straight_through(z_e: ArrayLike, codes: ArrayLike) -> jax.Array:
  """Returns `codes`, with the gradient of the identity with respect to `z_e` and none with respect to `codes`.

  So a decoder's gradient passes a quantizer as if it were not there.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(jax.grad(lambda z: jnp.sum(losses.straight_through(z, jnp.round(z)) ** 2))(jnp.array([1.2, 2.6])))
    [2. 6.]

  Args:
    z_e: [...], outputs of the encoder.
    codes: [...], the same shape.

  Returns:
    [...], float32.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    van den Oord, Vinyals, Kavukcuoglu, `Neural Discrete Representation Learning <https://arxiv.org/abs/1711.00937>`_,
    2017, section 3.2.
  """
  z_e, codes = _checks.alike(z_e=z_e, codes=codes)
  return jax.lax.stop_gradient(codes) + (z_e - jax.lax.stop_gradient(z_e))  # Exactly the codes: the rest is 0.


def codebook_perplexity(counts: ArrayLike) -> jax.Array:
  """The exponential of the entropy of how often each entry of a codebook is used: from 1, collapsed, to K, all alike.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.codebook_perplexity(jnp.array([5.0, 5.0, 0.0, 0.0])).round(4))
    2.0

  Args:
    counts: [K], not negative, integers or floating-point; all zero: 1.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: if `counts` is not [K].
  """
  counts = jnp.asarray(counts, jnp.float32)
  if counts.ndim != 1 or not counts.size:
    raise ValueError(f'counts must be [K], got shape {list(counts.shape)}')
  share = counts / jnp.maximum(jnp.sum(counts), jnp.finfo(jnp.float32).tiny)
  return jnp.exp(-jnp.sum(jax.scipy.special.xlogy(share, share)))
