"""The losses on several devices, against float64 NumPy on the whole batch."""

import functools
import itertools
import math
import re

import contrastive_reference as reference
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxssl import losses
from jaxssl.losses import _tiles

# A toy encoder and a learnable temperature; 24 examples divide over 1, 2, 3, 6 and 8 devices.
RNG = np.random.default_rng(0)
PARAMS = {'w': RNG.normal(size=(3, 4)), 'log_temperature': np.float64(-0.7)}
BATCH = (RNG.normal(size=(24, 3)), RNG.normal(size=(24, 3)), RNG.normal(size=(24, 2, 3)))  # Two views, own negatives.
BANK = RNG.normal(size=(5, 3))
LABELS = np.arange(24) ** 2 % 11  # Some without a positive.


def supervised(z1, z2, temperature, axis_name, implementation):
  """The first view under LABELS, the second under labels that no other row has."""
  n = len(z1)
  first = 0 if axis_name is None else n * lax.axis_index(axis_name)
  labels = lax.dynamic_slice(jnp.asarray(LABELS), (first,), (n,)), -1 - first - jnp.arange(n)
  return losses.supervised_contrastive(
      jnp.concatenate([z1, z2]), jnp.concatenate(labels), temperature=temperature, axis_name=axis_name,
      implementation=implementation)


def noise_contrastive(query, key, negatives, implementation, **settings):
  form = {'ring': None}.get(implementation, implementation)  # No queries are compared with other devices' keys.
  return losses.noise_contrastive(
      query, key, negatives, normalizer=7.0, num_examples=30, implementation=form, **settings)


# name -> (weight in the sum whose gradient is taken, loss of two views, own negatives and a bank, its slow reference).
LOSSES = {
    'nt_xent': (
        1.0, lambda z1, z2, own, bank, **settings: losses.nt_xent(z1, z2, **settings),
        lambda z1, z2, own, bank, temperature: reference.nt_xent(z1, z2, temperature)),
    'info_nce': (
        -2.0, lambda z1, z2, own, bank, **settings: losses.info_nce(z1, z2, normalize=False, **settings),
        lambda z1, z2, own, bank, temperature: reference.info_nce(z1, z2, temperature=temperature, normalize=False)),
    'bank': (
        3.0, lambda z1, z2, own, bank, **settings: losses.info_nce(z1, z2, bank, **settings),
        lambda z1, z2, own, bank, temperature: reference.info_nce(z1, z2, bank, temperature=temperature)),
    'own': (
        -4.0, lambda z1, z2, own, bank, **settings: losses.info_nce(z1, z2, own, **settings),
        lambda z1, z2, own, bank, temperature: reference.info_nce(z1, z2, own, temperature=temperature)),
    'symmetric_info_nce': (
        5.0, lambda z1, z2, own, bank, **settings: losses.symmetric_info_nce(z1, z2, **settings),
        lambda z1, z2, own, bank, temperature: reference.symmetric_info_nce(z1, z2, temperature)),
    'siglip': (
        -0.5, lambda z1, z2, own, bank, **settings: losses.siglip(z1, z2, bias=-2.0, **settings),
        lambda z1, z2, own, bank, temperature: reference.siglip(z1, z2, temperature, -2.0)),
    'nce': (
        0.5, lambda z1, z2, own, bank, **settings: noise_contrastive(z1, z2, bank, **settings),
        lambda z1, z2, own, bank, temperature: reference.noise_contrastive(z1, z2, bank, temperature, 7.0, 30)),
    'own nce': (
        -0.5, lambda z1, z2, own, bank, **settings: noise_contrastive(z1, z2, own, **settings),
        lambda z1, z2, own, bank, temperature: reference.noise_contrastive(z1, z2, own, temperature, 7.0, 30)),
    'retrieval': (
        0.0, lambda z1, z2, own, bank, axis_name, **settings: losses.retrieval_accuracy(z1, z2, axis_name=axis_name),
        lambda z1, z2, own, bank, temperature: reference.retrieval(z1, z2)),
    'accuracy': (
        0.0, lambda z1, z2, own, bank, temperature, **settings: losses.contrastive_accuracy(z1, z2, **settings),
        lambda z1, z2, own, bank, temperature: reference.accuracy(z1, z2)),
}
ALL, SOME = tuple(LOSSES), ('nt_xent', 'info_nce')
LOSSES |= {
    'supervised': (
        1.0, lambda z1, z2, own, bank, **settings: supervised(z1, z2, **settings),
        lambda z1, z2, own, bank, temperature: reference.supervised(
            [*z1, *z2], [*LABELS, *(-1 - np.arange(24))], temperature)),
    'decoupled': (
        -2.0, lambda z1, z2, own, bank, **settings: losses.decoupled_nt_xent(z1, z2, **settings),
        lambda z1, z2, own, bank, temperature: reference.decoupled(z1, z2, temperature)),
    'debiased': (
        3.0, lambda z1, z2, own, bank, **settings: losses.debiased_nt_xent(z1, z2, prior=0.3, **settings),
        lambda z1, z2, own, bank, temperature: reference.debiased(z1, z2, temperature, 0.3, 0.0)),
    'hard': (
        -4.0, lambda z1, z2, own, bank, **settings: losses.debiased_nt_xent(z1, z2, hardness=0.7, **settings),
        lambda z1, z2, own, bank, temperature: reference.debiased(z1, z2, temperature, 0.1, 0.7)),
    'logistic': (
        5.0, lambda z1, z2, own, bank, **settings: losses.nt_logistic(z1, z2, **settings),
        lambda z1, z2, own, bank, temperature: reference.logistic(z1, z2, temperature)),
}
FAMILY = ('supervised', 'decoupled', 'debiased', 'hard', 'logistic')


