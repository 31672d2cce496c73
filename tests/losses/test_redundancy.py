"""Losses of the dimensions and of self-distillation against float64 loops, in every place where a loss can run."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import redundancy_reference as reference
from jax import lax
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxssl import losses

RNG = np.random.default_rng(1)
N, WIDTHS = 24, (3, 51)  # Fewer and more than twice as many dimensions as examples.
VIEWS = {d: RNG.normal(size=(2, N, d)) * RNG.uniform(0.3, 2, d) + RNG.normal(size=d) for d in WIDTHS}
OTHERS = {d: RNG.normal(size=(7, d)) for d in WIDTHS}
DIRECTIONS = {d: OTHERS[d] / np.linalg.norm(OTHERS[d], axis=1, keepdims=True) for d in WIDTHS}


def softmax(z):
  return np.array([reference.softmax(row) for row in z])


# name -> (loss(z1, z2, axis_name=None), its reference of float64 arrays).
CASES = {
    'barlow_twins': (functools.partial(losses.barlow_twins, weight=0.3),
                     functools.partial(reference.barlow_twins, weight=0.3)),
    'vicreg': (losses.vicreg, reference.vicreg),
    'variance_hinge': (lambda z1, z2, axis_name=None: losses.variance_hinge(z1, axis_name=axis_name),
                       lambda z1, z2: reference.hinge(z1)),
    'covariance_penalty': (
        lambda z1, z2, axis_name=None: losses.covariance_penalty(z1, axis_name=axis_name),
        lambda z1, z2: reference.covariance(z1)),
    'whitened_mse': (functools.partial(losses.whitened_mse, epsilon=0.05),
                     functools.partial(reference.whitened_mse, epsilon=0.05)),
    'whitened_mse, not normalized': (functools.partial(losses.whitened_mse, epsilon=0.05, normalize=False),
                                     functools.partial(reference.whitened_mse, epsilon=0.05, normalize=False)),
    'sigreg': (
        lambda z1, z2, axis_name=None: losses.sigreg(
            z1, jnp.float32(DIRECTIONS[z1.shape[1]]), axis_name=axis_name),
        lambda z1, z2: reference.sigreg(z1, DIRECTIONS[z1.shape[1]])),
    'negative_cosine': (losses.negative_cosine, reference.negative_cosine),
    'soft_cross_entropy': (
        lambda z1, z2, axis_name=None: losses.soft_cross_entropy(
            z1, jax.nn.softmax(jnp.float32(z2)), temperature=0.5, axis_name=axis_name),
        lambda z1, z2: reference.soft_cross_entropy(z1, softmax(z2), 0.5)),
    'koleo': (lambda z1, z2, axis_name=None: losses.koleo(z1, axis_name=axis_name),
              lambda z1, z2: reference.koleo(z1)),
    'relational': (
        lambda z1, z2, axis_name=None: losses.relational(
            z1, z2, jnp.float32(OTHERS[z1.shape[1]]), temperature=0.3, target_temperature=0.2, axis_name=axis_name),
        lambda z1, z2: reference.relational(z1, z2, OTHERS[z1.shape[1]], 0.3, 0.2)),
    'smooth_l1': (functools.partial(losses.smooth_l1, beta=0.7), functools.partial(reference.smooth_l1, beta=0.7)),
    'smooth_l1, masked': (
        lambda z1, z2, axis_name=None: losses.smooth_l1(z1, z2, mask=z1[:, 0] > z2[:, 0], axis_name=axis_name),
        lambda z1, z2: reference.smooth_l1(z1[z1[:, 0] > z2[:, 0]], z2[z1[:, 0] > z2[:, 0]], 1.0)),
}


@pytest.fixture(params=CASES)
def pair(request):
  return CASES[request.param]


@pytest.mark.parametrize('d', WIDTHS)
def test_equals_the_slow_reference(pair, d):
  loss, slow = pair
  found = loss(*jnp.float32(VIEWS[d]))
  assert found.dtype == jnp.float32 and found.shape == ()
  np.testing.assert_allclose(found, slow(*VIEWS[d]), rtol=1e-5)


@pytest.mark.parametrize('d', WIDTHS)
@pytest.mark.parametrize('name', CASES)
def test_gradients_equal_finite_differences(name, d):
  loss, slow = CASES[name]
  directions = RNG.normal(size=(2, N, d))
  if name == 'relational':
    directions[1] = 0  # Targets have no gradient.
  ahead, behind = (slow(*(VIEWS[d] + step * directions)) for step in (1e-6, -1e-6))
  grads = jax.grad(lambda z1, z2: loss(z1, z2), argnums=(0, 1))(*jnp.float32(VIEWS[d]))
  np.testing.assert_allclose(np.sum(np.float64(grads) * directions), (ahead - behind) / 2e-6, rtol=2e-4, atol=1e-5)


@functools.cache
def expected(name, d):
  """The loss of the whole batch, and the gradient of a shared weight."""
  loss, _ = CASES[name]
  value_and_grad = jax.jit(jax.value_and_grad(lambda w, z1, z2: loss(z1 @ w, z2 @ w)))
  return value_and_grad(shared_weight(d), *jnp.float32(VIEWS[d]))


def shared_weight(d):
  return jnp.eye(d) + 0.1 * jnp.float32(np.random.default_rng(0).normal(size=(d, d)))


# Of examples that do not meet.
MEANS = ('negative_cosine', 'soft_cross_entropy', 'relational', 'smooth_l1', 'smooth_l1, masked')


CONTEXTS = (('pmap', 2), ('shard_map', 8), ('shard_map, unchecked', 2), ('vmap', 8))
# Every loss at every width, and every context, in two of the four combinations; `slow`: in all.
COMBINATIONS = [
    pytest.param(*case, *context, marks=[pytest.mark.slow] * ((i + j) % 2)) for j, context in enumerate(CONTEXTS)
    for i, case in enumerate((name, d) for name in CASES for d in WIDTHS[: 1 if name in MEANS else 2])]


@pytest.mark.parametrize('name, d, context, count', COMBINATIONS)
def test_over_devices(name, d, context, count):
  """The loss of several devices, and the gradient of a shared weight, are those of one."""
  loss, _ = CASES[name]
  weight, views = shared_weight(d), jnp.float32(VIEWS[d])
  whole = lambda w, z1, z2, axis_name=None: loss(z1 @ w, z2 @ w, axis_name=axis_name)

  def local(w, z1, z2):
    value, grad = jax.value_and_grad(functools.partial(whole, axis_name='i'))(w, z1, z2)
    return value, lax.pmean(grad, 'i')

  if context.startswith('shard_map'):
    mesh = jax.make_mesh((count,), ('i',), (AxisType.Auto,), devices=jax.devices()[:count])
    mapped = jax.jit(jax.shard_map(
        local, mesh=mesh, in_specs=(P(), P('i'), P('i')), out_specs=P(), check_vma=context == 'shard_map'))
    values, grads = mapped(weight, *views)
  else:
    mapping = {'pmap': functools.partial(jax.pmap, devices=jax.devices()[:count]), 'vmap': jax.vmap}[context]
    mapped = mapping(local, in_axes=(None, 0, 0), axis_name='i')
    values, grads = mapped(weight, *views.reshape(2, count, N // count, d))
  value, grad = expected(name, d)
  np.testing.assert_allclose(values, np.broadcast_to(value, values.shape), rtol=1e-5)
  scale = np.abs(grad).max()
  np.testing.assert_allclose(grads, np.broadcast_to(grad, grads.shape), rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize('name, d, axis_type', [
    (name, d, axis_type) for name in CASES for d in WIDTHS for axis_type in (AxisType.Auto, AxisType.Explicit)
    if d > N or (name not in MEANS and axis_type == AxisType.Auto)])
def test_under_an_ambient_mesh(name, d, axis_type):
  """Global arrays, split over the devices: the loss and the gradient of the embeddings."""
  loss, _ = CASES[name]
  value_and_grad = jax.value_and_grad(lambda z1, z2: loss(z1, z2), argnums=(0, 1))
  value, grads = value_and_grad(*jnp.float32(VIEWS[d]))
  mesh = jax.make_mesh((4,), ('data',), (axis_type,), devices=jax.devices()[:4])
  with jax.set_mesh(mesh):
    views = jax.device_put(jnp.float32(VIEWS[d]), jax.sharding.NamedSharding(mesh, P(None, 'data')))
    found, found_grads = jax.jit(value_and_grad)(*views)
  np.testing.assert_allclose(found, value, rtol=1e-5)
  np.testing.assert_allclose(np.array(found_grads), grads, rtol=0, atol=2e-5 * np.abs(grads).max())


@pytest.mark.parametrize('dtype', [jnp.bfloat16, jnp.float16])
def test_computes_in_float32(pair, dtype):
  loss, _ = pair
  low = jnp.asarray(VIEWS[3], dtype)
  np.testing.assert_array_equal(loss(*low), loss(*low.astype(jnp.float32)))


@pytest.mark.parametrize('d', WIDTHS)
@pytest.mark.parametrize('collapse', ['zero', 'point', 'line', 'huge', 'tiny'])
def test_is_finite_where_the_embedding_has_collapsed(pair, collapse, d):
  loss, _ = pair
  z = {
      'zero': np.zeros((N, d)), 'point': np.full((N, d), 0.7), 'huge': 1e5 * VIEWS[d][0],
      'line': np.outer(np.linspace(-1, 1, N), np.ones(d)), 'tiny': 1e-20 * VIEWS[d][0]}[collapse]
  value, grads = jax.value_and_grad(lambda z1, z2: loss(z1, z2), argnums=(0, 1))(*jnp.float32([z, z]))
  assert jnp.isfinite(value) and all(jnp.isfinite(grad).all() for grad in grads)


def test_identical_white_views_cost_nothing():
  z = jnp.float32(np.linalg.qr(RNG.normal(size=(64, 9)) - RNG.normal(size=9))[0])
  z = jnp.linalg.qr(z - z.mean(0, keepdims=True))[0] * jnp.sqrt(64.0)  # Of mean 0, covariance 64 / 64.
  np.testing.assert_allclose(losses.barlow_twins(z, z), 0, atol=1e-6)
  np.testing.assert_allclose(losses.vicreg(z, z), 0, atol=1e-6)
  np.testing.assert_allclose(losses.whitened_mse(z, z), 0, atol=1e-6)


def test_sigreg_of_known_distributions():
  """The values of an independent run of the authors' listing: 1.05 for every n, 0.40205 n, and for twice the width."""
  over_seeds = lambda scale, n: np.mean([
      losses.sigreg(scale * jax.random.normal(jax.random.key(seed), (n, 16)),
                    losses.random_directions(jax.random.key(100 + seed), 256, 16)) for seed in range(30)])
  for n in (128, 512):
    assert abs(over_seeds(1.0, n) - 1.05) < 0.1
  np.testing.assert_allclose(over_seeds(2.0, 128), 31.7, rtol=0.05)
  np.testing.assert_allclose(losses.sigreg(jnp.zeros((100, 16)), jnp.eye(16)), 40.205, rtol=1e-5)


