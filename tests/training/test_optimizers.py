"""Each optimizer against its update rule in NumPy, in float64, over several steps of a changing learning rate."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxssl.training import optimizers

STEPS = 5
SHAPES = {'conv': (3, 3, 2, 4), 'dense': (4, 5), 'zero': (3, 2), 'bias': (5,), 'scale': (2, 4), 'temperature': ()}
EXCLUDED = {'bias', 'scale', 'temperature'}


def schedule(step):
  return 0.3 * (step + 1) / (1 + 0.2 * step**2)


def problem():
  """Returns parameters and STEPS gradients: 'zero' starts at zero, 'dense' has a zero gradient at the second step."""
  rng = np.random.default_rng(0)
  params = {name: rng.normal(size=shape) for name, shape in SHAPES.items()}
  params['zero'] = np.zeros(SHAPES['zero'])
  grads = [{name: rng.normal(size=shape) for name, shape in SHAPES.items()} for _ in range(STEPS)]
  grads[1]['dense'] = np.zeros(SHAPES['dense'])
  return params, grads


def run(optimizer, params, grads):
  """Returns the parameters after every step, computed in float64."""
  with jax.enable_x64(True):
    params = jax.tree.map(jnp.asarray, params)
    state, update, history = optimizer.init(params), jax.jit(optimizer.update), []
    for grad in grads:
      updates, state = update(jax.tree.map(jnp.asarray, grad), state, params)
      params = optax.apply_updates(params, updates)
      history.append(jax.tree.map(np.asarray, params))
  return history


def assert_same(got, want, rtol=1e-10):
  for a, b in zip(got, want, strict=True):
    for name in b:
      assert a[name].dtype == np.float64
      np.testing.assert_allclose(a[name], b[name], rtol=rtol, atol=1e-12, err_msg=name)


def follow(rule, params, grads):
  """Applies `rule(name, w, g, lr, memory, step) -> w` to every parameter."""
  memory = {name: {} for name in params}
  history = []
  for step, grad in enumerate(grads):
    params = {name: rule(name, w, grad[name], schedule(step), memory[name], step) for name, w in params.items()}
    history.append(params)
  return history


def trust(w, d, coefficient=1.0):
  norms = np.linalg.norm(w.ravel()), np.linalg.norm(d.ravel())
  return coefficient * norms[0] / norms[1] if all(norms) else 1.0


def adam(g, memory, step, eps, b1=0.9, b2=0.99):
  memory['m'] = b1 * memory.get('m', 0) + (1 - b1) * g
  memory['v'] = b2 * memory.get('v', 0) + (1 - b2) * g**2
  return memory['m'] / (1 - b1 ** (step + 1)) / (np.sqrt(memory['v'] / (1 - b2 ** (step + 1))) + eps)


@pytest.mark.parametrize('nesterov', [False, True])
@pytest.mark.parametrize('decay', [0.0, 0.01])
def test_lars(nesterov, decay):
  def rule(name, w, g, lr, memory, step):
    d = g if name in EXCLUDED else g + decay * w
    push = lr * (1.0 if name in EXCLUDED else trust(w, d, 0.001)) * d
    memory['v'] = 0.9 * memory.get('v', 0) + push
    return w - (0.9 * memory['v'] + push if nesterov else memory['v'])

  optimizer = optimizers.lars(schedule, momentum=0.9, nesterov=nesterov, weight_decay=decay)
  assert_same(run(optimizer, *problem()), follow(rule, *problem()))


@pytest.mark.parametrize('nesterov', [False, True])
def test_sgd(nesterov):
  def rule(name, w, g, lr, memory, step):
    d = g if name in EXCLUDED else g + 0.02 * w
    memory['v'] = 0.8 * memory.get('v', 0) + d
    return w - lr * (0.8 * memory['v'] + d if nesterov else memory['v'])

  optimizer = optimizers.sgd(schedule, momentum=0.8, nesterov=nesterov, weight_decay=0.02)
  assert_same(run(optimizer, *problem()), follow(rule, *problem()))


def test_adamw():
  def rule(name, w, g, lr, memory, step):
    return w - lr * (adam(g, memory, step, 1e-8) + (0 if name in EXCLUDED else 0.05 * w))

  optimizer = optimizers.adamw(schedule, b2=0.99, weight_decay=0.05)
  assert_same(run(optimizer, *problem()), follow(rule, *problem()))


def test_lamb():
  def rule(name, w, g, lr, memory, step):
    d = adam(g, memory, step, 1e-6)
    if name in EXCLUDED:
      return w - lr * d
    d = d + 0.05 * w
    return w - lr * trust(w, d) * d

  optimizer = optimizers.lamb(schedule, b2=0.99, weight_decay=0.05)
  assert_same(run(optimizer, *problem()), follow(rule, *problem()))


def test_rmsprop():
  def rule(name, w, g, lr, memory, step):
    d = g if name in EXCLUDED else g + 0.05 * w
    memory['v'] = 0.8 * memory.get('v', 0) + 0.2 * d**2
    return w - lr * d / (np.sqrt(memory['v']) + 1e-3)

  optimizer = optimizers.rmsprop(schedule, decay=0.8, eps=1e-3, weight_decay=0.05)
  assert_same(run(optimizer, *problem()), follow(rule, *problem()))


def test_exclusion_in_a_network():
  class Network(nn.Module):
    @nn.compact
    def __call__(self, x):
      x = nn.Conv(4, (3, 3), name='conv')(x)
      x = nn.BatchNorm(use_running_average=True, name='norm')(x)
      stacked = self.param('scale', nn.initializers.ones, (2, 4))
      token = self.param('token', nn.initializers.ones, (3,))
      positions = self.param('positions', nn.initializers.ones, (2, 3))
      return nn.Dense(3, name='head')(x.mean((1, 2))) + stacked.sum() + token[None] + positions[:1]

  params = jax.eval_shape(Network().init, jax.random.key(0), jnp.zeros((2, 8, 8, 1)))['params']
  assert optimizers.adapted(params) == {
      'conv': {'kernel': True, 'bias': False}, 'norm': {'scale': False, 'bias': False},
      'head': {'kernel': True, 'bias': False}, 'scale': False, 'token': False,
      'positions': False}
  assert optimizers.adapted(np.zeros((2, 2))) is True
  assert optimizers.adapted([np.zeros((2, 2)), np.zeros(2)]) == [True, False]


@pytest.mark.parametrize('name', ['sgd', 'adamw', 'lars', 'lamb', 'rmsprop'])
def test_accumulated_steps_are_one_step_on_the_mean_gradient(name):
  params, _ = problem()
  rng = np.random.default_rng(1)
  grads = [{key: rng.normal(size=shape) for key, shape in SHAPES.items()} for _ in range(6)]
  means = [jax.tree.map(lambda *g: np.mean(g, 0), *grads[i:i + 3]) for i in (0, 3)]
  make = getattr(optimizers, name)
  got = run(make(schedule, weight_decay=0.1, accumulate_steps=3, clip_norm=2.0), params, grads)
  want = run(make(lambda update: schedule(3 * update + 2), weight_decay=0.1, clip_norm=2.0), params, means)
  # optax.MultiSteps holds the mean in float32.
  assert_same(got, [params, params, want[0], want[0], want[0], want[1]], rtol=2e-6)


def test_clipping_scales_the_global_norm():
  params, grads = problem()
  norm = np.sqrt(sum((g**2).sum() for g in grads[0].values()))
  for limit in (0.5, 2 * norm):
    moved = run(optimizers.sgd(1.0, momentum=0.0, clip_norm=limit), params, grads[:1])[0]
    factor = min(1.0, limit / norm)
    assert_same([moved], [{name: params[name] - factor * grads[0][name] for name in params}])


@pytest.mark.parametrize('change, message', [
    ({'clip_norm': 0.0}, 'clip_norm must be positive or None: got 0.0'),
    ({'accumulate_steps': 0}, 'accumulate_steps must be positive: got 0'),
])
def test_errors(change, message):
  with pytest.raises(ValueError, match=message):
    optimizers.lars(0.1, **change)


def test_weight_decay_may_be_a_schedule():
  """Of one that is constant nothing changes; else it is that of the step."""
  params, grads = problem()
  for make in (optimizers.adamw, optimizers.sgd, optimizers.lars, optimizers.lamb, optimizers.rmsprop):
    fixed = run(make(0.1, weight_decay=0.3), params, grads)
    assert_same(run(make(0.1, weight_decay=lambda step: 0.3), params, grads), fixed)
  decays = lambda step: 0.5 * step
  got = run(optimizers.sgd(0.1, momentum=0.0, weight_decay=decays), params, grads)
  want = np.float64(params['dense'])
  for i, grad in enumerate(grads):
    want = want - 0.1 * (grad['dense'] + 0.5 * i * want)
    np.testing.assert_allclose(got[i]['dense'], want, rtol=1e-6)


def test_sgd_can_decay_everything():
  params, grads = problem()
  got = run(optimizers.sgd(0.1, momentum=0.0, weight_decay=0.2, decay_all=True), params, grads[:1])
  for name in SHAPES:
    np.testing.assert_allclose(got[0][name], params[name] - 0.1 * (grads[0][name] + 0.2 * params[name]), rtol=1e-10)


def test_lars_can_have_another_rate_for_what_is_excluded():
  params, grads = problem()
  one, other = (run(optimizers.lars(0.1, excluded_rate=rate), params, grads) for rate in (1.0, 0.25))
  for name in SHAPES:
    moved = [history[-1][name] - params[name] for history in (one, other)]
    np.testing.assert_allclose(moved[1], moved[0] * (0.25 if name in EXCLUDED else 1), rtol=1e-9, atol=1e-12)
