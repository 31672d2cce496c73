"""A batch encoded in chunks: the same outputs and gradients, in less memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxssl import losses
from jaxssl.models.forward import forward, forward_in_chunks, forward_views


class Network(nn.Module):
  """A network without batch norm, and a count of the calls among its stats."""

  width: int = 32

  @nn.compact
  def __call__(self, x, train: bool = False):
    calls = self.variable('batch_stats', 'calls', jnp.zeros, ())
    if train:
      calls.value += 1
    for _ in range(3):
      x = nn.tanh(nn.Dense(self.width)(x))
    return x, nn.Dense(8)(x)


def make(rows=24, width=32):
  network = Network(width)
  views = jax.random.normal(jax.random.key(0), (2, rows // 2, 10))
  variables = network.init(jax.random.key(1), views[0])
  return network, variables['params'], {'batch_stats': variables['batch_stats']}, views


def loss(params, network, stats, views, chunks):
  outputs, stats = forward_views(network, params, stats, views, chunks)
  return losses.nt_xent(outputs[0][1], outputs[1][1]), stats


@pytest.mark.parametrize('chunks', [2, 3, 24])
def test_loss_and_gradient_are_those_of_the_whole_batch(chunks):
  network, params, stats, views = make()
  (whole, _), grads = jax.value_and_grad(loss, has_aux=True)(params, network, stats, views, 1)
  (value, after), found = jax.value_and_grad(loss, has_aux=True)(params, network, stats, views, chunks)
  np.testing.assert_allclose(value, whole, rtol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), found, grads)
  assert after['batch_stats']['calls'] == chunks


def test_outputs_keep_their_order():
  network, params, stats, views = make()
  (h, z), _ = forward(network, params, stats, views[0])
  (chunked_h, chunked_z), _ = forward_in_chunks(network, params, stats, views[0], 4)
  np.testing.assert_allclose(chunked_h, h, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(chunked_z, z, rtol=1e-5, atol=1e-6)


def test_memory_falls():
  network, params, stats, views = make(rows=2048, width=256)

  def memory(chunks):
    step = jax.jit(jax.grad(lambda params: loss(params, network, stats, views, chunks)[0]))
    return step.lower(params).compile().memory_analysis().temp_size_in_bytes

  assert memory(16) < 0.6 * memory(1)


def test_chunks_of_a_split_batch_are_split_too():
  network, params, stats, views = make(rows=48)
  mesh = jax.make_mesh((4,), ('data',), (AxisType.Auto,), devices=jax.devices()[:4])
  expected = loss(params, network, stats, views, 1)[0]
  with jax.set_mesh(mesh):
    split = tuple(jax.device_put(view, NamedSharding(mesh, P('data'))) for view in views)
    step = jax.jit(lambda params, views: loss(params, network, stats, views, 3)[0])
    np.testing.assert_allclose(step(params, split), expected, rtol=1e-6)
    text = step.lower(params, split).compile().as_text()
  assert 'f32[4,32]' in text and 'f32[16,32]' not in text  # 4 of a chunk's 16 rows on each of 4 devices.


def test_chunks_must_divide_the_batch():
  network, params, stats, views = make()
  with pytest.raises(ValueError, match='chunks must divide the 24 rows of the batch, all views together, got 5'):
    loss(params, network, stats, views, 5)