def multi_label(pairs, z1, z2, own, bank, *, temperature, **settings):
  """Multi-label CPC of two views or, by name, of pairs and their negatives; alpha is learnt too."""
  settings = {'temperature': temperature, 'alpha': 1.3 * temperature, **settings}
  module = losses if 'implementation' in settings else reference
  if pairs is None:
    return module.multi_label_nt_xent(z1, z2, **settings)
  return module.multi_label_info_nce(z1, z2, {'batch': None, 'bank': bank, 'own': own}[pairs], **settings)


MULTI_LABEL = {
    'multi_label_views': (1.0, None), 'multi_label_batch': (-2.0, 'batch'), 'multi_label_bank': (3.0, 'bank'),
    'multi_label_own': (-4.0, 'own')}
LOSSES |= {
    name: (weight, functools.partial(multi_label, pairs),
           lambda z1, z2, own, bank, temperature, pairs=pairs: multi_label(
               pairs, z1, z2, own, bank, temperature=temperature))
    for name, (weight, pairs) in MULTI_LABEL.items()}
MULTI_LABEL = tuple(MULTI_LABEL)
FOUR = ('nt_xent', 'info_nce', 'symmetric_info_nce', 'siglip')
IMPLEMENTATIONS = ('dense', 'tiled', 'ring')


def total(params, batch, names, axis_name=None, implementation=None):
  """Returns the weighted sum of the named losses, and each of them."""
  arrays = [jnp.tanh(x.astype(jnp.float32) @ params['w']) for x in (*batch, jnp.asarray(BANK))]
  settings = {'temperature': jnp.exp(params['log_temperature']), 'axis_name': axis_name,
              'implementation': implementation}
  values = jnp.stack([LOSSES[name][1](*arrays, **settings) for name in names])
  return sum(LOSSES[name][0] * value for name, value in zip(names, values, strict=True)), values


def slow_values(params, names):
  arrays = [np.tanh(x @ params['w']) for x in (*BATCH, BANK)]
  return np.array([LOSSES[name][2](*arrays, np.exp(params['log_temperature'])) for name in names])


