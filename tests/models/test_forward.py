"""A batch encoded in chunks: the same outputs and gradients, in less memory."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxssl import losses
from jaxssl.models import forward as forward_module
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


class Averages(nn.Module):
  """A network whose output depends on its stats, and its stats on their order, the parameters and the input."""

  @nn.compact
  def __call__(self, x, train: bool = False):
    scale = self.param('scale', nn.initializers.ones, (1, 3))
    mean = self.variable('batch_stats', 'mean', jnp.zeros, (1, 3))
    calls = self.variable('batch_stats', 'calls', jnp.zeros, (), jnp.int32)
    if train:
      mean.value = 0.5 * mean.value + jnp.mean(scale * x, axis=0, keepdims=True)
      calls.value += 1
    return {'z': jnp.tanh(scale * x + mean.value), 'rank': jnp.argmax(x, axis=1)}


class Convolutions(nn.Module):
  """A small residual network for images."""

  @nn.compact
  def __call__(self, x, train: bool = False):
    x = nn.Conv(8, (3, 3))(x)
    for _ in range(4):
      x += nn.Conv(8, (3, 3))(nn.relu(nn.BatchNorm(use_running_average=not train)(x)))
    return x.mean(axis=(1, 2))


@pytest.fixture(params=['in_turn', 'in_a_loop'], autouse=True)
def form(request, monkeypatch):
  """The form for a CPU, and that for accelerators, on the CPU."""
  monkeypatch.setattr('jaxssl.models.forward._in_turn', getattr(forward_module, f'_{request.param}'))
  return request.param


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


@pytest.mark.parametrize('wrap', [jax.jit, jax.checkpoint])
def test_gradient_is_that_of_the_whole_batch_in_float64(wrap):
  with jax.enable_x64(True):
    network, params, stats, views = make()
    params, x = jax.tree.map(lambda a: a.astype(jnp.float64), (params, views[0]))

    def scores(params, x, chunks):
      h, z = forward_in_chunks(network, params, stats, x, chunks)[0]
      return jnp.sum(jnp.sin(z @ z.T)) + jnp.sum(jnp.cos(h @ h.T))

    expected = jax.grad(scores, argnums=(0, 1))(params, x, 1)
    found = jax.grad(wrap(lambda params, x: scores(params, x, 4)), argnums=(0, 1))(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12), found, expected)


def test_each_part_sees_the_stats_of_the_part_before_and_gradients_flow_through_them():
  x = jax.random.normal(jax.random.key(0), (12, 3))
  stats = {'batch_stats': {'mean': jnp.array([[0.1, 0.2, 0.3]]), 'calls': jnp.int32(5)}}

  def one_after_another(network, params, stats, x, chunks):
    outputs = []
    for c in range(chunks):
      y, stats = forward(network, params, stats, x[c::chunks])
      outputs.append(y['z'])
    return {'z': jnp.stack(outputs, axis=1).reshape(12, 3), 'rank': jnp.argmax(x, axis=1)}, stats

  def value(params, mean, x, encode):
    before = {'batch_stats': {**stats['batch_stats'], 'mean': mean}}
    outputs, after = encode(Averages(), params, before, x, 3)
    z, mean = outputs['z'], after['batch_stats']['mean']
    return jnp.sum(jnp.sin(z @ z.T)) + jnp.sum(mean**3), (outputs, after)

  arguments = {'scale': jnp.array([[1.0, -2.0, 0.5]])}, stats['batch_stats']['mean'], x
  run = jax.value_and_grad(value, argnums=(0, 1, 2), has_aux=True)
  found, expected = run(*arguments, forward_in_chunks), run(*arguments, one_after_another)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)
  assert found[0][1][1]['batch_stats']['calls'] == 8


def test_outputs_keep_their_order():
  network, params, stats, views = make()
  (h, z), _ = forward(network, params, stats, views[0])
  (chunked_h, chunked_z), _ = forward_in_chunks(network, params, stats, views[0], 4)
  np.testing.assert_allclose(chunked_h, h, rtol=1e-5, atol=1e-6)
  np.testing.assert_allclose(chunked_z, z, rtol=1e-5, atol=1e-6)


def test_integer_inputs():
  network, params, stats, _ = make()
  x = jnp.arange(120, dtype=jnp.uint8).reshape(12, 10)
  value = lambda params, chunks: jnp.sum(forward_in_chunks(network, params, stats, x, chunks)[0][1] ** 2)
  found, expected = (jax.grad(value)(params, chunks) for chunks in (3, 1))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_a_bad_row_spoils_no_other(bad):
  network, params, stats, views = make()
  x = views[0].at[1].set(bad)
  (_, z), _ = forward_in_chunks(network, params, stats, x, 4)
  (_, expected), _ = forward(network, params, stats, x)
  np.testing.assert_allclose(z, expected, rtol=1e-5, atol=1e-6)
  assert np.isfinite(z).all(axis=1).tolist() == np.isfinite(expected).all(axis=1).tolist()
  assert np.isfinite(z[2:]).all()


def test_donated_state():
  network, params, stats, views = make()

  def step(params, stats, chunks):
    grads, stats = jax.grad(loss, has_aux=True)(params, network, stats, views, chunks)
    return jax.tree.map(lambda p, g: p - 0.1 * g, params, grads), stats

  expected, _ = step(params, stats, 1)
  after, _ = jax.jit(lambda params, stats: step(params, stats, 4), donate_argnums=(0, 1))(params, stats)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), after, expected)


def test_memory_falls():
  network, params, stats, views = make(rows=2048, width=256)

  def memory(chunks):
    step = jax.jit(jax.grad(lambda params: loss(params, network, stats, views, chunks)[0]))
    return step.lower(params).compile().memory_analysis().temp_size_in_bytes

  assert memory(16) < 0.6 * memory(1)


def compile_convolutions(chunks):
  x = jax.random.normal(jax.random.key(0), (64, 16, 16, 3))
  variables = Convolutions().init(jax.random.key(1), x)
  stats = {'batch_stats': variables['batch_stats']}

  def scores(params):
    z, after = forward_in_chunks(Convolutions(), params, stats, x, chunks)
    return jnp.sum(jnp.sin(z @ z.T)), after

  return jax.jit(jax.grad(scores, has_aux=True)).lower(variables['params']).compile()


def test_memory_of_convolutions_falls():
  memory = {chunks: compile_convolutions(chunks).memory_analysis().temp_size_in_bytes for chunks in (1, 4)}
  assert memory[4] < 0.4 * memory[1]


def test_convolutions_on_a_cpu_have_the_form_of_the_fast_code(form):
  """In a loop, XLA leaves those of the gradient as they are."""
  labels = set(re.findall(r'dim_labels=([^,\s]+)', compile_convolutions(4).as_text()))
  assert (labels == {'b01f_01io->b01f'}) == (form == 'in_turn')


def test_a_batch_on_eight_devices_is_the_batch_on_one():
  x = jax.random.normal(jax.random.key(0), (64, 8, 8, 3))
  variables = Convolutions().init(jax.random.key(1), x)
  stats = {'batch_stats': variables['batch_stats']}

  def scores(params, stats, x):
    z, after = forward_in_chunks(Convolutions(), params, stats, x, 4)
    return jnp.sum(jnp.sin(z @ z.T)), after

  step = jax.jit(jax.value_and_grad(scores, has_aux=True))
  expected = step(variables['params'], stats, x)
  mesh = jax.make_mesh((8,), ('data',), (AxisType.Auto,))
  with jax.set_mesh(mesh):
    params, stats = jax.device_put((variables['params'], stats), NamedSharding(mesh, P()))
    found = step(params, stats, jax.device_put(x, NamedSharding(mesh, P('data'))))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


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
