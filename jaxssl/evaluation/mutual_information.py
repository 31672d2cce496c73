"""Mutual information of paired samples, by critics that tell pairs from what does not belong together.

`estimate` is for arrays. What it is made of serves other data too (benchmarks/mutual_information.py draws every batch
afresh): `Estimator`, one of `losses.mutual_information` with its parameter, and `init` and `step` of its critic.
"""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxssl import losses
from jaxssl.evaluation import table
from jaxssl.evaluation.table import Row
from jaxssl.models import ConcatenatedCritic, LogBaseline, SeparableCritic

# Estimator -> its parameter, where it has one: `clip` of SMILE, else alpha. None: the least alpha that is a bound.
PARAMETERS = {'alpha_cpc': 0.01, 'ml_cpc': None, 'smile': 5.0, 'alpha_tuba': 0.01}
CRITICS = {'separable': SeparableCritic, 'concatenated': ConcatenatedCritic}
EVALUATIONS = 30  # How often the critic is judged on the validation part.
MIN_BATCH = 8
NEAR = 0.9  # Share of its ceiling from which an estimator says little.
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
      raise ValueError(f'estimators must be of {", ".join(ESTIMATORS)}, got {name!r}')
    if not colon:
      return cls(name, PARAMETERS.get(name))
    if name not in PARAMETERS:
      raise ValueError(f'{name} has no parameter, got {text!r}')
    try:
      value = float(parameter)
    except ValueError:
      value = math.nan
    if not value > 0 or (name == 'alpha_tuba' and value > 1):
      raise ValueError(f'the parameter of {name} must be {"in (0, 1]" if name == "alpha_tuba" else "positive"}, '
                       f'got {text!r}')
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
    return 1 + math.log((n - 1) / self.parameter) if self.name == 'alpha_tuba' and self.parameter else math.inf

  def is_bound(self, n: int) -> bool:
    """Returns whether the expected estimate of a batch of n is never above the truth."""
    if self.name == 'alpha_cpc':
      return (self.parameter or 1) >= 1
    if self.name == 'ml_cpc':
      return (self.value_at(n) or 1) >= n / (n * (n - 1) + 1)
    return self.name not in ('dv', 'mine', 'smile')

  def __call__(self, scores: jax.Array, log_baseline: Any, moving_average: Any) -> tuple[jax.Array, Any]:
    """Returns the estimate of scores [n, n], which training is to maximise, and the new moving average."""
    function = getattr(losses.mutual_information, self.name)
    if self.name == 'mine':
      return function(scores, moving_average)
    arguments = [log_baseline] if self.has_baseline else []
    arguments += [self.value_at(len(scores))] if self.name in PARAMETERS else []
    return function(scores, *arguments), moving_average

  def objective(self, scores: jax.Array, log_baseline: Any, moving_average: Any) -> jax.Array:
    """Returns what training maximises: the estimate, but for `js` and `smile`, which are valued by another formula."""
    if self.name in ('js', 'smile'):
      return losses.mutual_information.jensen_shannon(scores)
    return self(scores, log_baseline, moving_average)[0]

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


def scores(params: Any, x: jax.Array, y: jax.Array, critic: nn.Module) -> tuple[Any, Any]:
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


class Estimate(NamedTuple):
  """What one estimator says of held-out pairs.

  Attributes:
    estimator: its name, with its parameter.
    nats: mean over the batches of the test part; nan if training broke down at once.
    error: bootstrap standard error over these batches; nan for a single batch. It does not cover what another critic,
      from another seed, would have found.
    ceiling: what the estimator never exceeds at this batch size, in nats; inf without such.
    is_bound: whether it is, in expectation, a lower bound on the mutual information.
    note: what to beware of, '' if nothing.
    best_step: the step of training whose critic was chosen, on the validation part.
    batch_size: pairs a batch.
    steps: [k], when the critic was judged.
    curve: [k], the estimate on the validation part at these steps.
    curve_error: [k], its standard error.
  """

  estimator: str
  nats: float
  error: float
  ceiling: float
  is_bound: bool
  note: str
  best_step: int
  batch_size: int
  steps: np.ndarray
  curve: np.ndarray
  curve_error: np.ndarray


