"""The kernels for Hopper: what stands in for them elsewhere is right, they do the same step by step, and they lower."""

import functools
import pathlib
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxssl import losses
from jaxssl.losses import _choice, _mosaic_gpu, _mosaic_gpu_pairs

LOSSES = {
    'nt_xent': losses.nt_xent,
    'info_nce': functools.partial(losses.info_nce, normalize=False),
    'bank': lambda a, b, **settings: losses.info_nce(a, b, jnp.sin(jnp.arange(1050.0)).reshape(150, 7), **settings),
    'symmetric_info_nce': losses.symmetric_info_nce,
}


def value_and_gradients(name, implementation):
  loss = lambda a, b, temperature: LOSSES[name](a, b, temperature=temperature, implementation=implementation)
  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))


def exact_in_bfloat16(key, n, d):
  """Rows of ones of either sign, of length 8, which bfloat16 holds exactly, as do products and halves of them."""
  return jnp.where(jax.random.bernoulli(key, 0.5, (n, d)), 1.0, -1.0) * 8 / np.sqrt(d)


def lse_of_scores(x, y, inverse, first):
  """The reference, in float64."""
  scores = np.float64(inverse) * np.asarray(x, np.float64) @ np.asarray(y, np.float64).T
  if first is not None:
    scores[np.arange(len(x)), np.arange(len(x)) + first] = -np.inf
  peak = scores.max(axis=1, keepdims=True)
  return scores, (peak + np.log(np.exp(scores - peak).sum(axis=1, keepdims=True)))[:, 0]


@pytest.mark.parametrize('first', [None, 3])
@pytest.mark.parametrize('n, m, d', [(1, 5, 4), (70, 130, 64), (129, 257, 256)])
def test_equals_float64_where_bfloat16_is_exact(n, m, d, first):
  """With widths of 4^k and a scale of 1 / 4 in bits, nothing that the kernels round is rounded, but the weights."""
  x, y = (exact_in_bfloat16(jax.random.key(i), rows, d) for i, rows in ((0, n), (1, m)))
  inverse = 1 / 16 / _mosaic_gpu.LOG2_E
  scores, lse = lse_of_scores(x, y, inverse, first)
  np.testing.assert_allclose(_mosaic_gpu.row_lse(x, y, jnp.float32(inverse), first), lse, rtol=1e-6)
  y_lse = np.linspace(4, 6, m)
  expected = {(True, True): np.exp(scores - lse[:, None]) + np.exp(scores - y_lse[None]),
              (True, False): np.exp(scores - lse[:, None]), (False, True): np.exp(scores - y_lse[None])}
  for (of_x, of_y), weights in expected.items():
    found = _mosaic_gpu.row_gradient(
        x, y, jnp.float32(inverse), jnp.float32(lse) if of_x else None, jnp.float32(y_lse) if of_y else None, first)
    wanted, most = weights @ np.asarray(y, np.float64), weights @ np.abs(np.asarray(y, np.float64))
    assert np.all(np.abs(found - wanted) <= 2.0**-8 * most)  # The weights are rounded by at most 2^-9 of themselves.


