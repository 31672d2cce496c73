"""Multi-label CPC against float64 loops over its formula, and the bounds on given scores."""

import functools

import contrastive_reference as reference
import cpc_reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import losses
from jaxssl.losses import _choice

RNG = np.random.default_rng(0)
FORMS = ('dense', 'tiled')
OWN = {'dense': ('views', 'batch', 'bank', 'own'), 'tiled': ('views', 'batch', 'bank')}  # 'own' is always dense.
KINDS = [(kind, form) for form, kinds in OWN.items() for kind in kinds]


def loss_of(kind, a, b, negatives, temperature, alpha, **settings):
  """The loss of two [n, d] arrays, and of negatives where this kind has any; slow without an implementation."""
  module = losses if 'implementation' in settings else reference
  settings |= {'temperature': temperature, 'alpha': alpha}
  if kind == 'views':
    return module.multi_label_nt_xent(a, b, **settings)
  return module.multi_label_info_nce(a, b, negatives, **settings)


COMPILED = {
    (kind, form): jax.jit(jax.value_and_grad(
        functools.partial(loss_of, kind, implementation=form), argnums=(0, 1, 2, 3, 4)))
    for kind, form in KINDS}


def arrays_of(kind, n=7, d=8, m=6):
  a, noise = np.random.default_rng(n).normal(size=(2, n, d))
  negatives = {'bank': (m, d), 'own': (n, m, d)}.get(kind)
  return a, a + noise, None if negatives is None else np.random.default_rng(m).normal(size=negatives)


def float32(*arrays):
  return jax.tree.map(jnp.float32, arrays)


def check(kind, form, arrays, temperature, alpha):
  """Checks the value, and the derivatives along random directions, of every argument by itself."""
  arguments = [*arrays, temperature, alpha]
  rounded = [np.float64(each) for each in float32(*arrays[:2])] + [
      None if arrays[2] is None else np.float64(jnp.float32(arrays[2])), temperature, alpha]
  value, grads = COMPILED[kind, form](*float32(*arguments))
  assert value.dtype == jnp.float32 and value.shape == ()
  np.testing.assert_allclose(value, loss_of(kind, *rounded), rtol=1e-6, atol=5e-7 / temperature)
  for i, grad in enumerate(grads):
    if grad is None:
      continue
    step = 1e-6 * min(temperature, 1) * (alpha if i == 4 else 1)
    direction = np.random.default_rng(i).normal(size=np.shape(grad)) if i < 3 else 1.0
    moved = lambda step, i=i, direction=direction: [*rounded[:i], rounded[i] + step * direction, *rounded[i + 1 :]]
    expected = (loss_of(kind, *moved(step)) - loss_of(kind, *moved(-step))) / (2 * step)
    rounding = 2e-6 / temperature ** (1 + (i == 3)) / (alpha if i == 4 else 1)
    np.testing.assert_allclose(np.sum(np.float64(grad) * direction), expected, rtol=5e-5, atol=rounding)


@pytest.mark.parametrize('temperature', [10.0, 1.0, 0.1, 0.03, 0.02, 0.005])  # One shift fits from 0.0233 on.
@pytest.mark.parametrize('kind, form', KINDS)
def test_value_and_gradients_equal_the_slow_reference(kind, form, temperature):
  for alpha in (0.05, 1.0, 4.5):
    check(kind, form, arrays_of(kind), temperature, alpha)


@pytest.mark.parametrize('kind, form', KINDS)
def test_odd_sizes(kind, form):
  for n, d, m in [(2, 1, 1), (9, 3, 13), *([(1, 5, 3)] if kind in ('bank', 'own') else [])]:
    check(kind, form, arrays_of(kind, n, d, m), 0.3, 0.8)


@pytest.mark.parametrize('kind, form', KINDS)
def test_a_zero_row_has_similarity_zero_and_gradient_zero(kind, form):
  a, b, negatives = arrays_of(kind)
  a[2] = 0
  value, grads = COMPILED[kind, form](*float32(a, b, negatives), 0.1, 0.5)
  np.testing.assert_allclose(value, loss_of(kind, a, b, negatives, 0.1, 0.5), rtol=2e-6)
  np.testing.assert_array_equal(grads[0][2], 0)
  assert all(jnp.isfinite(grad).all() for grad in jax.tree.leaves(grads))


