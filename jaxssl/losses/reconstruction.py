"""Losses of generative methods: how well an input is reconstructed, and what its code costs.

Sum or mean decides what a weight such as β means, so each function says which: likelihoods and squared errors are
summed over the pixels (or whatever an example consists of) and averaged over the batch, never over the pixels: their
mean over D pixels would silently multiply the weight of everything beside them by D.

All compute in float32, also from bfloat16, float16 or float64. A mean is that of the batch at hand: inside `jax.vmap`,
`jax.pmap` or `jax.shard_map` average it with `lax.pmean`; under `jax.jit` the batch is the global one.
"""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jaxssl.losses import _checks


def squared_error(reconstruction: ArrayLike, target: ArrayLike) -> jax.Array:
  r"""Squared error of a reconstruction: :math:`\frac{1}{b} \sum_i \lVert \hat{x}_i - x_i \rVert^2`.

  Summed over everything but the batch. Half of it is the negative log-likelihood of a Gaussian of variance 1, but for a
  constant.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.squared_error(jnp.zeros((2, 3, 3, 1)), jnp.full((2, 3, 3, 1), 0.5)))  # 9 pixels of 1/4.
    2.25

  Args:
    reconstruction: [b, ...].
    target: [b, ...], the same shape: the clean input, also where a corrupted one was encoded.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.
  """
  reconstruction, target = _checks.alike(reconstruction=reconstruction, target=target)
  return jnp.mean(_per_example(jnp.square(reconstruction - target)))


def bernoulli_log_likelihood(logits: ArrayLike, target: ArrayLike) -> jax.Array:
  r"""log p(x | z) of independent Bernoulli pixels: :math:`\sum_j x_j \log \sigma(l_j) + (1 - x_j) \log \sigma(-l_j)`.

  For pixels that are 0 or 1. For grey ones in between it is a binary cross-entropy that has lost the meaning of a
  likelihood, though it still trains well.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.bernoulli_log_likelihood(jnp.zeros((1, 4)), jnp.array([[0.0, 1.0, 1.0, 0.0]])))  # -4 log 2
    [-2.7725887]

  Args:
    logits: [b, ...], log-odds of a 1.
    target: [b, ...], the same shape, in [0, 1].

  Returns:
    [b], float32, in nats: summed over everything but the batch.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.
  """
  logits, target = _checks.alike(logits=logits, target=target)
  return _per_example(target * jax.nn.log_sigmoid(logits) + (1 - target) * jax.nn.log_sigmoid(-logits))


def gaussian_log_likelihood(mean: ArrayLike, target: ArrayLike, log_variance: ArrayLike = 0.0) -> jax.Array:
  r"""log p(x | z) of independent Gaussian pixels, normalisation included.

  .. math::
    -\frac{1}{2} \sum_j \left( \log 2\pi + \log \sigma_j^2 + \frac{(x_j - \mu_j)^2}{\sigma_j^2} \right)

  A density, so it may be positive. The variance is fixed (a number), learned (a parameter), or the decoder's own for
  every pixel.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.gaussian_log_likelihood(jnp.zeros((1, 2)), jnp.array([[1.0, -1.0]])))  # -log(2 pi) - 1
    [-2.837877]

  Args:
    mean: [b, ...].
    target: [b, ...], the same shape.
    log_variance: of each pixel, of any shape that broadcasts to theirs, such as a scalar.

  Returns:
    [b], float32, in nats: summed over everything but the batch.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.
  """
  mean, target = _checks.alike(mean=mean, target=target)
  log_variance = _checks.floating('log_variance', log_variance)
  try:
    log_variance = jnp.broadcast_to(log_variance, mean.shape)
  except ValueError:
    raise ValueError(
        f'log_variance must broadcast to {list(mean.shape)}, got {list(log_variance.shape)}') from None
  error = jnp.square(target - mean) * jnp.exp(-log_variance)
  return -0.5 * _per_example(math.log(2 * math.pi) + log_variance + error)


def gaussian_kl(mean: ArrayLike, log_variance: ArrayLike) -> jax.Array:
  r"""KL(q(z | x) || N(0, I)) of a diagonal Gaussian q, dimension by dimension.

  .. math::
    \mathrm{KL}_j = \tfrac{1}{2} (\mu_j^2 + \sigma_j^2 - 1 - \log \sigma_j^2)

  The ELBO subtracts its *sum* over the dimensions.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.gaussian_kl(jnp.array([[0.0, 2.0]]), jnp.zeros((1, 2))))
    [[0. 2.]]

  Args:
    mean: [b, d].
    log_variance: [b, d].

  Returns:
    [b, d], float32, in nats.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Kingma and Welling, `Auto-Encoding Variational Bayes <https://arxiv.org/abs/1312.6114>`_, 2013, appendix B.
  """
  mean, log_variance = _checks.embeddings(mean=mean, log_variance=log_variance)
  # expm1 keeps the digits of a variance near 1.
  return 0.5 * (jnp.square(mean) + jnp.expm1(log_variance) - log_variance)