@pytest.mark.parametrize('n, m, d', [(2, 1, 4), (129, 257, 64), (300, 70, 256), (600, 129, 16)])
def test_one_exponential_serves_both_rows_of_a_pair(n, m, d):
  x, y = (exact_in_bfloat16(jax.random.key(i), rows, d) for i, rows in ((0, n), (1, m)))
  for inverse in (1 / 16 / _mosaic_gpu.LOG2_E, -1 / 16 / _mosaic_gpu.LOG2_E):
    np.testing.assert_allclose(
        _mosaic_gpu.self_lse(x, jnp.float32(inverse)), lse_of_scores(x, x, inverse, 0)[1], rtol=1e-6, atol=1e-6)
    of_x, of_y = _mosaic_gpu.both_lse(x, y, jnp.float32(inverse))
    np.testing.assert_allclose(of_x, lse_of_scores(x, y, inverse, None)[1], rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(of_y, lse_of_scores(y, x, inverse, None)[1], rtol=1e-6, atol=1e-6)


def test_walks_of_several_panels(monkeypatch):
  monkeypatch.setattr(_mosaic_gpu_pairs, 'WALKERS', 2)
  test_one_exponential_serves_both_rows_of_a_pair(600, 400, 16)


def test_every_pair_of_panels_meets_once():
  for passing in range(1, 9):
    walk = _mosaic_gpu_pairs._Walk(passing * 128, passing * 128, passing, passing, True)
    met = np.zeros((passing, passing), int)
    for panel in range(passing):
      for t in range(walk.steps):
        block = int(walk.block(panel, t))
        met[panel, block] += 1
        met[block, panel] += int(walk.serves_x(t))
    np.testing.assert_array_equal(met, 1)


@pytest.mark.parametrize('temperature', [0.5, 0.07])
@pytest.mark.parametrize('n', [1, 75, 136])
@pytest.mark.parametrize('name', LOSSES)
def test_close_to_the_dense_loss(name, n, temperature):
  """A cosine of bfloat16 numbers errs by less than 2^-8; a score, and a gradient, by that over the temperature."""
  a, b = jax.random.normal(jax.random.key(n), (2, n, 7))
  if name == 'info_nce':
    temperature *= 100  # Its scores are not bounded.
  (value, gradients), (expected, wanted) = (
      value_and_gradients(name, form)(a, b, temperature) for form in ('mosaic_gpu', 'dense'))
  error = 2.0**-8 / min(temperature, 1)
  np.testing.assert_allclose(value, expected, atol=error)
  for ours, theirs, atol in zip(gradients, wanted, (4 * error / n, 4 * error / n, error / temperature), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=atol)


@pytest.mark.parametrize('check_vma', [True, False])
@pytest.mark.parametrize('name', LOSSES)
def test_over_devices(name, check_vma):
  """Four devices find what one does: the same numbers are rounded, whoever holds them."""
  mesh = jax.make_mesh((4,), ('i',), (AxisType.Auto,), devices=jax.devices()[:4])
  a, b = jax.random.normal(jax.random.key(0), (2, 24, 7))
  loss = functools.partial(LOSSES[name], axis_name='i', implementation='mosaic_gpu')
  mapped = jax.shard_map(lambda a, b, temperature: loss(a, b, temperature=temperature), mesh=mesh,
                         in_specs=(P('i'), P('i'), P()), out_specs=P(), check_vma=check_vma)
  found = jax.jit(jax.value_and_grad(mapped, argnums=(0, 1, 2)))(a, b, 0.5)
  expected = value_and_gradients(name, 'mosaic_gpu')(a, b, 0.5)
  for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
    np.testing.assert_allclose(ours, theirs, atol=4e-3 * float(jnp.abs(theirs).max()) + 1e-6)


@pytest.mark.skipif(jax.__version_info__ >= (0, 11), reason="the script takes the interpreter's inside of JAX 0.10")
def test_the_kernels_do_what_stands_in_for_them():
  """In Pallas's interpreter of GPUs, in a process of its own: where a kernel is wrong, the interpreter may hang."""
  script = pathlib.Path(__file__).with_name('interpret_mosaic_gpu.py')
  done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=600)
  assert done.returncode == 0, done.stderr[-2000:]
  names = ['lse', 'lse, itself', 'gradient', 'of columns', 'pairs'] * 2 + ['pairs of x'] * 3
  assert done.stdout.splitlines() == [f'{name}: equal' for name in names]