def estimate(
    x: Any,
    y: Any,
    *,
    estimators: Sequence[str] = ('info_nce', 'ml_cpc', 'nwj', 'smile:5'),
    critic: str | nn.Module = 'separable',
    steps: int = 3000,
    batch_size: int | None = None,
    learning_rate: float = 5e-4,
    held_out: float = 0.2,
    seed: int = 0,
) -> tuple[Estimate, ...]:
  """Estimates the mutual information of x and y from n independent pairs.

  The pairs are split at random in a training part, a validation part and a test part. Each estimator trains a critic
  of its own on the first by Adam; the critic that does best on the second by what it is trained by, of `EVALUATIONS`
  along the way, is the one whose estimate on the third is returned. Features are standardised by the training part;
  constant ones stay 0.

  Lower bounds hold for the test part, since neither training nor choice has seen it; how far below the truth they
  are depends on the critic, on n and on the ceiling. Pairs that are not independent (several views of one image, frames
  of one recording) break the split: keep one of each, or estimates come out too high.

  Args:
    x: [n, ...] or [n], numbers of any type; classes as `one_hot`.
    y: [n, ...] or [n], row i belongs to row i of `x`.
    estimators: of `ESTIMATORS`, each a name or 'name:parameter'.
    critic: 'separable', 'concatenated' (n^2 passes of its network a batch: stronger and far slower), or a module of
      x [n, dx] and y [m, dy] that returns log-scores [n, m].
    steps: of training, rounded up to a multiple of `EVALUATIONS`.
    batch_size: pairs a batch, in training and in the estimate, whose ceiling it sets; None: 128, or less where the test
      part would not make four batches.
    learning_rate: of Adam.
    held_out: share of the pairs in the validation part, and as many in the test part.
    seed: of the split, the critics and the batches.

  Returns:
    An `Estimate` for each estimator, in their order.

  Raises:
    ValueError: naming the argument that is wrong, or how many pairs it takes.
  """
  parsed = [Estimator.parse(text) for text in estimators]
  if not parsed:
    raise ValueError('estimators must name at least one')
  if steps < 1 or not learning_rate > 0:
    raise ValueError(f'steps and learning_rate must be positive, got {steps} and {learning_rate}')
  module = _critic(critic)
  x, y = _numbers('x', x), _numbers('y', y)
  if len(x) != len(y):
    raise ValueError(f'x and y must be pairs, of one length, got {len(x):,} and {len(y):,}')
  rng = np.random.default_rng(seed)
  parts, batch_size = _split(len(x), held_out, batch_size, rng)
  x, y = (jnp.asarray(_standardised(array, parts[0])) for array in (x, y))
  every = -(-steps // min(steps, EVALUATIONS))
  train = _batches(parts[0], batch_size, min(steps, EVALUATIONS) * every, rng).reshape(-1, every, batch_size)
  held = [_batches(part, batch_size, len(part) // batch_size, rng) for part in parts[1:]]
  for each in parsed:
    _check_alpha(each, batch_size)
  fit = lambda each: _fit(jax.random.key(seed), x, y, train, *held, each, module, learning_rate)
  return tuple(_summary(each, batch_size, every, rng, *map(np.asarray, fit(each))) for each in parsed)


def one_hot(labels: Any) -> np.ndarray:
  """Returns class numbers, or names, [n] as float32 [n, number of classes], for `estimate`.

  Raises:
    ValueError: if `labels` are not of shape [n], or each is a class of its own.
  """
  labels = np.asarray(labels)
  if labels.ndim != 1:
    raise ValueError(f'labels must have shape [n], got {list(labels.shape)}')
  names, numbers = np.unique(labels, return_inverse=True)
  if len(names) == len(labels):
    raise ValueError(f'labels must be of classes, got {len(names):,} different ones in {len(labels):,} examples')
  return np.eye(len(names), dtype=np.float32)[numbers]


def _critic(critic: str | nn.Module) -> nn.Module:
  if isinstance(critic, nn.Module):
    return critic
  if critic not in CRITICS:
    raise ValueError(f'critic must be {", ".join(CRITICS)} or a module, got {critic!r}')
  return CRITICS[critic]()


def _numbers(name: str, value: Any) -> np.ndarray:
  """Returns `value` as float32 [n, d]; raises unless it holds finite real numbers."""
  array = np.asarray(value)
  if array.dtype.kind not in 'biuf' and array.dtype != jnp.bfloat16:
    raise ValueError(f'{name} must hold real numbers, got {array.dtype}')
  if array.ndim == 0 or not array.size:
    raise ValueError(f'{name} must have shape [n, ...], none of it 0, got {list(array.shape)}')
  array = array.reshape(len(array), -1)
  # Large integers first lose their mean in float64, or float32 could not tell them apart.
  array = array if array.dtype == np.float32 else array.astype(np.float64)
  bad = ~np.isfinite(array).all(axis=1)
  if bad.any():
    raise ValueError(f'{name} must be finite, got nan or infinity in {bad.sum():,} of {len(array):,} rows, the first '
                     f'of them row {int(np.argmax(bad))}')
  return array


def _split(
    n: int, held_out: float, batch_size: int | None, rng: np.random.Generator
) -> tuple[list[np.ndarray], int]:
  """Returns the indices of the training, validation and test part, and the batch size."""
  if not 0 < held_out < 0.5:
    raise ValueError(f'held_out must be above 0 and below 0.5, got {held_out}')
  part = int(held_out * n + 1e-9)  # Of 0.29 * 100, 29.
  if batch_size is None:
    batch_size = max(MIN_BATCH, min(128, part // 4))
  elif batch_size < 2:
    raise ValueError(f'batch_size must be at least 2, got {batch_size}')
  if min(part, n - 2 * part) < batch_size:
    needed = math.ceil(max(batch_size / held_out, batch_size / (1 - 2 * held_out)) - 1e-9)
    raise ValueError(f'too few pairs: batches of {batch_size} with held_out={held_out:g} need at least {needed:,}, '
                     f'got {n:,}')
  order = rng.permutation(n)
  return [order[2 * part:], order[:part], order[part:2 * part]], batch_size


def _standardised(array: np.ndarray, train: np.ndarray) -> np.ndarray:
  """Returns features of mean 0 and deviation 1 on the training part, float32; those that are constant there are 0."""
  first = array[train[:1]]
  constant = np.all(array[train] == first, axis=0)
  # Less the first example, which takes a large offset off before anything is rounded, and of unit size at most.
  moved = array.astype(np.float64) - first.astype(np.float64)
  largest = np.max(np.abs(moved[train]), axis=0)
  moved = moved / np.where(constant, 1, largest)
  mean, scale = np.mean(moved[train], axis=0), np.std(moved[train], axis=0)
  return np.where(constant, 0, (moved - mean) / np.where(constant, 1, scale)).astype(np.float32)


def _batches(part: np.ndarray, size: int, count: int, rng: np.random.Generator) -> np.ndarray:
  """Returns `count` batches [count, size] of indices, in epochs: none twice in a batch, where its pair would differ."""
  whole = len(part) // size
  epochs = [rng.permutation(part)[:whole * size].reshape(whole, size) for _ in range(-(-count // whole))]
  return np.concatenate(epochs)[:count].astype(np.int32)


def _check_alpha(estimator: Estimator, n: int) -> None:
  if estimator.name in ('alpha_cpc', 'ml_cpc') and not (estimator.value_at(n) or 0) < n:
    raise ValueError(f'the parameter of {estimator.name} must lie below the batch size, {n}, got {estimator}')


@functools.partial(jax.jit, static_argnames=('estimator', 'critic', 'learning_rate'))
def _fit(key, x, y, train, validation, test, estimator, critic, learning_rate):
  """Returns the number of the best evaluation, the estimates of the validation batches [k, v] and of the test's [t].

  `train` [k, s, b], `validation` [v, b] and `test` [t, b] are indices of batches.
  """
  optimizer = optax.adam(learning_rate)

  def judge(fit, batch):
    found = *scores(fit.params, x[batch], y[batch], critic), fit.moving_average
    return estimator.objective(*found), estimator(*found)[0]

  def advance(carry, batches):
    fit, best, best_objective = carry
    fit, _ = jax.lax.scan(lambda fit, i: step(fit, x[i], y[i], (estimator,), critic, optimizer), fit, batches)
    objectives, estimates = jax.lax.map(lambda batch: judge(fit, batch), validation)
    objective = jnp.mean(objectives)
    better = objective > best_objective  # Never of nan: a critic that broke is not chosen.
    best = jax.tree.map(lambda new, old: jnp.where(better, new, old), fit, best)
    return (fit, best, jnp.where(better, objective, best_objective)), (better, estimates)

  fit = init(key, x, y, estimator, critic, optimizer)
  (_, best, _), (better, curve) = jax.lax.scan(advance, (fit, fit, -jnp.inf), train)
  chosen = jnp.max(jnp.where(better, jnp.arange(len(train)), -1))
  return chosen, curve, jax.lax.map(lambda batch: judge(best, batch)[1], test)


def _summary(estimator, batch_size, every, rng, chosen, curve, test) -> Estimate:
  """Returns the `Estimate` of the test batches' estimates [t], after those of validation [k, v]."""
  means = test[rng.integers(len(test), size=(1000, len(test)))].mean(axis=1)
  nats, ceiling = float(np.mean(test)) if chosen >= 0 else math.nan, estimator.ceiling(batch_size)
  deviation = np.std(curve, axis=1, ddof=1) if curve.shape[1] > 1 else np.full(len(curve), np.nan)
  return Estimate(
      str(estimator), nats, float(np.std(means)) if len(test) > 1 and chosen >= 0 else math.nan, ceiling,
      estimator.is_bound(batch_size), _note(estimator, nats, batch_size), int(chosen + 1) * every, batch_size,
      every * np.arange(1, len(curve) + 1), curve.mean(axis=1), deviation / curve.shape[1] ** 0.5)


def _note(estimator: Estimator, nats: float, n: int) -> str:
  """Returns what to beware of in an estimate."""
  ceiling = estimator.ceiling(n)
  if not math.isfinite(nats):
    return 'not finite: training broke down, take another estimator.'
  notes = []
  if not estimator.is_bound(n):
    notes.append('no lower bound, may exceed the truth.')
  if nats > NEAR * ceiling:
    alpha = estimator.value_at(n)
    formula = 'log n' if alpha is None else '1 + log((n - 1) / alpha)' if estimator.has_baseline else 'log(n / alpha)'
    way_out = 'a larger batch, ml_cpc with a smaller alpha or smile'
    if estimator.name == 'ml_cpc' and estimator.parameter is None:
      way_out = 'a larger batch or smile'
    notes.append(f'cannot exceed {formula} = {ceiling:.2f} nats at a batch of {n}: use {way_out}.')
  return ' '.join(notes)


def rows(estimates: Sequence[Estimate]) -> list[Row]:
  """Returns the estimates as rows of results.json, without their curves; None for what is infinite or unknown."""
  finite = lambda value: value if math.isfinite(value) else None
  return [{'protocol': 'mutual_information', 'estimator': e.estimator, 'metric': 'nats', 'value': finite(e.nats),
           'error': finite(e.error), 'ceiling': finite(e.ceiling), 'is_bound': e.is_bound, 'note': e.note,
           'step': e.best_step, 'batch_size': e.batch_size} for e in estimates]


def format(estimates: Sequence[Estimate]) -> str:
  """Returns the estimates as aligned plain text, a line an estimator, and what to beware of below."""
  cells = [['estimator', 'nats', 'bits', 'ceiling, nats', 'lower bound']]
  for e in estimates:
    in_units = (f'{e.nats / unit:.2f}' + (f' ± {e.error / unit:.2f}' if math.isfinite(e.error) else '')
                for unit in (1, math.log(2)))
    cells.append([e.estimator, *in_units, f'{e.ceiling:.2f}' if math.isfinite(e.ceiling) else 'none',
                  'yes' if e.is_bound else 'no'])
  notes = [f'{e.estimator}: {e.note}' for e in estimates if e.note]
  return '\n'.join([*table.aligned(cells), *notes])