def elbo(log_likelihood: ArrayLike, kl: ArrayLike, *, beta: ArrayLike = 1.0) -> jax.Array:
  """The evidence lower bound, log p(x | z) - beta KL, averaged over the batch; its negative is the loss.

  With beta 1 a lower bound on log p(x); with a larger one the objective of β-VAE.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.elbo(jnp.array([-80.0, -90.0]), jnp.array([20.0, 10.0])))
    -100.0

  Args:
    log_likelihood: [b], log p(x | z) for a z drawn from q(z | x).
    kl: [b], the whole KL(q(z | x) || p(z)), summed over the latent dimensions.
    beta: scalar, may be traced: the weight of the KL, such as a warm-up's.

  Returns:
    A float32 scalar, in nats.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Kingma and Welling, `Auto-Encoding Variational Bayes <https://arxiv.org/abs/1312.6114>`_, 2013, equation 3;
    Higgins et al., "beta-VAE", ICLR 2017, equation 4.
  """
  log_likelihood, kl = _checks.alike(log_likelihood=log_likelihood, kl=kl)
  if kl.ndim != 1:
    raise ValueError(f'log_likelihood and kl must be [b], summed over all but the batch, got {list(kl.shape)}')
  return jnp.mean(log_likelihood - _checks.scalar('beta', beta) * kl)


def importance_weighted_bound(log_weights: ArrayLike) -> jax.Array:
  r"""The bound of importance-weighted autoencoders on log p(x): :math:`\log \frac{1}{k} \sum_i w_i`.

  With :math:`\log w_i = \log p(x | z_i) + \log p(z_i) - \log q(z_i | x)` and z_i drawn from q(z | x), a lower bound in
  expectation, no looser with more samples; with k = 1 the ELBO.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.importance_weighted_bound(jnp.log(jnp.array([[1.0], [3.0]]))))  # log 2
    [0.6931472]

  Args:
    log_weights: [k, b], k samples of each example.

  Returns:
    [b], float32, in nats.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Burda, Grosse, Salakhutdinov, `Importance Weighted Autoencoders <https://arxiv.org/abs/1509.00519>`_, 2015,
    equation 8.
  """
  (log_weights,) = _checks.embeddings(log_weights=log_weights)
  return jax.nn.logsumexp(log_weights, axis=0) - math.log(len(log_weights))


def normalize_patches(patches: ArrayLike, *, epsilon: ArrayLike = 1e-6) -> jax.Array:
  """Scales each patch to mean 0 and standard deviation 1: the targets of MAE.

  The variance is the unbiased one, over d - 1, as in the authors' code. A flat patch becomes 0.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.normalize_patches(jnp.array([[[1.0, 2.0, 3.0]]])).round(3))
    [[[-1.  0.  1.]]]

  Args:
    patches: [..., d], the pixels of a patch last; d at least 2.
    epsilon: added to the variance.

  Returns:
    [..., d], float32.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    He et al., `Masked Autoencoders Are Scalable Vision Learners <https://arxiv.org/abs/2111.06377>`_, 2021, section
    4.1, and facebookresearch/mae, models_mae.py.
  """
  patches = _checks.floating('patches', patches)
  if patches.ndim < 1 or patches.shape[-1] < 2:
    raise ValueError(f'patches must be [..., d] of at least 2 pixels, got shape {list(patches.shape)}')
  patches = patches - patches[..., :1]  # A flat patch is then exactly 0, not the rounding of its mean.
  epsilon = _checks.epsilon(epsilon)
  mean = jnp.mean(patches, axis=-1, keepdims=True)
  variance = jnp.var(patches, axis=-1, keepdims=True, ddof=1)
  return (patches - mean) * jax.lax.rsqrt(variance + epsilon)


def masked_patch_error(prediction: ArrayLike, target: ArrayLike, mask: ArrayLike) -> jax.Array:
  """Mean squared error of the masked patches alone: the loss of masked autoencoders.

  Averaged over a patch's pixels, then over all masked patches of the batch, so that a mean over devices is right where
  all have as many. The gradient is exactly zero at visible patches.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> target = jnp.array([[[1.0, 1.0], [3.0, 1.0]]])  # Two patches of two pixels.
    >>> print(losses.masked_patch_error(jnp.zeros((1, 2, 2)), target, jnp.array([[False, True]])))
    5.0

  Args:
    prediction: [b, n, d], n patches of d pixels.
    target: [b, n, d]; see `normalize_patches`.
    mask: [b, n], true or 1 where a patch was hidden from the encoder.

  Returns:
    A float32 scalar; 0 where nothing is masked.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    He et al., `Masked Autoencoders Are Scalable Vision Learners <https://arxiv.org/abs/2111.06377>`_, 2021, section
    3.
  """
  prediction, target = _checks.alike(prediction=prediction, target=target)
  mask = jnp.asarray(mask)
  if prediction.ndim != 3 or mask.shape != prediction.shape[:2]:
    raise ValueError(
        f'prediction must be [b, n, d] and mask [b, n], got {list(prediction.shape)} and {list(mask.shape)}')
  weight = (mask != 0).astype(jnp.float32)
  difference = jnp.where(weight[:, :, None] > 0, prediction - target, 0.0)
  error = jnp.mean(jnp.square(difference), axis=-1)
  return jnp.sum(error * weight) / jnp.maximum(jnp.sum(weight), 1.0)


def _per_example(terms: jax.Array) -> jax.Array:
  """Sums [b, ...] over everything but the batch."""
  return jnp.sum(terms, axis=tuple(range(1, terms.ndim)))