@pytest.mark.parametrize('d', [7, 200])
@pytest.mark.parametrize('name, kernels', [('nt_xent', 3), ('info_nce', 3), ('symmetric_info_nce', 5)])
def test_lowers_for_a_gpu(name, kernels, d):
  """A gradient, or two; the log-sum-exps of rows, once or twice; but for InfoNCE, those of pairs."""
  a, b = jnp.ones((2, 1000, d))
  lowered = value_and_gradients(name, 'mosaic_gpu').trace(a, b, 0.5).lower(lowering_platforms=('cuda',)).as_text()
  assert lowered.count('stablehlo.custom_call @mosaic_gpu_v2') == kernels


@pytest.mark.parametrize('name', ['nt_xent', 'symmetric_info_nce'])
def test_with_64_bit_numbers_enabled(name):
  a, b = jax.random.normal(jax.random.key(0), (2, 150, 7))
  expected, _ = value_and_gradients(name, 'mosaic_gpu')(a, b, 0.5)
  with jax.enable_x64(True):
    function = value_and_gradients(name, 'mosaic_gpu')
    np.testing.assert_allclose(function(a, b, 0.5)[0], expected, rtol=1e-6)
    assert 'mosaic_gpu_v2' in function.trace(a, b, 0.5).lower(lowering_platforms=('cuda',)).as_text()


def test_lowers_for_gpus_that_share_the_batch():
  mesh = jax.make_mesh((4,), ('i',), (AxisType.Auto,), devices=jax.devices()[:4])
  loss = functools.partial(losses.nt_xent, axis_name='i', implementation='mosaic_gpu')
  mapped = jax.shard_map(loss, mesh=mesh, in_specs=(P('i'), P('i')), out_specs=P())
  z = jnp.ones((512, 128))
  lowered = jax.jit(jax.grad(mapped)).trace(z, z).lower(lowering_platforms=('cuda',)).as_text()
  assert 'stablehlo.custom_call @mosaic_gpu_v2' in lowered


@pytest.mark.parametrize('implementation', ['pallas_tpu', 'mosaic_gpu'])
def test_siglip_has_no_kernel(implementation):
  with pytest.raises(ValueError, match=f"implementation='{implementation}' is not there for this loss: choose 'dense'"):
    losses.siglip(jnp.ones((4, 7)), jnp.ones((4, 7)), implementation=implementation)


@pytest.mark.parametrize('temperature', [0.01, -0.1])
@pytest.mark.parametrize('name', ['nt_xent', 'info_nce', 'symmetric_info_nce'])
def test_a_loss_is_not_below_zero(name, temperature):
  """The positive's score is rounded as in the sum that it stands in."""
  a = jax.random.normal(jax.random.key(0), (100, 64))
  b = a + 0.02 * jax.random.normal(jax.random.key(1), (100, 64))
  temperature *= 100 if name == 'info_nce' else 1  # Its scores are not bounded.
  value, gradients = value_and_gradients(name, 'mosaic_gpu')(a, b, temperature)
  assert value >= -1e-5 and all(np.all(np.isfinite(each)) for each in gradients)


def test_wide_embeddings_are_refused():
  with pytest.raises(ValueError, match="implementation='mosaic_gpu' takes embeddings of up to 256 values, got 257"):
    losses.nt_xent(jnp.ones((4, 257)), jnp.ones((4, 257)), implementation='mosaic_gpu')
  with pytest.raises(ValueError, match="implementation='pallas_tpu' takes embeddings of up to 512 values, got 513"):
    losses.nt_xent(jnp.ones((4, 513)), jnp.ones((4, 513)), implementation='pallas_tpu')


def test_other_gpus_are_refused(monkeypatch):
  class Ampere:
    compute_capability, device_kind = '8.0', 'NVIDIA A100'

  monkeypatch.setattr(_choice.jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(_choice.jax, 'devices', lambda: [Ampere()])
  with pytest.raises(ValueError, match="'mosaic_gpu' needs a Hopper GPU .* got NVIDIA A100: choose 'dense'"):
    losses.nt_xent(jnp.ones((4, 8)), jnp.ones((4, 8)), implementation='mosaic_gpu')