@pytest.mark.parametrize('kind, form', KINDS)
def test_half_precision_inputs_are_computed_in_float32(kind, form):
  dtype = jnp.bfloat16 if form == 'tiled' else jnp.float16
  arguments = jax.tree.map(lambda x: jnp.asarray(x, dtype), (*arrays_of(kind), 0.125, 0.5))
  value, grads = COMPILED[kind, form](*arguments)
  assert value.dtype == jnp.float32 and {grad.dtype for grad in jax.tree.leaves(grads)} == {jnp.dtype(dtype)}
  np.testing.assert_allclose(
      value, loss_of(kind, *jax.tree.map(np.float64, arguments)), rtol=1e-6, atol=5e-7 / 0.125)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('kind', ['batch', 'bank'])
def test_inner_products_as_they_are(kind, form):
  a, b, negatives = arrays_of(kind)
  settings = {'temperature': 0.7, 'alpha': 0.3, 'normalize': False}
  both = jax.value_and_grad(losses.multi_label_info_nce)
  value, grad = both(*float32(a, b, negatives), **settings, implementation=form)
  np.testing.assert_allclose(value, reference.multi_label_info_nce(a, b, negatives, **settings), rtol=2e-6)
  dense = jax.grad(losses.multi_label_info_nce)(*float32(a, b, negatives), **settings, implementation='dense')
  np.testing.assert_allclose(grad, dense, rtol=1e-5, atol=1e-6)
  huge = jax.grad(losses.multi_label_info_nce)(*float32(1e4 * a, b, negatives), **settings, implementation=form)
  assert jnp.isfinite(huge).all()


@pytest.mark.parametrize('kind, form', KINDS)
def test_not_a_number_is_not_hidden(kind, form):
  a, b, negatives = arrays_of(kind)
  a[2, 3] = np.nan
  value, grads = COMPILED[kind, form](*float32(a, b, negatives), 0.1, 0.5)
  assert jnp.isnan(value) and jnp.isnan(grads[1]).any()
  assert jnp.isnan(COMPILED[kind, form](*float32(*arrays_of(kind)), 0.1, 100.0)[0])  # Alpha past m.


@pytest.mark.parametrize('alpha', [0.01, 1.0, 4.0])
@pytest.mark.parametrize('kind, form', KINDS)
def test_equal_scores_cost_log_m(kind, form, alpha):
  """A collapsed encoder: chance, whatever alpha."""
  z, m = jnp.tile(jnp.arange(1.0, 9.0)[None], (7, 1)), {'views': 13, 'batch': 7}.get(kind, 7)
  negatives = {'bank': z[:6], 'own': jnp.broadcast_to(z[0], (7, 6, 8))}.get(kind)
  value, grads = COMPILED[kind, form](z, z, negatives, 0.1, alpha)
  np.testing.assert_allclose(value, np.log(m), rtol=1e-5)
  np.testing.assert_allclose(grads[0], 0, atol=1e-5)


@pytest.mark.parametrize('kind, form', KINDS)
def test_it_bounds_what_it_is_named_after(kind, form):
  """At alpha 1 never below InfoNCE or NT-Xent; never below log alpha; convex bounds, so concave in alpha."""
  for seed in range(5):
    a, noise = np.random.default_rng(seed).normal(size=(2, 7, 8))
    arrays = *float32(a, a + 0.5 * noise), arrays_of(kind)[2]
    low, middle, high = (COMPILED[kind, form](*arrays, 0.1, alpha)[0] for alpha in (0.2, 1.0, 1.8))
    single = losses.nt_xent(*arrays[:2]) if kind == 'views' else losses.info_nce(*arrays)
    assert middle >= single - 1e-5 and middle >= (low + high) / 2 - 1e-5
    assert low >= np.log(0.2) and middle >= 0 and high >= np.log(1.8)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('alpha', [0.1, 1.0, 3.0])