@functools.cache
def expected(names):
  """Returns the slow values and the gradient of their weighted sum, by central differences."""
  weights = np.array([LOSSES[name][0] for name in names])

  def shifted(param, index, step):
    changed = {name: np.array(value) for name, value in PARAMS.items()}
    changed[param][index] += step
    return weights @ slow_values(changed, names)

  grads = {name: np.zeros_like(value) for name, value in PARAMS.items()}
  for name, grad in grads.items():
    for index in np.ndindex(grad.shape):
      grad[index] = (shifted(name, index, 1e-5) - shifted(name, index, -1e-5)) / 2e-5
  return slow_values(PARAMS, names), grads


def check(values, grads, names):
  slow, slow_grads = expected(names)
  np.testing.assert_allclose(values, np.broadcast_to(slow, values.shape), rtol=1e-6, atol=1e-6)
  for name, grad in slow_grads.items():
    np.testing.assert_allclose(grads[name], np.broadcast_to(grad, grads[name].shape), rtol=1e-5, atol=5e-6)


def float32(tree):
  return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def over_devices(context, function, devices):
  """Returns `function(params, batch)` mapped over the batch's parts, its results stacked if the context does so."""
  if context in ('vmap', 'pmap'):
    mapping = {'vmap': jax.vmap, 'pmap': functools.partial(jax.pmap, devices=jax.devices()[:devices])}[context]
    mapped = mapping(function, in_axes=(None, 0), axis_name='i')
    return lambda params, batch: mapped(params, [x.reshape(devices, -1, *x.shape[1:]) for x in batch])
  return jax.shard_map(
      function, mesh=make_mesh(i=devices), in_specs=(P(), P('i')), out_specs=P(),
      check_vma=context == 'shard_map checked')


def make_mesh(types=AxisType.Auto, **shape):
  devices = jax.devices()[:math.prod(shape.values())]
  return jax.make_mesh(tuple(shape.values()), tuple(shape), (types,) * len(shape), devices=devices)


def check_inside_and_outside(over_devices, axis_name, names, implementation):
  """Checks values and gradients, taken inside the mapped function and outside."""
  def inside(params, batch):
    grads, values = jax.grad(total, has_aux=True)(params, batch, names, axis_name, implementation)
    return values, lax.pmean(grads, axis_name)

  def outside(params, batch):
    loss, values = over_devices(lambda *args: total(*args, names, axis_name, implementation))(params, batch)
    return jnp.mean(loss), values

  both = lambda *args: (over_devices(inside)(*args), jax.grad(outside, has_aux=True)(*args)[::-1])
  for values, grads in jax.jit(both)(float32(PARAMS), float32(BATCH)):
    check(values, grads, names)


CONTEXTS = ('vmap', 'pmap', 'shard_map checked', 'shard_map unchecked')
DEVICES = (1, 2, 3, 8)
# Every pair of a context, a number of devices, an implementation and a loss; the product of all is slow to compile.
COVERING = [
    (context, devices, IMPLEMENTATIONS[(i + j) % 3], (FOUR[(i + j) % 4], FOUR[(i + j + 1 + i % 3) % 4]))
    for i, context in enumerate(CONTEXTS) for j, devices in enumerate(DEVICES)]


def test_the_cover_covers():
  runs = [(context, devices, implementation, name) for context, devices, implementation, names in COVERING
          for name in names]
  for one, other in itertools.combinations(range(4), 2):
    choices = [CONTEXTS, DEVICES, IMPLEMENTATIONS, FOUR]
    assert {(run[one], run[other]) for run in runs} >= set(itertools.product(choices[one], choices[other]))


@pytest.mark.parametrize('context, devices, implementation, names', COVERING)
def test_mapped_contexts(context, devices, implementation, names):
  check_inside_and_outside(lambda function: over_devices(context, function, devices), 'i', names, implementation)


