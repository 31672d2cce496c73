"""Mutual information of paired samples, by critics that tell pairs from what does not belong together."""

import dataclasses
import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import losses
from jaxssl.models import LogBaseline

# Estimator -> its parameter, where it has one: `clip` of SMILE, else alpha. None: the least alpha that is a bound.
PARAMETERS = {'alpha_cpc': 0.01, 'ml_cpc': None, 'smile': 5.0, 'alpha_tuba': 0.01}
ESTIMATORS = ('info_nce', 'alpha_cpc', 'ml_cpc', 'dv', 'nwj', 'js', 'smile', 'mine', 'tuba', 'alpha_tuba')


@dataclasses.dataclass(frozen=True)
class Estimator:
  """One of `losses.mutual_information`, with its parameter: 'smile:5', 'ml_cpc:0.1', 'nwj'.

  Attributes:
    name: one of `ESTIMATORS`.
    parameter: `clip` of SMILE, alpha of the others that have one; None for `ml_cpc`: the least that is a bound.
  """

  name: str
  parameter: float | None = None

  @classmethod
  def parse(cls, text: str) -> 'Estimator':
    """Reads 'name' or 'name:parameter'."""
    name, colon, parameter = text.partition(':')
    if name not in ESTIMATORS:
      raise ValueError(f'estimators must be of {", ".join(ESTIMATORS)}, found {name!r}.')
    if not colon:
      return cls(name, PARAMETERS.get(name))
    if name not in PARAMETERS:
      raise ValueError(f'{name} has no parameter, found {text!r}.')
    try:
      value = float(parameter)
    except ValueError:
      value = math.nan
    if not value > 0 or (name == 'alpha_tuba' and value > 1):
      raise ValueError(f'the parameter of {name} must be {"in (0, 1]" if name == "alpha_tuba" else "positive"}, '
                       f'found {text!r}.')
    return cls(name, value)

  def __str__(self) -> str:
    return self.name if self.parameter is None else f'{self.name}:{self.parameter:g}'

  def value_at(self, n: int) -> float | None:
    """Returns the parameter at a batch of n."""
    return n / (n * (n - 1) + 1) if self.name == 'ml_cpc' and self.parameter is None else self.parameter

  def ceiling(self, n: int) -> float:
    """Returns what the estimate never exceeds at a batch of n, in nats; infinity without such."""
    if self.name in ('info_nce', 'alpha_cpc', 'ml_cpc'):
      return math.log(n / (self.value_at(n) or 1))
    return math.log((n - 1) / self.parameter) if self.name == 'alpha_tuba' and self.parameter else math.inf

  def is_bound(self, n: int) -> bool:
    """Returns whether the expected estimate of a batch of n is never above the truth."""
    if self.name == 'alpha_cpc':
      return (self.parameter or 1) >= 1
    if self.name == 'ml_cpc':
      return n / (n * (n - 1) + 1) <= (self.value_at(n) or 1) <= 1
    return self.name not in ('dv', 'mine', 'smile')

  def __call__(self, scores: jax.Array, log_baseline: Any, moving_average: Any) -> tuple[jax.Array, Any]:
    """Returns the estimate of scores [n, n], which training is to maximise, and the new moving average."""
    function = getattr(losses.mutual_information, self.name)
    if self.name == 'mine':
      return function(scores, moving_average)
    arguments = [log_baseline] if self.has_baseline else []
    arguments += [self.value_at(len(scores))] if self.name in PARAMETERS else []
    return function(scores, *arguments), moving_average

  @property
  def has_baseline(self) -> bool:
    return self.name in ('tuba', 'alpha_tuba')


class Fit(NamedTuple):
  """A critic in training: its parameters (and the baseline's), the optimizer's state, MINE's moving average."""
  params: Any
  optimizer: optax.OptState
  moving_average: jax.Array


def init(
    key: jax.Array, x: jax.Array, y: jax.Array, estimator: Estimator, critic: nn.Module,
    optimizer: optax.GradientTransformation,
) -> Fit:
  """Returns a fresh critic for x [n, ...] and y [m, ...]."""
  params = {'critic': critic.init(key, x[:1], y[:1])}
  if estimator.has_baseline:
    params['baseline'] = LogBaseline().init(jax.random.fold_in(key, 1), x[:1])
  return Fit(params, optimizer.init(params), jnp.float32(0))


def scores(params: Any, x: jax.Array, y: jax.Array, critic: nn.Module) -> tuple[jax.Array, Any]:
  """Returns the critic's log-scores [n, n] and the log-baseline [n], 0 where there is none."""
  baseline = LogBaseline().apply(params['baseline'], x) if 'baseline' in params else 0.0
  return critic.apply(params['critic'], x, y), baseline


def step(
    fit: Fit, x: jax.Array, y: jax.Array, estimators: tuple[Estimator, ...], critic: nn.Module,
    optimizer: optax.GradientTransformation,
) -> tuple[Fit, jax.Array]:
  """One step up the first estimator; returns the new fit and what each estimator says of the batch before it."""
  first, *others = estimators

  def loss(params):
    found, baseline = scores(params, x, y, critic)
    estimate, average = first(found, baseline, fit.moving_average)
    values = [estimate, *(other(found, baseline, fit.moving_average)[0] for other in others)]
    return -estimate, (jnp.stack(values), average)

  gradient, (values, average) = jax.grad(loss, has_aux=True)(fit.params)
  updates, state = optimizer.update(gradient, fit.optimizer, fit.params)
  return Fit(optax.apply_updates(fit.params, updates), state, average), values
