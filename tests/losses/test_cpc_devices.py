"""The losses of CPC on several devices, against float64 NumPy on the whole batch."""

import functools

import cpc_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxssl import losses

RNG = np.random.default_rng(0)
B, T, STEPS, D = 8, 5, 2, 3  # Eight sequences divide over 1, 2, 4 and 8 devices.
PARAMS = {'w': RNG.normal(size=(D, D)), 'v': RNG.normal(size=(D, STEPS * D))}
BATCH = {
    'x': RNG.normal(size=(B, T, D)),
    'mask': np.arange(T)[None, :] < np.array([5, 3, 4, 5, 1, 5, 2, 5])[:, None],
    'group': np.array([0, 1, 0, 2, 1, 0, 2, 1]),
}
KEY = jax.random.key(3)

# name -> (weight in the sum whose gradient is taken, settings).
LOSSES = {
    'batch': (1.0, {'chunk': 3}),
    'group_others': (-2.0, {'negatives': 'group_others', 'objective': 'ml_cpc', 'alpha': 0.3}),
    'sequence': (3.0, {'negatives': 'sequence', 'chunk': 2}),
    'drawn': (-0.5, {'num_negatives': 4}),
    'drawn of a group': (2.0, {'negatives': 'group', 'num_negatives': 3, 'objective': 'ml_cpc', 'chunk': 5}),
    'drawn of others': (1.5, {'negatives': 'others', 'num_negatives': 3}),
}


def encode(params, batch, tanh):
  z = tanh(batch['x'] @ params['w'])
  return (z @ params['v']).reshape(*z.shape[:2], STEPS, D), z


def total(params, batch, axis_name=None):
  """Returns the weighted sum of all losses, and each of them with an accuracy and a bound."""
  arrays = encode(params, batch, jnp.tanh)
  both = {'group': batch['group'], 'mask': batch['mask'], 'key': KEY, 'axis_name': axis_name}
  values = [losses.cpc_info_nce(*arrays, **settings, **both) for _, settings in LOSSES.values()]
  metrics = losses.cpc_accuracy_and_bound(*arrays, **LOSSES['group_others'][1], **both)
  loss = sum(weight * value for (weight, _), value in zip(LOSSES.values(), values, strict=True))
  return loss, jnp.concatenate([jnp.stack(values), *metrics])


def slow_values(params):
  arrays = encode(params, BATCH, np.tanh)
  values = []
  for _, settings in LOSSES.values():
    settings = {name: value for name, value in settings.items() if name != 'chunk'}
    if 'num_negatives' in settings:
      count, negatives = settings.pop('num_negatives'), settings.get('negatives', 'batch')
      settings['drawn'] = reference.drawn(KEY, negatives, BATCH['mask'], BATCH['group'], count)
    values.append(reference.loss(*arrays, group=BATCH['group'], mask=BATCH['mask'], **settings))
  hits, bound = reference.accuracy_and_bound(
      *arrays, group=BATCH['group'], mask=BATCH['mask'], **LOSSES['group_others'][1])
  return np.array([*values, *hits, *bound])


@functools.cache
def expected():
  """Returns the slow values and the gradient of the weighted sum, by central differences."""
  weights = np.array([weight for weight, _ in LOSSES.values()])

  def shifted(param, index, step):
    changed = {name: np.array(value) for name, value in PARAMS.items()}
    changed[param][index] += step
    return weights @ slow_values(changed)[:len(weights)]

  grads = {name: np.zeros_like(value) for name, value in PARAMS.items()}
  for name, grad in grads.items():
    for index in np.ndindex(grad.shape):
      grad[index] = (shifted(name, index, 1e-5) - shifted(name, index, -1e-5)) / 2e-5
  return slow_values(PARAMS), grads


def check(values, grads):
  slow, slow_grads = expected()
  np.testing.assert_allclose(values, np.broadcast_to(slow, values.shape), rtol=1e-5, atol=1e-6)
  for name, grad in slow_grads.items():
    np.testing.assert_allclose(grads[name], np.broadcast_to(grad, grads[name].shape), rtol=1e-5, atol=1e-5)


def float32(tree):
  return jax.tree.map(lambda x: jnp.float32(x) if x.dtype == np.float64 else jnp.asarray(x), tree)