def test_it_is_log_m_less_the_bound_of_the_score_matrix(form, alpha):
  a, b, _ = float32(*arrays_of('batch'))
  unit = lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True)
  scores = unit(a) @ unit(b).T / 0.1
  bound = np.log(7) - losses.multi_label_info_nce(a, b, alpha=alpha, implementation=form)
  others = scores[~np.eye(7, dtype=bool)].reshape(7, 6)
  np.testing.assert_allclose(bound, losses.ml_cpc_bound(jnp.diag(scores), others, alpha=alpha), rtol=1e-6, atol=5e-6)
  # As the authors' code for mutual information has it: estimators.py in their repository.
  weights = np.where(np.eye(7), np.log(alpha / 7**2), np.log((7 - alpha) / (7**2 * 6)))
  theirs = jnp.mean(jnp.diag(scores)) - jax.nn.logsumexp(scores + weights)
  np.testing.assert_allclose(bound, theirs, rtol=1e-6, atol=5e-6)


def test_the_queue_is_that_of_the_authors():
  """main_moco_cifar.py in their repository, up to a constant: KL of the labels and one softmax over all n k logits."""
  a, b, queue = float32(*arrays_of('bank'))
  alpha, k = 0.4, 7
  unit = lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True)
  positive, negative = jnp.sum(unit(a) * unit(b), axis=1, keepdims=True) / 0.07, unit(a) @ unit(queue).T / 0.07
  logits = jnp.concatenate([positive + jnp.log(alpha), negative + jnp.log((k - alpha) / (k - 1))], axis=1)
  labels = jnp.zeros((7, k)).at[:, 0].set(1 / 7)
  theirs = jnp.sum(labels * (jnp.log(jnp.where(labels > 0, labels, 1)) - jax.nn.log_softmax(logits, axis=(0, 1))))
  ours = losses.multi_label_info_nce(a, b, queue, temperature=0.07, alpha=alpha)
  np.testing.assert_allclose(ours, theirs + np.log(alpha), rtol=1e-5)


@pytest.mark.parametrize('kind', OWN['tiled'])
def test_gradients_of_gradients_equal_those_of_dense(kind):
  def penalty(a, *rest, form):
    grad = jax.grad(lambda a: loss_of(kind, a, *rest, 0.3, 0.5, implementation=form))
    return jnp.sum(grad(a) ** 2)

  found, expected = (
      jax.jit(jax.grad(functools.partial(penalty, form=form)))(*float32(*arrays_of(kind)))
      for form in ('tiled', 'dense'))
  np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('kind', OWN['tiled'])
def test_the_implementation_is_chosen_by_size(kind, monkeypatch):
  arrays = float32(*arrays_of(kind))
  sweeps = lambda: jax.jit(
      lambda *z: loss_of(kind, *z, 0.1, 1.0, implementation=None)).lower(*arrays).as_text().count('while')
  assert sweeps() == 0
  monkeypatch.setattr(_choice, 'DENSE_SCORES', {'cpu': 40})
  assert sweeps() > 0


@pytest.mark.parametrize('kernel, first, second', [
    (losses.multi_label_info_nce, 'query', 'key'), (losses.multi_label_nt_xent, 'z1', 'z2')])
def test_errors_name_the_argument(kernel, first, second):
  z = jnp.ones((4, 8))
  m = 4 if first == 'query' else 7
  for arguments, settings, message in [
      ((z[0], z), {}, rf'{first} must have shape \[n, d\].*got \[8\]'),
      ((z, z[:, :7]), {}, rf'{second} must have the shape of {first}, \[4, 8\], got \[4, 7\]'),
      ((z, z), {'temperature': z}, r'temperature must be a scalar, got shape \[4, 8\]'),
      ((z, z), {'alpha': 0.0}, f'alpha must lie between 0 and the number of candidates, {m}, got 0.0'),
      ((z, z), {'alpha': np.float32(m)}, f'alpha must lie between 0 and the number of candidates, {m}, got {m}'),
      ((z, z), {'alpha': z[0]}, r'alpha must be a scalar, got shape \[8\]'),
      ((z, z), {'implementation': 'ring'}, "implementation must be one of None, 'dense', 'tiled', got 'ring'"),
      ((z[:1], z[:1]), {}, f'{first} must hold two rows or more.* got 1')]:
    with pytest.raises(ValueError, match=message):
      kernel(*arguments, **settings)


@pytest.mark.parametrize('shape, message', [
    ((3, 7), r'negatives must have shape \[m, 8\] or \[4, m, 8\], got \[3, 7\]'),
    ((0, 8), r'negatives must not be empty, got shape \[0, 8\]'),
    ((4, 0, 8), r'negatives must not be empty, got shape \[4, 0, 8\]')])
