r"""Variational estimates of mutual information from a matrix of log-scores, to be maximised.

`scores` [n, n] holds f(x_i, y_j) of n pairs drawn together: the diagonal is a sample of the joint distribution, the
rest one of the product of the marginals. Every function returns a float32 scalar in nats, by log-sum-exp in float32.
The best critic is the log-density ratio log p(x, y) / p(x) p(y): for `nwj` 1 more, for `tuba` log a(x) more, for
`info_nce`, `dv` and `ml_cpc` up to a constant (in the first, one for each x). "Lower bound" means: in expectation over
batches never above I(x; y), whatever the critic, as long as it was not fitted to the very batch.

Example:
  >>> import jax.numpy as jnp
  >>> from jaxssl import losses
  >>> scores = 4 * jnp.eye(8)  # Each x scores its own y at 4 and the others at 0.
  >>> for estimate in (losses.mutual_information.info_nce, losses.mutual_information.dv, losses.mutual_information.nwj):
  ...   print(f'{estimate.__name__} {estimate(scores):.4f}')
  info_nce 1.9588
  dv 4.0000
  nwj 3.6321

A training loss is `-info_nce(critic(x, y))`. docs/mutual_information.md compares them.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike

from jaxssl.losses import _checks, _scores
from jaxssl.losses.multi_label import cpc_bound, ml_cpc_bound

MOMENTUM = 0.9  # Of MINE's moving average, as in ermongroup/smile-mi-estimator, estimators.py.


def info_nce(scores: ArrayLike) -> jax.Array:
  r"""InfoNCE (CPC): log n less the cross-entropy of finding y_i among the n candidates of x_i.

  .. math::
    \frac{1}{n} \sum_i \log \frac{n \, e^{f_{ii}}}{\sum_j e^{f_{ij}}}

  A lower bound, never above log n, in each batch: where I is larger it saturates there. Of all bounds here the one of
  least variance.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.mutual_information.info_nce(100 * jnp.eye(4)):.4f}')  # The ceiling, log 4.
    1.3863

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.

  Returns:
    A float32 scalar in nats.

  Raises:
    ValueError: if `scores` are not floating-point or not [n, n] with n above 1.

  References:
    van den Oord et al., `Representation Learning with Contrastive Predictive Coding
    <https://arxiv.org/abs/1807.03748>`_, 2018, appendix A.1.
  """
  return cpc_bound(*_scores.joint_and_marginal(scores))


def alpha_cpc(scores: ArrayLike, alpha: ArrayLike) -> jax.Array:
  r"""Alpha-CPC: InfoNCE whose denominator weighs the joint sample by alpha.

  .. math::
    \frac{1}{n} \sum_i \log
      \frac{n \, e^{f_{ii}}}{\alpha e^{f_{ii}} + \frac{n - \alpha}{n - 1} \sum_{j \neq i} e^{f_{ij}}}

  Never above log(n / alpha). A lower bound for alpha of 1 and above; below 1 it is none, and with a good critic it
  exceeds I: of little variance, so that the error does not show. See `ml_cpc` for the form that stays a bound.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.mutual_information.alpha_cpc(100 * jnp.eye(4), 0.1):.4f}')  # log(4 / 0.1)
    3.6889

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.
    alpha: scalar in (0, n), Python number or (traced) array.

  Returns:
    A float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or range is wrong.

  References:
    Song and Ermon, `Multi-label Contrastive Predictive Coding <https://arxiv.org/abs/2007.09852>`_, 2020.
  """
  return cpc_bound(*_scores.joint_and_marginal(scores), alpha=alpha)


def ml_cpc(scores: ArrayLike, alpha: ArrayLike) -> jax.Array:
  r"""Multi-label CPC (alpha-ML-CPC): one denominator for the whole batch.

  .. math::
    \frac{1}{n} \sum_i \log \frac{n^2 e^{f_{ii}}}
      {\alpha \sum_l e^{f_{ll}} + \frac{n - \alpha}{n - 1} \sum_l \sum_{j \neq l} e^{f_{lj}}}

  A lower bound for alpha in [n / (n (n - 1) + 1), 1], never above log(n / alpha): the smallest alpha lifts the ceiling
  from log n to log(n (n - 1) + 1), nearly 2 log n, at the price of variance. The paper proves it for negatives of each
  pair's own; here the batch shares them, as in the authors' code. At alpha 1 it is never above `info_nce` of the same
  scores. It is convex in alpha, and at most 0 at n, so that it remains a bound above 1. Gradients shrink with alpha,
  which Adam does not feel.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.mutual_information.ml_cpc(100 * jnp.eye(4), 4 / 13):.3f}')  # log 13
    2.565

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.
    alpha: scalar in (0, n), Python number or (traced) array.

  Returns:
    A float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or range is wrong.

  References:
    Song and Ermon, `Multi-label Contrastive Predictive Coding <https://arxiv.org/abs/2007.09852>`_, 2020.
  """
  return ml_cpc_bound(*_scores.joint_and_marginal(scores), alpha=alpha)


def dv(scores: ArrayLike) -> jax.Array:
  r"""The Donsker-Varadhan representation.

  .. math::
    \frac{1}{n} \sum_i f_{ii} - \log \frac{1}{n (n - 1)} \sum_{i \neq j} e^{f_{ij}}

  No ceiling. With the true expectations it is a lower bound; of a batch it is none, since the logarithm of a mean is
  too low in expectation: it exceeds I the more, the larger I and the smaller n. Its variance grows as exp I.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.mutual_information.dv(100 * jnp.eye(4)):.4f}')
    100.0000

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.

  Returns:
    A float32 scalar in nats.

  Raises:
    ValueError: if `scores` are not floating-point or not [n, n] with n above 1.

  References:
    Belghazi et al., `MINE: Mutual Information Neural Estimation <https://arxiv.org/abs/1801.04062>`_, 2018,
    equation 10.
  """
  joint, marginal = _scores.joint_and_marginal(scores)
  return jnp.mean(joint) - _scores.log_mean_exp(marginal)


def nwj(scores: ArrayLike) -> jax.Array:
  r"""The bound of Nguyen, Wainwright and Jordan (f-GAN's of the KL divergence).

  .. math::
    \frac{1}{n} \sum_i f_{ii} - \frac{1}{e \, n (n - 1)} \sum_{i \neq j} e^{f_{ij}}

  A lower bound without bias or ceiling; its best critic is 1 + log p(x, y) / p(x) p(y). Its variance grows as exp I: at
  a few nats single scores decide, and training may collapse. Never above `dv` of the same scores.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.mutual_information.nwj(jnp.ones((4, 4))):.4f}')
    0.0000

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.

  Returns:
    A float32 scalar in nats; -inf where the mean of exp f has no float32.

  Raises:
    ValueError: if `scores` are not floating-point or not [n, n] with n above 1.

  References:
    Nguyen, Wainwright and Jordan, `Estimating divergence functionals and the likelihood ratio by convex risk
    minimization <https://arxiv.org/abs/0809.0853>`_, 2010; Poole et al., `On Variational Bounds of Mutual Information
    <https://arxiv.org/abs/1905.06922>`_, 2019, section 2.1.
  """
  joint, marginal = _scores.joint_and_marginal(scores)
  return jnp.mean(joint) - jnp.exp(_scores.log_mean_exp(marginal) - 1)


def jensen_shannon(scores: ArrayLike) -> jax.Array:
  r"""What `js` and `smile` are trained by: the log-likelihood of a classifier of joint and marginal samples.

  .. math::
    \frac{1}{n} \sum_i -\log(1 + e^{-f_{ii}}) - \frac{1}{n (n - 1)} \sum_{i \neq j} \log(1 + e^{f_{ij}})

  No estimate of mutual information: from -2 log 2, scores that are all 0, up to 0. Its best critic is
  log p(x, y) / p(x) p(y), and single scores weigh little, so that it trains steadily at any I.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.mutual_information.jensen_shannon(jnp.zeros((4, 4))):.4f}')
    -1.3863

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.

  Returns:
    A float32 scalar in nats.

  Raises:
    ValueError: if `scores` are not floating-point or not [n, n] with n above 1.

  References:
    Hjelm et al., `Learning deep representations by mutual information estimation and maximization
    <https://arxiv.org/abs/1808.06670>`_, 2018, equation 4.
  """
  joint, marginal = _scores.joint_and_marginal(scores)
  return jnp.mean(jax.nn.log_sigmoid(joint)) + jnp.mean(jax.nn.log_sigmoid(-marginal))


def js(scores: ArrayLike) -> jax.Array:
  r"""The value of `nwj`, trained by `jensen_shannon`.

  .. math::
    1 + \frac{1}{n} \sum_i f_{ii} - \frac{1}{n (n - 1)} \sum_{i \neq j} e^{f_{ij}},
    \qquad \text{with the gradient of } \mathrm{jensen\_shannon}(f)

  The value is that of `nwj` at f + 1, since the best critic of the one is 1 more than that of the other: a lower bound
  without ceiling, whose variance grows as exp I. Only the training is steadier.

  Example:
    >>> import jax, jax.numpy as jnp
    >>> from jaxssl import losses
    >>> value, gradient = jax.value_and_grad(losses.mutual_information.js)(jnp.zeros((2, 2)))
    >>> print(f'{value:.4f} {gradient[0, 0]:.4f} {gradient[0, 1]:.4f}')  # (1 / 2) sigmoid(0) each
    0.0000 0.2500 -0.2500

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.

  Returns:
    A float32 scalar in nats; -inf where the mean of exp f has no float32.

  Raises:
    ValueError: if `scores` are not floating-point or not [n, n] with n above 1.

  References:
    Hjelm et al., `Learning deep representations by mutual information estimation and maximization
    <https://arxiv.org/abs/1808.06670>`_, 2018, equation 4; Poole et al., `On Variational Bounds of Mutual Information
    <https://arxiv.org/abs/1905.06922>`_, 2019, section 2.2.
  """
  joint, marginal = _scores.joint_and_marginal(scores)
  return _trained_by_js(scores, 1 + jnp.mean(joint) - jnp.exp(_scores.log_mean_exp(marginal)))


def smile(scores: ArrayLike, clip: ArrayLike) -> jax.Array:
  r"""SMILE: the value of `dv` with the scores of the marginals clipped, trained by `jensen_shannon`.

  .. math::
    \frac{1}{n} \sum_i f_{ii} - \log \frac{1}{n (n - 1)} \sum_{i \neq j} \exp(\min(\max(f_{ij}, -\tau), \tau))

  The gradient is that of `js`, whatever tau = `clip`. No bound and no ceiling: the clipped mean errs by at most what it
  leaves out, in either direction, and its variance stays below exp(2 tau) / n. At infinity the value is that of `dv`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.mutual_information.smile(6 * jnp.ones((4, 4)), 5.0):.4f}')
    1.0000

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.
    clip: tau, a positive scalar, Python number (also `math.inf`) or (traced) array; the paper has 1, 5 and infinity.

  Returns:
    A float32 scalar in nats.

  Raises:
    ValueError: naming the argument whose shape, dtype or range is wrong.

  References:
    Song and Ermon, `Understanding the Limitations of Variational Mutual Information Estimators
    <https://arxiv.org/abs/1910.06222>`_, 2019, equation 17 and https://github.com/ermongroup/smile-mi-estimator.
  """
  joint, marginal = _scores.joint_and_marginal(scores)
  clip = _checks.scalar('clip', clip, 'positive')
  return _trained_by_js(scores, jnp.mean(joint) - _scores.log_mean_exp(jnp.clip(marginal, -clip, clip)))


def tuba(scores: ArrayLike, log_baseline: ArrayLike) -> jax.Array:
  r"""TUBA, the unnormalised bound of Barber and Agakov: `nwj` with a learnt baseline a(x).

  .. math::
    1 + \frac{1}{n} \sum_i (f_{ii} - \log a_i) - \frac{1}{n (n - 1)} \sum_{i \neq j} e^{f_{ij} - \log a_i}

  A lower bound for any positive a, without ceiling; best at a = E[exp f(x, y)] over y alone. A good baseline lessens
  the variance, which still grows as exp I. With log a = 1 it is `nwj`.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> scores = 3 * jnp.eye(4) + 2
    >>> print(f'{losses.mutual_information.tuba(scores, 2.0):.4f}')  # Where the baseline is what the marginals score.
    3.0000

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.
    log_baseline: log a, a scalar or [n], one for each row of `scores`, of what the rows stand for alone.

  Returns:
    A float32 scalar in nats; -inf where the mean of exp f / a has no float32.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Poole et al., `On Variational Bounds of Mutual Information <https://arxiv.org/abs/1905.06922>`_, 2019, equation 4,
    whose y the rows stand for.
  """
  joint, marginal = _scores.joint_and_marginal(scores)
  log_baseline = _scores.per_row('log_baseline', log_baseline, joint.size)
  return 1 + jnp.mean(joint - log_baseline) - jnp.exp(_scores.log_mean_exp(marginal - log_baseline[:, None]))


def alpha_tuba(scores: ArrayLike, log_baseline: ArrayLike, alpha: ArrayLike) -> jax.Array:
  r"""The bound between InfoNCE (alpha 1) and `tuba` (alpha 0): its baseline mixes the candidates' mean with a(x).

  .. math::
    1 + \operatorname{mean}_{i, j \neq i} \log \frac{e^{f_{ii}}}{b_{ij}}
      - \operatorname{mean}_{i, j \neq i} \frac{e^{f_{ij}}}{b_{ii}}, \qquad
    b_{ij} = \alpha \operatorname{mean}_{k \neq j} e^{f_{ik}} + (1 - \alpha) a_i

  A lower bound, never above 1 + log((n - 1) / alpha), nor above log((n - 1) / alpha) where the marginal term is 1, as
  with the best critic. One candidate is left out of each b, in turn, so that the joint and the marginal term have n - 1
  each, as the proof wants: at alpha 1 it is InfoNCE of n - 1 candidates. Bias grows and variance falls with alpha.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> print(f'{losses.mutual_information.alpha_tuba(100 * jnp.eye(5), 0.0, 0.1):.4f}')  # log(4 / 0.1), + 1 - 1
    3.6889

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.
    log_baseline: log a, a scalar or [n], one for each row of `scores`, of what the rows stand for alone.
    alpha: scalar in [0, 1], Python number or (traced) array.

  Returns:
    A float32 scalar in nats; at alpha 0, -inf where the mean of exp f / a has no float32.

  Raises:
    ValueError: naming the argument whose shape, dtype or range is wrong.

  References:
    Poole et al., `On Variational Bounds of Mutual Information <https://arxiv.org/abs/1905.06922>`_, 2019, section 2.3
    ("Nonlinearly interpolated lower bounds"), whose y the rows stand for.
  """
  if _checks.is_number(alpha) and not 0 <= alpha <= 1:
    raise ValueError(f'alpha must lie in [0, 1], got {alpha}')
  joint, marginal = _scores.joint_and_marginal(scores)
  n, alpha = joint.size, _checks.scalar('alpha', alpha)
  log_baseline = _scores.per_row('log_baseline', log_baseline, n)[:, None]
  mix = lambda log_sum: jnp.logaddexp(
      jnp.log(alpha) + log_sum - jnp.log(n - 1), jnp.log1p(-alpha) + log_baseline)
  candidates = jnp.concatenate([joint[:, None], marginal], axis=1)
  with_joint = mix(_scores.log_sum_exp_of_others(candidates)[:, 1:])
  without = mix(jax.nn.logsumexp(marginal, axis=1, keepdims=True))
  return 1 + jnp.mean(joint[:, None] - with_joint) - jnp.exp(_scores.log_mean_exp(marginal - without))


def mine(scores: ArrayLike, moving_average: ArrayLike) -> tuple[jax.Array, jax.Array]:
  r"""MINE: the value of `dv`, with a gradient whose denominator is a moving average over batches.

  .. math::
    \nabla \frac{1}{n} \sum_i f_{ii} - \frac{1}{A} \nabla E, \qquad A \leftarrow 0.9 \, A + 0.1 \, E,
    \qquad E = \frac{1}{n (n - 1)} \sum_{i \neq j} e^{f_{ij}}

  The gradient of a batch's `dv` is biased, since its denominator is the batch's own; a slow average lessens that. The
  value remains that of `dv`: no bound, no ceiling, variance as exp I. The average is kept as its logarithm, so that no
  score overflows it, and the weight 1 / A is at most 10 times the batch's own.

  Example:
    >>> import jax.numpy as jnp
    >>> from jaxssl import losses
    >>> estimate, log_average = losses.mutual_information.mine(4 * jnp.eye(4) + 3, 0.0)
    >>> print(f'{estimate:.4f} {log_average:.4f}')  # log(0.9 + 0.1 exp 3)
    4.0000 1.0677

  Args:
    scores: [n, n] log-scores, n above 1, the diagonal those of joint samples.
    moving_average: log A, a scalar; 0 at the first batch, where a fresh critic's scores are near 0.

  Returns:
    The estimate, a float32 scalar in nats; and the new log A, of this batch too, which has no gradient.

  Raises:
    ValueError: naming the argument whose shape or dtype is wrong.

  References:
    Belghazi et al., `MINE: Mutual Information Neural Estimation <https://arxiv.org/abs/1801.04062>`_, 2018,
    section 3.2; start and momentum as in https://github.com/ermongroup/smile-mi-estimator.
  """
  joint, marginal = _scores.joint_and_marginal(scores)
  log_mean = _scores.log_mean_exp(marginal)
  old = _checks.scalar('moving_average', moving_average)
  average = lax.stop_gradient(jnp.logaddexp(jnp.log(MOMENTUM) + old, jnp.log1p(-MOMENTUM) + log_mean))
  value = lax.stop_gradient(log_mean)
  # Worth 0, with the gradient of exp(log_mean) / A.
  corrected = jnp.exp(value - average) * (log_mean - value)
  return jnp.mean(joint) - value - corrected, average


def _trained_by_js(scores: ArrayLike, value: jax.Array) -> jax.Array:
  """Returns `value`, with the gradient of `jensen_shannon`."""
  objective = jensen_shannon(scores)
  return lax.stop_gradient(value) + (objective - lax.stop_gradient(objective))
