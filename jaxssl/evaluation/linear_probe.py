"""Linear probes: multinomial logistic regression on frozen features, by L-BFGS on the whole training set."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxssl.evaluation.features import check_finite
from jaxssl.evaluation.subsets import balanced_subset

# Strongest first: each fit starts from the one before.
L2_GRID = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


class Probe(NamedTuple):
  """A linear classifier of standardised features: `classes[argmax((x - mean) / scale @ weight + bias)]`."""

  mean: np.ndarray  # [d]
  scale: np.ndarray  # [d]
  weight: np.ndarray  # [d, c]
  bias: np.ndarray  # [c]
  classes: np.ndarray  # [c]


def predict(probe: Probe, features: np.ndarray) -> np.ndarray:
  """Returns the predicted labels [n] of features [n, d]."""
  x = (np.asarray(features, np.float32) - probe.mean) / probe.scale
  return probe.classes[np.argmax(x @ probe.weight + probe.bias, axis=1)]


def objective(
    params: tuple[jax.Array, jax.Array], x: jax.Array, targets: jax.Array, share: jax.Array, l2: jax.Array
) -> jax.Array:
  """Mean cross-entropy plus l2 / 2 times the squared norm of the weight [d, c]; the bias [c] is free.

  `share` [n] is each example's part in the mean, 1/n for all or 0 for some. scikit-learn's
  `LogisticRegression(C=1 / (n * l2))` minimises the same.
  """
  weight, bias = params
  logits = jnp.matmul(x, weight, precision=jax.lax.Precision.HIGHEST) + bias[None]
  cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, targets)
  return jnp.sum(share * cross_entropy) + 0.5 * l2 * jnp.sum(weight * weight)


def _largest(tree) -> jax.Array:
  return jnp.max(jnp.stack([jnp.max(jnp.abs(leaf)) for leaf in jax.tree.leaves(tree)]))


@jax.jit
def _minimise(params, x, targets, share, l2, tolerance, max_iterations):
  """L-BFGS until the largest gradient entry is below `tolerance` times that at zero weights."""
  loss = lambda params: objective(params, x, targets, share, l2)
  optimizer = optax.lbfgs(
      linesearch=optax.scale_by_zoom_linesearch(max_linesearch_steps=20, initial_guess_strategy='one'))
  value_and_grad = optax.value_and_grad_from_state(loss)
  target = tolerance * _largest(jax.grad(loss)(jax.tree.map(jnp.zeros_like, params)))

  def unfinished(carry):
    _, _, size, iteration = carry
    return (size > target) & (iteration < max_iterations)

  def iterate(carry):
    params, state, _, iteration = carry
    value, grad = value_and_grad(params, state=state)
    updates, state = optimizer.update(grad, state, params, value=value, grad=grad, value_fn=loss)
    return optax.apply_updates(params, updates), state, _largest(optax.tree.get(state, 'grad')), iteration + 1

  return jax.lax.while_loop(unfinished, iterate, (params, optimizer.init(params), jnp.float32(jnp.inf), 0))[0]


def _standardise(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  mean = features.mean(axis=0, dtype=np.float64)
  scale = features.std(axis=0, dtype=np.float64)
  # A constant feature says nothing: it becomes zero instead of amplified rounding.
  return mean.astype(np.float32), np.where(scale > 1e-6 * (1 + np.abs(mean)), scale, np.inf).astype(np.float32)


def fit_path(
    features: np.ndarray,
    labels: np.ndarray,
    l2s: tuple[float, ...],
    *,
    rows: np.ndarray | None = None,
    tolerance: float = 1e-3,
    max_iterations: int = 500,
) -> list[Probe]:
  """Fits one probe for each strength in `l2s`, each starting from the one before; see `fit`.

  `rows` are the indices of the examples to fit, by default all. The others keep their place with no weight, so that a
  fit to a part and one to the whole are one compiled program.
  """
  features = np.asarray(features, np.float32)
  if features.ndim != 2 or len(features) != len(labels):
    raise ValueError(f'features must be [n, d] with n labels, got {list(features.shape)} and {len(labels)} labels')
  check_finite('training examples', features)
  classes, targets = np.unique(labels, return_inverse=True)
  if len(classes) < 2:
    raise ValueError(f'labels must hold at least two classes, got {classes.tolist()}')
  rows = np.arange(len(labels)) if rows is None else rows
  share = np.zeros(len(labels), np.float32)
  share[rows] = 1 / len(rows)
  mean, scale = _standardise(features[rows])
  x, y = jnp.asarray((features - mean) / scale), jnp.asarray(targets, jnp.int32)
  params = (jnp.zeros((x.shape[1], len(classes))), jnp.zeros(len(classes)))
  probes = []
  for l2 in l2s:
    params = _minimise(params, x, y, share, jnp.float32(l2), jnp.float32(tolerance), max_iterations)
    weight, bias = jax.device_get(params)
    probes.append(Probe(mean, scale, weight, bias, classes))
  return probes


def fit(
    features: np.ndarray, labels: np.ndarray, l2: float, *, tolerance: float = 1e-3, max_iterations: int = 500
) -> Probe:
  """Fits multinomial logistic regression on standardised features.

  Args:
    features: [n, d]; standardised here with their own mean and standard deviation.
    labels: [n] integers.
    l2: strength of the penalty on the weights, see `objective`.
    tolerance: the fit ends when no entry of the gradient exceeds this share of the largest one at zero weights.
    max_iterations: of L-BFGS, after which the fit ends in any case.

  Raises:
    ValueError: if features and labels do not fit, or there are fewer than two classes.
    FloatingPointError: if a feature is NaN or infinite.
  """
  return fit_path(features, labels, (l2,), tolerance=tolerance, max_iterations=max_iterations)[0]


def choose_l2(
    features: np.ndarray,
    labels: np.ndarray,
    *,
    grid: tuple[float, ...] = L2_GRID,
    validation: float = 0.2,
    seed: int = 0,
) -> float:
  """Returns the strength in `grid` with the best accuracy on a held-out share of every class (ties: the strongest).

  The test set has no part in it. Where `validation` of so few labels is nothing, half of every class is held out; where
  no class has two examples, there is nothing to choose by, and it is the middle of the grid. A grid of one is that one.
  """
  if not grid:
    raise ValueError('grid must hold at least one strength, got none')
  if len(grid) == 1:
    return grid[0]
  labels = np.asarray(labels)
  grid = tuple(sorted(grid, reverse=True))
  kept = balanced_subset(labels, 1 - validation, seed)
  if len(kept) == len(labels):
    kept = balanced_subset(labels, 0.5, seed)
  held_out = np.setdiff1d(np.arange(len(labels)), kept)
  if not len(held_out):
    return grid[len(grid) // 2]
  # A tenth of the final precision is enough to rank them.
  probes = fit_path(features, labels, grid, rows=kept, tolerance=1e-2)
  return grid[int(np.argmax([np.mean(predict(probe, features[held_out]) == labels[held_out]) for probe in probes]))]


def accuracy(
    train: np.ndarray,
    train_labels: np.ndarray,
    test: np.ndarray,
    test_labels: np.ndarray,
    *,
    l2: float | None = None,
    grid: tuple[float, ...] = L2_GRID,
    validation: float = 0.2,
    seed: int = 0,
) -> tuple[float, float]:
  """Returns the test accuracy of a linear probe and the strength of its penalty.

  Without `l2`, `choose_l2` picks it from `grid` within the training set; the probe is then fitted on all of that. A
  test example whose class is not in the training set counts as an error.

  Args:
    train: features [n, d].
    train_labels: [n] integers.
    test: features [m, d].
    test_labels: [m] integers.
    l2: strength of the penalty; None to choose it.
    grid: strengths to choose from.
    validation: share of every training class held out for the choice.
    seed: chooses that share.
  """
  if len(test) != len(test_labels):
    raise ValueError(f'test has {len(test)} rows but test_labels {len(test_labels)}')
  if l2 is None:
    l2 = choose_l2(train, train_labels, grid=grid, validation=validation, seed=seed)
  probe = fit(train, train_labels, l2)
  check_finite('test examples', test)
  return float(np.mean(predict(probe, test) == np.asarray(test_labels))), float(l2)