def slow(*values):
  return pytest.param(*values, marks=pytest.mark.slow)


# Every context and every implementation; `slow`: every pair of them.
PAIRS = [('vmap', 'dense'), slow('vmap', 'tiled'), ('vmap', 'ring'),
         slow('shard_map checked', 'dense'), ('shard_map checked', 'tiled'), slow('shard_map checked', 'ring')]


@pytest.mark.parametrize('context, implementation', PAIRS)
def test_every_kind_of_negatives(context, implementation):
  check_inside_and_outside(lambda function: over_devices(context, function, 3), 'i', ALL, implementation)


@pytest.mark.parametrize('context, devices', [('vmap', 8), ('pmap', 2), ('shard_map checked', 8)])
def test_the_family_in_tiles(context, devices):
  check_inside_and_outside(lambda function: over_devices(context, function, devices), 'i', FAMILY, 'tiled')


@pytest.mark.parametrize('context, devices, implementation', [
    ('vmap', 3, 'dense'), slow('vmap', 8, 'tiled'), ('pmap', 2, 'tiled'), slow('pmap', 8, 'dense'),
    ('shard_map checked', 8, 'tiled'), slow('shard_map checked', 1, 'tiled'), slow('shard_map checked', 2, 'dense'),
    slow('shard_map unchecked', 3, 'tiled')])
def test_one_denominator_for_all_devices(context, devices, implementation):
  check_inside_and_outside(lambda function: over_devices(context, function, devices), 'i', MULTI_LABEL, implementation)


@pytest.mark.slow
@pytest.mark.parametrize('devices', DEVICES)
@pytest.mark.parametrize('context', CONTEXTS)
def test_the_family_in_tiles_all(context, devices):
  check_inside_and_outside(lambda function: over_devices(context, function, devices), 'i', FAMILY, 'tiled')


@pytest.mark.slow
@pytest.mark.parametrize('implementation', IMPLEMENTATIONS)
@pytest.mark.parametrize('devices', DEVICES)
@pytest.mark.parametrize('context', CONTEXTS)
def test_mapped_contexts_all(context, devices, implementation):
  check_inside_and_outside(lambda function: over_devices(context, function, devices), 'i', FOUR, implementation)


@pytest.mark.parametrize('context, implementation', PAIRS)
def test_several_axes(context, implementation):
  def over_two_axes(function):
    if context == 'vmap':
      mapped = jax.vmap(jax.vmap(function, in_axes=(None, 0), axis_name='j'), in_axes=(None, 0), axis_name='i')
      return lambda params, batch: mapped(params, [x.reshape(2, 3, -1, *x.shape[1:]) for x in batch])
    return jax.shard_map(function, mesh=make_mesh(i=2, j=3), in_specs=(P(), P(('i', 'j'))), out_specs=P())

  check_inside_and_outside(over_two_axes, ('i', 'j'), SOME, implementation)


def check_global(names=ALL, implementation=None):
  """Checks values and gradients of a caller with global arrays, who names no axis."""
  loss = functools.partial(total, names=names, implementation=implementation)
  grads, values = jax.jit(jax.grad(loss, has_aux=True))(float32(PARAMS), shard(float32(BATCH)))
  check(values, grads, names)


def shard(batch):
  """Puts the batch where a trainer puts it under the ambient mesh, if there is one."""
  mesh = jax.sharding.get_mesh()
  return batch if mesh.empty else jax.device_put(batch, NamedSharding(mesh, P('data')))


@pytest.mark.parametrize('names', [ALL, FAMILY, MULTI_LABEL])
@pytest.mark.parametrize('implementation', ['dense', 'tiled'])
def test_plain_jit(implementation, names):
  check_global(names, implementation)