def test_cross_correlation():
  z1, z2 = VIEWS[3]
  a, b = reference.standardized(z1, 1e-5), reference.standardized(z2, 1e-5)
  np.testing.assert_allclose(losses.cross_correlation(*jnp.float32([z1, z2])), a.T @ b / N, atol=1e-6)


def test_directions_are_of_length_one():
  directions = losses.random_directions(jax.random.key(0), 500, 3)
  assert directions.shape == (500, 3)
  np.testing.assert_allclose(jnp.linalg.norm(directions, axis=1), 1, rtol=1e-5)
  np.testing.assert_allclose(directions.mean(0), 0, atol=0.1)


@pytest.mark.parametrize('epsilon, iterations', [(0.5, 3), (0.05, 3), (0.3, 10)])
def test_sinkhorn(epsilon, iterations):
  scores = RNG.uniform(-1, 1, size=(N, 5))
  found = losses.sinkhorn(jnp.float32(scores), epsilon=epsilon, iterations=iterations)
  np.testing.assert_allclose(found, reference.sinkhorn(scores, epsilon, iterations), rtol=1e-4, atol=1e-6)
  np.testing.assert_allclose(found.sum(1), 1, rtol=1e-5)
  assert not jax.grad(lambda s: losses.sinkhorn(s)[0, 0])(jnp.float32(scores)).any()
  split = jax.vmap(functools.partial(losses.sinkhorn, epsilon=epsilon, iterations=iterations, axis_name='i'),
                   axis_name='i')(jnp.float32(scores).reshape(3, N // 3, 5))
  np.testing.assert_allclose(split.reshape(N, 5), found, rtol=1e-5, atol=1e-7)


def test_sinkhorn_uses_all_prototypes_where_scores_do_not():
  scores = jnp.float32(RNG.uniform(-0.01, 0.01, size=(40, 4))).at[:, 0].add(50.0)  # exp(50 / 0.05) is no float32.
  codes = losses.sinkhorn(scores, iterations=10)
  np.testing.assert_allclose(codes.sum(0), 10, rtol=1e-3)


@pytest.mark.parametrize('scale', [1e2, 1e6])
def test_sinkhorn_of_huge_scores_is_finite_compiled(scale):
  scores = scale * jax.random.normal(jax.random.key(0), (8, 4))
  codes = jax.jit(functools.partial(losses.sinkhorn, epsilon=0.001))(scores)
  np.testing.assert_allclose(codes.sum(1), 1, rtol=1e-5)


@pytest.mark.parametrize('second', [lambda z: z, jax.nn.relu])
def test_whitening_is_finite_of_a_line_in_many_dimensions(second):
  line = jnp.outer(jax.random.normal(jax.random.key(0), (64,)), jax.random.normal(jax.random.key(1), (1024,)))
  value, gradients = jax.jit(jax.value_and_grad(losses.whitened_mse, argnums=(0, 1)))(line, second(line))
  assert np.isfinite(value) and all(np.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize('call, message', [
    (lambda z: losses.barlow_twins(z, z[:, :2]), r'z2 must have the shape of z1, \[24, 3\], got \[24, 2\]'),
    (lambda z: losses.barlow_twins(z[0], z[0]), r'z1 must have shape \[n, d\]'),
    (lambda z: losses.vicreg(z[:1], z[:1]), 'z must hold at least 2 examples, got 1'),
    (lambda z: losses.whitened_mse(z, z, epsilon=1.5), r'epsilon must be a Python number, in \[0, 1\), got 1.5'),
    (lambda z: losses.sigreg(z, jnp.ones((4, 2))), r'directions must have shape \[m, 3\], got \[4, 2\]'),
    (lambda z: losses.sigreg(z, jnp.ones((24, 4, 3))), r'directions must have shape \[m, 3\], got \[24, 4, 3\]'),
    (lambda z: losses.negative_cosine(z, z.astype(int)), 'target must be a floating-point array, got int32'),
    (lambda z: losses.soft_cross_entropy(z, z, temperature='x'), "temperature must be a number, got 'x'"),
    (lambda z: losses.vicreg(z, z, variance='a'), "variance must be a number, got 'a'"),
    (lambda z: losses.sinkhorn(z, iterations=0), 'iterations must be an integer, at least 1, got 0'),
    (lambda z: losses.sinkhorn(z, iterations=2.5), 'iterations must be an integer, at least 1, got 2.5'),
    (lambda z: losses.sinkhorn(z, epsilon=-1.0), 'epsilon must be a positive Python number, got -1.0'),
    (lambda z: losses.koleo(z[:1]), 'z must hold at least 2 examples, got 1'),
    (lambda z: losses.relational(z, z, jnp.ones((4, 2))), r'others must have shape \[m, 3\], got \[4, 2\]'),
    (lambda z: losses.smooth_l1(z, z, mask=jnp.ones((24, 2), bool)),
     r'mask must be boolean, of the leading axes of \[24, 3\], got bool \[24, 2\]'),
    (lambda z: losses.smooth_l1(z, z, mask=jnp.ones(24)), r'mask must be boolean, .* got float32 \[24\]'),
    (lambda z: losses.smooth_l1(z, z, beta=0.0), 'beta must be a positive Python number, got 0.0'),
])
def test_errors_name_the_argument(call, message):
  with pytest.raises(ValueError, match=message):
    call(jnp.float32(VIEWS[3][0]))
