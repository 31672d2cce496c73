"""The TPU kernels, in Pallas's interpreter, and what stands in for them: equal to the dense losses; they lower."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType
from jax.sharding import PartitionSpec as P

from jaxssl import losses
from jaxssl.losses import _pallas_tpu

LOSSES = {
    'nt_xent': losses.nt_xent,
    'info_nce': functools.partial(losses.info_nce, normalize=False),
    'bank': lambda a, b, **settings: losses.info_nce(a, b, jnp.sin(jnp.arange(1050.0)).reshape(150, 7), **settings),
    'symmetric_info_nce': losses.symmetric_info_nce,
}


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
  monkeypatch.setattr(_pallas_tpu, 'ROWS', 8)
  monkeypatch.setattr(_pallas_tpu, 'COLUMNS', 128)


@pytest.fixture(params=[True, False], ids=['interpreter', 'stand-in'])
def interpret(request, monkeypatch):
  monkeypatch.setattr(_pallas_tpu, 'INTERPRET', request.param)
  return request.param


def value_and_gradients(name, implementation):
  loss = lambda a, b, temperature: LOSSES[name](a, b, temperature=temperature, implementation=implementation)
  return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))


def assert_equal(found, expected):
  np.testing.assert_allclose(found[0], expected[0], rtol=1e-6, atol=1e-6)
  for ours, theirs in zip(found[1], expected[1], strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5 * float(jnp.abs(theirs).max()) + 1e-7)


@pytest.mark.usefixtures('optimized')
@pytest.mark.parametrize('name, n, temperature', [
    pytest.param(name, n, temperature, marks=[pytest.mark.slow] * ((i + j + k) % 2))
    for i, name in enumerate(LOSSES) for j, n in enumerate([1, 75, 136])
    for k, temperature in enumerate([0.5, 0.01])])
def test_equals_the_dense_loss(name, n, temperature, interpret):
  a, b = jax.random.normal(jax.random.key(n), (2, n, 7))
  if name == 'info_nce':
    temperature *= 100  # Its scores are not bounded.
  assert_equal(*(value_and_gradients(name, form)(a, b, temperature) for form in ('pallas_tpu', 'dense')))


@pytest.mark.parametrize('name', LOSSES)
def test_over_devices(name, interpret):
  """In the interpreter without check_vma, which it does not know."""
  mesh = jax.make_mesh((4,), ('i',), (AxisType.Auto,), devices=jax.devices()[:4])
  a, b = jax.random.normal(jax.random.key(0), (2, 24, 7))
  loss = functools.partial(LOSSES[name], axis_name='i', implementation='pallas_tpu')
  mapped = jax.shard_map(lambda a, b, temperature: loss(a, b, temperature=temperature), mesh=mesh,
                         in_specs=(P('i'), P('i'), P()), out_specs=P(), check_vma=not interpret)
  assert_equal(jax.jit(jax.value_and_grad(mapped, argnums=(0, 1, 2)))(a, b, 0.5),
               value_and_gradients(name, 'dense')(a, b, 0.5))


@pytest.mark.parametrize('name', LOSSES)
def test_lowers_for_a_tpu(name, monkeypatch):
  monkeypatch.undo()  # Blocks as they are on a TPU.
  a, b = jnp.ones((2, 1000, 7))
  lowered = value_and_gradients(name, 'pallas_tpu').trace(a, b, 0.5).lower(lowering_platforms=('tpu',)).as_text()
  assert lowered.count('tpu_custom_call') >= 2  # The log-sum-exps and a gradient.