@pytest.mark.parametrize('shape, types, names, implementation', [
    ({'data': 8}, AxisType.Auto, SOME, 'ring'),
    slow({'data': 8}, AxisType.Auto, SOME, 'dense'),
    ({'data': 3}, AxisType.Explicit, SOME, 'tiled'),
    ({'data': 1}, AxisType.Explicit, SOME, 'ring'),
    ({'data': 4, 'model': 2}, AxisType.Auto, SOME, 'tiled'),
    slow({'data': 4, 'model': 2}, AxisType.Explicit, ALL, 'dense'),
    ({'data': 4, 'model': 2}, AxisType.Explicit, ALL, 'ring'),
    slow({'data': 8}, AxisType.Auto, FAMILY, 'tiled'),
    ({'data': 4, 'model': 2}, AxisType.Explicit, FAMILY, 'tiled'),
    slow({'data': 8}, AxisType.Auto, MULTI_LABEL, 'tiled'),
    ({'data': 4, 'model': 2}, AxisType.Explicit, MULTI_LABEL, 'dense'),
])
def test_ambient_mesh(shape, types, names, implementation):
  with jax.set_mesh(make_mesh(types, **shape)):
    check_global(names, implementation)


def test_ambient_mesh_without_jit():
  with jax.set_mesh(make_mesh(data=2)):
    z1, z2 = float32(BATCH[:2])
    np.testing.assert_allclose(losses.nt_xent(z1, z2), reference.nt_xent(*BATCH[:2], 0.1), rtol=1e-6)


def test_ambient_mesh_without_a_data_axis():
  with jax.set_mesh(make_mesh(batch=8)):
    z1, z2 = float32(BATCH[:2])
    np.testing.assert_allclose(jax.jit(losses.nt_xent)(z1, z2), reference.nt_xent(*BATCH[:2], 0.1), rtol=1e-6)


@pytest.mark.parametrize('spec', [P(), P('data'), P(('data', 'model')), P('data', 'model'), P(None, 'model')])
@pytest.mark.parametrize('types', [AxisType.Auto, AxisType.Explicit])
def test_arrays_may_lie_anywhere(types, spec):
  mesh = make_mesh(types, data=2, model=2)
  z1, z2 = RNG.normal(size=(2, 8, 4))
  with jax.set_mesh(mesh):
    z = jax.device_put(float32((z1, z2)), NamedSharding(mesh, spec))
    loss, grads = jax.jit(jax.value_and_grad(losses.nt_xent, argnums=(0, 1)))(*z)
  np.testing.assert_allclose(loss, reference.nt_xent(z1, z2, 0.1), rtol=1e-6)
  assert grads[0].sharding.is_equivalent_to(z[0].sharding, 2) or types == AxisType.Auto


def test_each_device_computes_its_own_rows():
  """16 examples on 8 devices: 4 anchors a device against 32 candidates, gathered in one go; never 32 against 32."""
  mesh = make_mesh(data=8)
  with jax.set_mesh(mesh):
    z = jax.device_put(float32(RNG.normal(size=(2, 16, 4))), NamedSharding(mesh, P(None, 'data')))
    text = jax.jit(jax.value_and_grad(lambda z: losses.nt_xent(*z))).lower(z).compile().as_text()
  assert 'f32[4,32]' in text and 'f32[32,32]' not in text
  assert len(re.findall(r'= \S+ all-gather(?:-start)?\(', text)) == 1


def test_no_second_mesh_inside_a_manual_one():
  """Inside shard_map, a caller who names no axis gets the loss of the device's own batch."""
  mesh = make_mesh(data=2)
  z1, z2 = BATCH[:2]
  with jax.set_mesh(mesh):
    local = jax.shard_map(lambda *z: losses.nt_xent(*z)[None], in_specs=P('data'), out_specs=P('data'))
    values = jax.jit(local)(*float32((z1, z2)))
  own = [reference.nt_xent(z1[part], z2[part], 0.1) for part in (slice(12), slice(12, 24))]
  np.testing.assert_allclose(values, own, rtol=1e-6)


