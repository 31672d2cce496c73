"""Losses without negatives that act on statistics of the dimensions: correlations, covariances, the distribution.

Nothing pushes examples apart; instead no two dimensions may tell the same (Barlow Twins, VICReg), the embedding is
whitened (W-MSE), or its distribution is that of a standard normal (SIGReg of LeJEPA). All statistics are those of the
global batch, and so are their gradients: `axis_name` and the ambient mesh mean the same as in
`jaxssl.losses.contrastive`. All compute in float32, whatever float type comes in, and stay finite, gradients too, where
the embedding has collapsed to a point or to a subspace, or has more dimensions than the batch has examples.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxssl import ops
from jaxssl.losses import _checks
from jaxssl.losses._collectives import AxisName, devices, gather, over_batch

matmul = functools.partial(jnp.matmul, precision=lax.Precision.HIGHEST)
KNOTS, END = 17, 3.0  # Of SIGReg's integral: from 0 to END.


def cross_correlation(
    z1: ArrayLike, z2: ArrayLike, *, epsilon: ArrayLike = 1e-5, axis_name: AxisName | None = None) -> jax.Array:
  r"""Correlation of every dimension of one view with every one of the other, over the batch.

  .. math::
    C_{ij} = \frac{1}{n} \sum_b \hat{z}_{1,bi} \hat{z}_{2,bj}, \qquad
    \hat{z} = \frac{z - \mathrm{mean}}{\sqrt{\mathrm{var} + \epsilon}}

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    >>> print(losses.cross_correlation(z, z, epsilon=0.0))
    [[1. 0.]
     [0. 1.]]

  Args:
    z1: [n, d], embeddings of the first views.
    z2: [n, d], embeddings of the second views, in the same order.
    epsilon: added to the variance (that of the batch, divided by n).
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    [d, d], float32.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.
  """
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  epsilon = _checks.epsilon(epsilon)

  def kernel(z1, z2, axis_name):
    a, b = (_standardized(z, epsilon, axis_name) for z in (z1, z2))
    return _mean(matmul(a.T, b) / len(a), axis_name)

  return over_batch(kernel, {'z1': z1, 'z2': z2}, {}, axis_name)


def barlow_twins(
    z1: ArrayLike, z2: ArrayLike, *, weight: ArrayLike = 0.0051, epsilon: ArrayLike = 1e-5,
    axis_name: AxisName | None = None) -> jax.Array:
  r"""Barlow Twins: every dimension agrees with itself over the two views, and with no other.

  .. math::
    \sum_i (1 - C_{ii})^2 + \lambda \sum_i \sum_{j \ne i} C_{ij}^2

  with C of `cross_correlation`. Where the batch has less than half as many examples as there are dimensions, the sum of
  all squares is that of products of examples, at less cost than C.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    >>> print(f'{losses.barlow_twins(z, z[:, ::-1], weight=0.5, epsilon=0.0):.4f}')  # C = 1 off the diagonal: 2 + 1
    3.0000

  Args:
    z1: [n, d], embeddings of the first views.
    z2: [n, d], embeddings of the second views, in the same order.
    weight: lambda, of the redundancy.
    epsilon: added to the variance.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Zbontar et al., `Barlow Twins <https://arxiv.org/abs/2103.03230>`_, 2021, equations 1 and 2.
  """
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  weight, epsilon = _checks.scalar('weight', weight), _checks.epsilon(epsilon)

  def kernel(z1, z2, axis_name):
    a, b = (_standardized(z, epsilon, axis_name) for z in (z1, z2))
    diagonal = _mean(jnp.mean(a * b, axis=0), axis_name)
    redundancy = _squares_off_diagonal(a, b, axis_name) / (len(a) * devices(axis_name).count) ** 2
    return jnp.sum(jnp.square(1 - diagonal)) + weight * redundancy

  return over_batch(kernel, {'z1': z1, 'z2': z2}, {}, axis_name)


def vicreg(
    z1: ArrayLike, z2: ArrayLike, *, invariance: ArrayLike = 25.0, variance: ArrayLike = 25.0,
    covariance: ArrayLike = 1.0, epsilon: ArrayLike = 1e-4, axis_name: AxisName | None = None) -> jax.Array:
  r"""VICReg: the two views agree, every dimension varies, and no two vary together.

  .. math::
    \lambda \frac{1}{nd} \sum \lVert z_1 - z_2 \rVert^2 + \mu \frac{v(z_1) + v(z_2)}{2} + \nu (c(z_1) + c(z_2))

  with v of `variance_hinge` and c of `covariance_penalty`. The paper adds both v; its code halves their sum, and not
  that of c. That is what is done here: the published weights are those of the code.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.zeros((4, 2))
    >>> print(f'{losses.vicreg(z, z):.4f}')  # Collapsed: 25 (1 - 0.01).
    24.7500

  Args:
    z1: [n, d], embeddings of the first views, n at least 2.
    z2: [n, d], embeddings of the second views, in the same order.
    invariance: lambda.
    variance: mu.
    covariance: nu.
    epsilon: added to the variances.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Bardes, Ponce, LeCun, `VICReg <https://arxiv.org/abs/2105.04906>`_, 2022, equations 1 to 6 and the authors' code.
  """
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  lam, mu, nu = map(_checks.scalar, ('invariance', 'variance', 'covariance'), (invariance, variance, covariance))
  epsilon = _checks.epsilon(epsilon)

  def kernel(z1, z2, axis_name):
    distance = _mean(jnp.mean(jnp.square(z1 - z2)), axis_name)
    both = [(_hinge(z, 1.0, epsilon, axis_name), _covariance_penalty(z, axis_name)) for z in (z1, z2)]
    hinges, penalties = (sum(each) for each in zip(*both, strict=True))
    return lam * distance + mu * hinges / 2 + nu * penalties

  return over_batch(kernel, {'z1': z1, 'z2': z2}, {}, axis_name)


def variance_hinge(
    z: ArrayLike, *, target: ArrayLike = 1.0, epsilon: ArrayLike = 1e-4, axis_name: AxisName | None = None,
) -> jax.Array:
  r"""How far dimensions fall short of a standard deviation: :math:`\frac{1}{d} \sum_j \max(0, \gamma - S(z_j))`.

  With :math:`S(x) = \sqrt{\mathrm{Var}(x) + \epsilon}`, of the variance divided by n - 1. It keeps its gradient as the
  embedding collapses, but for embeddings that are the same to the last bit, of which it is 0.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.variance_hinge(jnp.array([[0.0, 2.0], [0.0, -2.0]]), epsilon=0.25))  # (0.5 + 0) / 2
    0.25

  Args:
    z: [n, d], n at least 2.
    target: gamma.
    epsilon: added to the variance.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Bardes, Ponce, LeCun, `VICReg <https://arxiv.org/abs/2105.04906>`_, 2022, equations 1 and 2.
  """
  (z,) = _checks.embeddings(z=z)
  kernel = functools.partial(_hinge, target=_checks.scalar('target', target), epsilon=_checks.epsilon(epsilon))
  return over_batch(kernel, {'z': z}, {}, axis_name)


def covariance_penalty(z: ArrayLike, *, axis_name: AxisName | None = None) -> jax.Array:
  r"""Squared covariances of different dimensions: :math:`\frac{1}{d} \sum_{i \ne j} \mathrm{Cov}(z)_{ij}^2`.

  Of the covariance divided by n - 1. With few examples it costs less than the covariances do, as `barlow_twins`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(losses.covariance_penalty(jnp.array([[1.0, 1.0], [-1.0, -1.0]])))  # (2^2 + 2^2) / 2
    4.0

  Args:
    z: [n, d], n at least 2.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Bardes, Ponce, LeCun, `VICReg <https://arxiv.org/abs/2105.04906>`_, 2022, equations 3 and 4.
  """
  (z,) = _checks.embeddings(z=z)
  return over_batch(_covariance_penalty, {'z': z}, {}, axis_name)


def whitened_mse(
    z1: ArrayLike, z2: ArrayLike, *, epsilon: float = 1e-4, normalize: bool = True, axis_name: AxisName | None = None,
) -> jax.Array:
  r"""W-MSE: the distance of two views after each view's batch is whitened, by Cholesky decomposition.

  .. math::
    \frac{1}{n} \sum_i \lVert w_{1,i} - w_{2,i} \rVert^2, \qquad w = L^{-1} (z - \mathrm{mean}), \qquad
    L L^T = (1 - \epsilon) \mathrm{Cov}(z) + \max(\epsilon / d, 10^{-6}) (\mathrm{tr}(\mathrm{Cov}(z)) + 10^{-6} d) I

  with `normalize` of the rows scaled to length 1, which is 2 - 2 cos; without, the mean is over the dimensions too.
  The paper whitens parts of some 128 examples: `in_groups(whitened_mse, z1, z2, groups=n // 128)`, of examples in
  random order. It needs more examples than dimensions; with fewer, and where the embedding collapses, the shrinkage
  `epsilon` keeps it finite, for which float32 wants a millionth of the trace.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> z = jnp.array([[1.0, 1.0], [-1.0, 1.0], [1.0, -1.0], [-1.0, -1.0]])
    >>> print(f'{abs(losses.whitened_mse(z, 3 * z + 1)):.4f}')  # Scale and place are gone.
    0.0000

  Args:
    z1: [n, d], embeddings of the first views, n at least 2.
    z2: [n, d], embeddings of the second views, in the same order.
    epsilon: the shrinkage, in [0, 1); the authors' code has 0.
    normalize: whether the whitened rows are scaled to length 1.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape, dtype or value is wrong.

  References:
    Ermolov et al., `Whitening for Self-Supervised Representation Learning <https://arxiv.org/abs/2007.06346>`_, 2021.
  """
  z1, z2 = _checks.embeddings(z1=z1, z2=z2)
  _checks.number('epsilon', epsilon, 0.0, 1.0)
  _checks.flag('normalize', normalize)

  def kernel(z1, z2, axis_name):
    w1, w2 = (_whitened(z, epsilon, axis_name) for z in (z1, z2))
    if not normalize:
      return _mean(jnp.mean(jnp.square(w1 - w2)), axis_name)
    return _mean(2 - 2 * jnp.mean(jnp.sum(ops.l2_normalize(w1) * ops.l2_normalize(w2), axis=1)), axis_name)

  return over_batch(kernel, {'z1': z1, 'z2': z2}, {}, axis_name)


def sigreg(z: ArrayLike, directions: ArrayLike, *, axis_name: AxisName | None = None) -> jax.Array:
  r"""Sketched isotropic Gaussian regularisation: is the embedding, along random directions, standard normal?

  The mean over the directions a of the statistic of Epps and Pulley, a distance of characteristic functions:

  .. math::
    n \int_{-3}^{3} \left| \frac{1}{n} \sum_i e^{\mathrm{i} t a^T z_i} - e^{-t^2/2} \right|^2 e^{-t^2/2} dt

  by the trapezoidal rule, 17 knots from 0 to 3 and the other half by symmetry, as in the authors' code. It costs
  n x directions x 17 sines and cosines. Of n draws of the normal distribution itself it is 1.05 on average, whatever
  n; of a collapsed batch 0.40 n.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.sigreg(jnp.zeros((10, 4)), jnp.eye(4)):.4f}')
    4.0205

  Args:
    z: [n, d], embeddings.
    directions: [m, d], of length 1, drawn anew for every step: `random_directions(key, m, d)`; the same on all devices.
    axis_name: the mapped axis or axes whose devices share the batch.

  Returns:
    A float32 scalar.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Balestriero and LeCun, `LeJEPA <https://arxiv.org/abs/2511.08544>`_, 2025, section 4 and listing 1.
  """
  (z,) = _checks.embeddings(z=z)
  directions = _checks.floating('directions', directions)
  if directions.ndim != 2 or directions.shape[1] != z.shape[1]:
    raise ValueError(f'directions must have shape [m, {z.shape[1]}], got {list(directions.shape)}')

  def kernel(z, directions, axis_name):
    # The sines and cosines of all knots are cheaper to compute again than to keep.
    real, imaginary = (_mean(part, axis_name) for part in jax.checkpoint(_characteristic)(z, directions))
    t, step = jnp.linspace(0.0, END, KNOTS), END / (KNOTS - 1)
    window = jnp.exp(-t * t / 2)
    trapezoid = 2 * step * jnp.ones(KNOTS).at[jnp.array([0, -1])].set(0.5)
    error = jnp.square(real - window[None]) + jnp.square(imaginary)
    return jnp.mean(matmul(error, trapezoid * window)) * len(z) * devices(axis_name).count

  return over_batch(kernel, {'z': z}, {'directions': directions}, axis_name)


def random_directions(key: jax.Array, count: int, size: int) -> jax.Array:
  """Draws directions uniform on the sphere, float32 [count, size], for `sigreg`; with the same key on all devices.

  Example:
    >>> import jax
    >>> from jaxssl import losses
    >>> print(losses.random_directions(jax.random.key(0), 256, 16).shape)
    (256, 16)

  Raises ValueError unless `count` and `size` are positive integers.
  """
  _checks.count('count', count)
  _checks.count('size', size)
  return ops.l2_normalize(jax.random.normal(key, (count, size)))


def _mean(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
  """Returns the mean over the devices."""
  return x if axis_name is None else lax.pmean(x, axis_name)


def _sum(x: jax.Array, axis_name: AxisName | None) -> jax.Array:
  """Returns the sum over the devices."""
  return x if axis_name is None else lax.psum(x, axis_name)


def _centred(z: jax.Array, axis_name: AxisName | None) -> jax.Array:
  return z - _mean(jnp.mean(z, axis=0), axis_name)[None]


def _standardized(z: jax.Array, epsilon: ArrayLike, axis_name: AxisName | None) -> jax.Array:
  z = _centred(z, axis_name)
  return z * lax.rsqrt(_mean(jnp.mean(jnp.square(z), axis=0), axis_name) + epsilon)[None]


def _unbiased(n: int, axis_name: AxisName | None) -> int:
  """Returns n - 1, of the global batch."""
  if (total := n * devices(axis_name).count) < 2:
    raise ValueError(f'z must hold at least 2 examples, got {total}')
  return total - 1


def _variance(centred: jax.Array, axis_name: AxisName | None) -> jax.Array:
  return _sum(jnp.sum(jnp.square(centred), axis=0), axis_name) / _unbiased(len(centred), axis_name)


def _hinge(z: jax.Array, target: float | jax.Array, epsilon: ArrayLike, axis_name: AxisName | None) -> jax.Array:
  deviation = jnp.sqrt(_variance(_centred(z, axis_name), axis_name) + epsilon)
  return jnp.mean(jnp.maximum(target - deviation, 0.0))


def _covariance_penalty(z: jax.Array, axis_name: AxisName | None) -> jax.Array:
  z = _centred(z, axis_name)
  return _squares_off_diagonal(z, z, axis_name) / _unbiased(len(z), axis_name) ** 2 / z.shape[1]


def _squares_off_diagonal(a: jax.Array, b: jax.Array, axis_name: AxisName | None) -> jax.Array:
  """Returns the sum of the squares of a^T b over the global batch, [n, d] both, but for its diagonal.

  From the smaller of two products: the sum of all squares is that of (a a^T) * (b b^T) too, n^2 numbers instead of d^2.
  """
  if 2 * len(a) * devices(axis_name).count >= a.shape[1]:
    product = _sum(matmul(a.T, b), axis_name)
    return jnp.sum(jnp.where(jnp.eye(len(product), dtype=bool), 0.0, jnp.square(product)))
  own_with_all = lambda x: matmul(x, gather(x, axis_name).T)
  squares = _sum(jnp.sum(own_with_all(a) * own_with_all(b)), axis_name)
  diagonal = _sum(jnp.sum(a * b, axis=0), axis_name)
  return jnp.maximum(squares - jnp.sum(jnp.square(diagonal)), 0.0)


def _characteristic(z: jax.Array, directions: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Returns the parts of z's characteristic function at the knots, [m, knots] each: z [n, d], directions [m, d]."""
  angles = matmul(z, directions.T)[..., None] * jnp.linspace(0.0, END, KNOTS)[None, None]  # [n, m, knots]
  return jnp.mean(jnp.cos(angles), axis=0), jnp.mean(jnp.sin(angles), axis=0)


def _whitened(z: jax.Array, epsilon: float, axis_name: AxisName | None) -> jax.Array:
  z = _centred(z, axis_name)
  covariance = _sum(matmul(z.T, z), axis_name) / _unbiased(len(z), axis_name)
  floor = max(epsilon / z.shape[1], 1e-6) * (jnp.trace(covariance) + 1e-6 * z.shape[1])
  root = jnp.linalg.cholesky((1 - epsilon) * covariance + floor * jnp.eye(z.shape[1]))
  return jax.scipy.linalg.solve_triangular(root, z.T, lower=True).T