def make_mesh(name, devices, types=AxisType.Auto):
  return jax.make_mesh((devices,), (name,), (types,), devices=jax.devices()[:devices])


def over_devices(context, function, devices):
  """Returns `function(params, batch)` mapped over the batch's parts, its results stacked if the context does so."""
  if context in ('vmap', 'pmap'):
    mapping = {'vmap': jax.vmap, 'pmap': functools.partial(jax.pmap, devices=jax.devices()[:devices])}[context]
    mapped = mapping(function, in_axes=(None, 0), axis_name='i')
    return lambda params, batch: mapped(
        params, jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), batch))
  return jax.shard_map(
      function, mesh=make_mesh('i', devices), in_specs=(P(), P('i')), out_specs=P(),
      check_vma=context == 'shard_map checked')


@pytest.mark.parametrize('context, devices', [
    pytest.param(context, devices, marks=[pytest.mark.slow] * (devices != most))
    for context, most in (('vmap', 8), ('pmap', 2), ('shard_map checked', 8), ('shard_map unchecked', 2))
    for devices in (1, 2, 8)])
def test_mapped_contexts(context, devices):
  """Values and gradients, taken inside the mapped function and outside."""
  def inside(params, batch):
    grads, values = jax.grad(total, has_aux=True)(params, batch, 'i')
    return values, lax.pmean(grads, 'i')

  def outside(params, batch):
    loss, values = over_devices(context, lambda *args: total(*args, 'i'), devices)(params, batch)
    return jnp.mean(loss), values

  both = lambda *args: (over_devices(context, inside, devices)(*args), jax.grad(outside, has_aux=True)(*args)[::-1])
  for values, grads in jax.jit(both)(float32(PARAMS), float32(BATCH)):
    check(values, grads)


def test_plain_jit():
  grads, values = jax.jit(jax.grad(total, has_aux=True))(float32(PARAMS), float32(BATCH))
  check(values, grads)


@pytest.mark.parametrize('devices, types', [(8, AxisType.Auto), (2, AxisType.Explicit)])
def test_ambient_mesh(devices, types):
  mesh = make_mesh('data', devices, types)
  with jax.set_mesh(mesh):
    batch = jax.device_put(float32(BATCH), NamedSharding(mesh, P('data')))
    grads, values = jax.jit(jax.grad(total, has_aux=True))(float32(PARAMS), batch)
  check(values, grads)


def test_alpha_may_be_traced_on_several_devices():
  arrays = [jnp.float32(x) for x in encode(PARAMS, BATCH, np.tanh)]
  loss = lambda alpha: losses.cpc_info_nce(*arrays, objective='ml_cpc', alpha=alpha)
  with jax.set_mesh(make_mesh('data', 4)):
    found = jax.jit(loss)(jnp.float32(0.2))
  np.testing.assert_allclose(found, loss(0.2), rtol=1e-6)


def test_alpha_is_checked_against_the_global_batch():
  arrays = [jnp.float32(x) for x in encode(PARAMS, BATCH, np.tanh)]
  local = functools.partial(losses.cpc_info_nce, axis_name='i', alpha=40.0)
  mapped = jax.vmap(local, axis_name='i')
  with pytest.raises(ValueError, match='the number of candidates, 40, got 40.0'):
    mapped(*(x.reshape(2, 4, *x.shape[1:]) for x in arrays))


def test_a_batch_that_the_data_axis_does_not_divide():
  with jax.set_mesh(make_mesh('data', 8)), pytest.raises(
      ValueError, match="predictions has 6 rows, which the 8 devices of the mesh axis 'data' do not divide"):
    losses.cpc_info_nce(jnp.ones((6, T, STEPS, D)), jnp.ones((6, T, D)))


def test_negatives_of_the_same_sequence_need_no_other_device():
  """Nothing of z is gathered: the devices exchange sums alone."""
  mesh = make_mesh('data', 8)
  with jax.set_mesh(mesh):
    arrays = jax.device_put([jnp.float32(x) for x in encode(PARAMS, BATCH, np.tanh)], NamedSharding(mesh, P('data')))
    loss = functools.partial(losses.cpc_info_nce, negatives='sequence')
    text = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*arrays).compile().as_text()
  assert 'all-reduce' in text and 'all-gather' not in text