def test_errors_name_negatives(shape, message):
  with pytest.raises(ValueError, match=message):
    losses.multi_label_info_nce(jnp.ones((4, 8)), jnp.ones((4, 8)), jnp.ones(shape))


def test_geometric_alpha():
  found = [losses.geometric_alpha(step, 100, high=5.0, low=0.05) for step in (0, 25, 50, 100, 200)]
  np.testing.assert_allclose(found, [5, 5 * 100**-0.25, 0.5, 0.05, 0.05], rtol=1e-6)
  np.testing.assert_allclose(jax.jit(losses.geometric_alpha, static_argnums=1)(jnp.int32(50), 100), 1, rtol=1e-6)
  for name, value in [('high', 0.0), ('low', -1.0)]:
    with pytest.raises(ValueError, match=f'{name} must be a positive Python number, got {value}'):
      losses.geometric_alpha(0, 100, **{name: value})
  with pytest.raises(ValueError, match='steps must be a positive Python number, got 0'):
    losses.geometric_alpha(0, 0)


def scores_of_pairs(n=5, m=7):
  return RNG.normal(size=n), RNG.normal(size=(n, m - 1))


@pytest.mark.parametrize('alpha', [0.01, 0.7, 1.0, 3.0])
@pytest.mark.parametrize('bound, at', [
    (losses.cpc_bound, cpc_reference.info_nce_at), (losses.ml_cpc_bound, cpc_reference.ml_cpc_at)])
def test_bounds_equal_the_slow_reference(bound, at, alpha):
  positive, negatives = scores_of_pairs()
  found = bound(jnp.float32(positive), jnp.float32(negatives), alpha=alpha)
  assert found.dtype == jnp.float32 and found.shape == ()
  slow = np.log(7) - at(list(zip(positive, negatives, strict=True)), alpha)
  np.testing.assert_allclose(found, slow, rtol=1e-5)
  traced = jax.jit(bound)(jnp.float32(positive), jnp.float32(negatives), alpha=alpha)
  np.testing.assert_allclose(traced, found, rtol=1e-6)


def test_properties_of_the_bounds():
  """Of any scores: below the ceiling, CPC above ML-CPC, convex in alpha; equal scores give 0."""
  for _ in range(20):
    positive, negatives = (jnp.float32(3 * x) for x in scores_of_pairs())
    for bound in (losses.cpc_bound, losses.ml_cpc_bound):
      low, middle, high = (bound(positive, negatives, alpha=alpha) for alpha in (0.1, 1.0, 1.9))
      assert low <= np.log(7 / 0.1) and middle <= np.log(7) and high <= np.log(7 / 1.9)
      assert middle <= (low + high) / 2 + 1e-5
      np.testing.assert_allclose(bound(jnp.full(5, 4.0), jnp.full((5, 6), 4.0), alpha=0.3), 0, atol=2e-6)
    for alpha in (0.1, 1.0, 1.9):
      ml, cpc = (bound(positive, negatives, alpha=alpha) for bound in (losses.ml_cpc_bound, losses.cpc_bound))
      assert ml <= cpc + 1e-5
    cross_entropy = jax.nn.logsumexp(jnp.column_stack([positive, negatives]), axis=1) - positive
    np.testing.assert_allclose(
        losses.cpc_bound(positive, negatives), np.log(7) - jnp.mean(cross_entropy), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize('bound', [losses.cpc_bound, losses.ml_cpc_bound])
def test_errors_of_the_bounds(bound):
  for positive, negatives, alpha, message in [
      (jnp.ones((5, 1)), jnp.ones((5, 6)), 1.0, r'positive must have shape \[n\], n not 0, got \[5, 1\]'),
      (jnp.ones(5), jnp.ones((4, 6)), 1.0, r'negatives must have shape \[5, m - 1\], .* got \[4, 6\]'),
      (jnp.ones(5), jnp.ones((5, 0)), 1.0, r'negatives must have shape .* got \[5, 0\]'),
      (jnp.ones(5), jnp.ones((5, 6)), 7.0, 'alpha must lie between 0 and the number of candidates, 7, got 7.0'),
      (jnp.ones(5), jnp.ones((5, 6)), -1, 'alpha must lie between 0 and .* got -1'),
  ]:
    with pytest.raises(ValueError, match=message):
      bound(positive, negatives, alpha=alpha)