@pytest.mark.parametrize('kernel, first', [
    (losses.nt_xent, 'z1'), (losses.info_nce, 'query'), (losses.symmetric_info_nce, 'a'), (losses.siglip, 'a'),
    (losses.contrastive_accuracy, 'z1')])
def test_a_batch_that_the_data_axis_does_not_divide(kernel, first):
  z = jnp.ones((10, 4))
  with jax.set_mesh(make_mesh(data=8)), pytest.raises(
      ValueError, match=f"{first} has 10 rows, which the 8 devices of the mesh axis 'data' do not divide"):
    jax.jit(kernel)(z, z)


@functools.cache
def text_and_memory(loss, n, devices, **settings):
  """Returns the compiled text of a loss of [n, 8] arrays with its gradients, and the bytes that it allocates.

  Neither depends on how the instructions of the CPU are optimised.
  """
  function = jax.value_and_grad(lambda *z: loss(*z, **settings), argnums=(0, 1))
  if devices == 1:
    made = jax.jit(function).lower(*jnp.ones((2, n, 8))).compile()
  else:
    mesh = make_mesh(data=devices)
    with jax.set_mesh(mesh):
      z = [jax.device_put(jnp.ones((n, 8)), NamedSharding(mesh, P('data'))) for _ in range(2)]
      made = jax.jit(function).lower(*z).compile()
  return made.as_text(), made.memory_analysis().temp_size_in_bytes


def check_memory(loss, total, implementation, devices):
  """Checks for neither [N, N] nor a device's rows of it; memory grows with N; no gradient of rows is scattered."""
  n, settings = 1024, {'implementation': implementation}
  text, memory = text_and_memory(loss, n, devices, **settings)
  shapes = {tuple(map(int, shape.split(','))) for shape in re.findall(r'(?:f32|pred)\[(\d+,\d+)\]', text)}
  assert max(rows * columns for rows, columns in shapes) <= max(32 * 32, 8 * total)
  assert set(re.findall(r'\[([\d,]*)\]\S* reduce-scatter', text)) <= {'1'}  # But of the one denominator.
  _, twice = text_and_memory(loss, 2 * n, devices, **settings)
  assert twice < 2.5 * memory
  dense_text, dense = text_and_memory(loss, n, devices, implementation='dense')
  assert memory < dense / 3 and f',{total}]' in dense_text


@pytest.mark.parametrize('name, implementation, devices', [
    pytest.param(name, *where, marks=[pytest.mark.slow] * ((i + j) % 3 > 0))
    for i, name in enumerate(FOUR) for j, where in enumerate([('tiled', 1), ('tiled', 8), ('ring', 8)])])
def test_no_array_of_all_pairs(name, implementation, devices, monkeypatch):
  monkeypatch.setattr(_tiles, 'TILE', {'cpu': 32})
  check_memory(getattr(losses, name), 2048 if name == 'nt_xent' else 1024, implementation, devices)


@pytest.mark.parametrize('name, devices', [
    pytest.param(name, devices, marks=[pytest.mark.slow] * ((i + j) % 2))
    for i, name in enumerate([*FAMILY, *MULTI_LABEL[:2]]) for j, devices in enumerate([1, 8])])
def test_no_array_of_all_pairs_in_the_family(name, devices, monkeypatch):
  monkeypatch.setattr(_tiles, 'TILE', {'cpu': 32})
  loss = lambda z1, z2, **settings: LOSSES[name][1](
      z1, z2, None, None, temperature=jnp.float32(0.1), axis_name=None, **settings)
  if name == 'supervised':
    loss = lambda z1, z2, **settings: losses.supervised_contrastive(
        jnp.concatenate([z1, z2]), jnp.arange(2 * len(z1)) % 100, **settings)
  check_memory(loss, 1024 if name == 'multi_label_batch' else 2048, 'tiled', devices)
