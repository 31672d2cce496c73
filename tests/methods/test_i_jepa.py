"""I-JEPA against a reference without idle places, image by image, in NumPy; its blocks against brute force."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from vit_reference import cut, linear, position, prefix, transformer

from jaxssl import core, methods, models
from jaxssl.methods import i_jepa

ENCODER = models.ViT(4, 16, 1, 2, class_token=False, pool='mean')
PREDICTOR = models.JEPAPredictor(8, 1, 2)
IJEPA = methods.IJEPA(ENCODER, PREDICTOR, optax.sgd(0.1), momentum=lambda step: 0.8 + 0.05 * step)
SMALL_CONTEXT = methods.IJEPA(
    ENCODER.clone(patch=(2, 4), class_token=True, registers=2), PREDICTOR, optax.sgd(0.1), momentum=0.9,
    target_scale=(0.2, 0.3), context_share=0.3)
VARIANTS = {'paper': IJEPA, 'all fields': SMALL_CONTEXT}
SHAPE = (3, 16, 20, 3)
KEY = jax.random.key(7)


def variant(**fields):
  return methods.IJEPA(**{**vars(IJEPA), **fields})


def images(*shape, seed=1):
  return jnp.asarray(np.random.default_rng(seed).random(shape, np.float32))


@functools.cache
def initial(method):
  return jax.jit(method.init)(jax.random.key(0, impl='rbg'), {'views': (jnp.zeros(SHAPE),)})


def moved(tree, seed):
  rng = np.random.default_rng(seed)
  return jax.tree.map(lambda a: a + 0.1 * rng.normal(size=a.shape).astype(np.float32), tree)


@functools.partial(jax.jit, static_argnums=0)
def loss(method, params, stats, x, key, step):
  return method.loss(params, stats, x, key, step)


@functools.partial(jax.jit, static_argnums=(0, 3))
def represent(method, state, x, name=None):
  return method.represent(state, x, name)


@functools.partial(jax.jit, static_argnums=(0, 2))
def draw(method, key, shape):
  return method.draw_blocks(key, jnp.zeros(shape))


@functools.partial(jax.jit, static_argnums=0)
def predict(method, params, x, blocks):
  return method.network.apply({'params': params}, x, blocks)


@functools.cache
def drawn(grid, count=2000, **fields):
  """Blocks of many images of so many patches, as NumPy arrays."""
  return [np.asarray(a) for a in draw(variant(**fields), KEY, (count, 4 * grid[0], 4 * grid[1], 1))]


def sizes(grid, scale, aspect):
  """All heights and widths that a fine lattice of scales and aspects comes to."""
  area, ratio = (values.ravel() for values in np.meshgrid(np.linspace(*scale, 401), np.linspace(*aspect, 1601)))
  sides = np.round(np.sqrt([area * ratio, area / ratio]) * np.array(grid)[:, None])
  return {(int(h), int(w)) for h, w in np.unique(np.clip(sides, 1, np.array(grid)[:, None]), axis=1).T}


def box(patches, grid):
  """Top, left, height and width of the smallest rectangle around patches."""
  rows, columns = np.divmod(patches, grid[1])
  return rows.min(), columns.min(), np.ptp(rows) + 1, np.ptp(columns) + 1


@pytest.mark.parametrize('grid', [(14, 14), (7, 7), (4, 4), (3, 8)])
def test_targets_are_rectangles_of_the_sizes_asked_for(grid):
  context, seen, targets, real = drawn(grid)
  allowed, found = sizes(grid, IJEPA.target_scale, IJEPA.target_aspect), set()
  assert targets.shape == real.shape == (2000, 4, max(h * w for h, w in allowed))
  assert context.shape == seen.shape == (2000, int(0.6 * math.prod(grid)))
  for image in range(300):
    for block in range(4):
      patches = targets[image, block][real[image, block]]
      if len(patches):
        top, left, *size = box(patches, grid)
        found.add(tuple(size))
        expected = (np.arange(top, top + size[0])[:, None] * grid[1] + np.arange(left, left + size[1])).ravel()
        np.testing.assert_array_equal(patches, expected)
  assert found <= allowed and len(found) > len(allowed) // 2
  if grid == (14, 14):
    assert real.any(2).all(), 'all four'
    assert abs(real.sum(2).mean() / 196 - 0.175) < 0.002
    counts = np.bincount(targets[real], minlength=196).reshape(grid)
    assert counts.min() > 0 and abs(counts[:, :7].sum() / counts.sum() - 0.5) < 0.01


@pytest.mark.parametrize('grid', [(14, 14), (16, 16), (7, 7), (4, 4), (3, 3), (1, 16), (5, 32)])
@pytest.mark.parametrize('scale, aspect', [((0.15, 0.2), (0.75, 1.5)), ((0.3, 0.3), (0.2, 5.0)), ((0.01, 0.8), (1, 1))])
def test_room_for_the_largest_target_and_no_more(grid, scale, aspect):
  largest = max(h * w for h, w in sizes(grid, scale, aspect))
  assert i_jepa.largest_block(grid, scale, aspect) == largest


@pytest.mark.parametrize('grid', [(14, 14), (7, 7), (4, 4), (3, 8)])
def test_contexts_are_a_large_block_without_the_targets(grid):
  context, seen, targets, real = drawn(grid, context_share=1.0)
  allowed = sizes(grid, IJEPA.context_scale, (1, 1))
  most = tuple(np.max(list(allowed), axis=0))
  for image in range(300):
    visible, hidden = set(context[image][seen[image]]), set(targets[image][real[image]])
    assert len(visible) == seen[image].sum() >= 1 and not visible & hidden
    top, left, *size = box(np.array(list(visible)), grid)
    assert tuple(size) <= most
    around = {r * grid[1] + c for r in range(top, top + size[0]) for c in range(left, left + size[1])}
    assert around <= visible | hidden, 'nothing else is missing'
    assert len(visible | hidden) >= min(h * w for h, w in allowed)


def test_contexts_that_do_not_fit_are_cut_at_random():
  (all_context, all_seen, *targets), (context, seen, *same) = drawn((8, 8), context_share=1.0), drawn(
      (8, 8), context_share=0.3)
  assert context.shape == (2000, 19)
  np.testing.assert_array_equal(targets[0], same[0])
  np.testing.assert_array_equal(seen.sum(1), np.minimum(all_seen.sum(1), 19))
  assert (all_seen.sum(1) > 19).mean() > 0.9
  assert all(set(few[real]) <= set(many) for few, real, many in zip(context, seen, all_context, strict=True))
  rows = lambda patches: (patches // 8).mean()
  assert abs(rows(context[seen]) - rows(all_context[all_seen])) < 0.1, 'not those of the last rows'


def test_default_room_is_for_all_but_a_few_contexts():
  _, seen, _, _ = drawn((14, 14), 5120, context_share=1.0)
  shares = seen.sum(1) / 196
  assert abs(shares.mean() - 0.46) < 0.01 and abs(np.quantile(shares, 0.95) - 0.61) < 0.01
  assert abs(shares.reshape(-1, 128).min(1).mean() - 0.25) < 0.02, 'the shortest of 128'


def test_targets_that_would_leave_no_context_are_left_out():
  grid = (4, 4)
  fields = {'target_scale': (0.4, 0.5), 'context_share': 1.0}
  _, seen, _, real = drawn(grid, **fields)
  count = real.any(2).sum(1)
  assert (count < 4).sum() > 20 and (count >= 1).all() and seen.any(1).all()
  assert (np.diff(real.any(2).astype(int), axis=1) <= 0).all(), 'the last of them'


def test_each_image_draws_from_its_own_key():
  many, few = draw(IJEPA, KEY, (8, 28, 28, 1)), draw(IJEPA, KEY, (3, 28, 28, 1))
  jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[:3], b), many, few)
  assert len({tuple(row) for row in np.asarray(many.targets).reshape(8, -1)}) == 8
  other = draw(IJEPA, jax.random.key(8), (8, 28, 28, 1))
  assert (np.asarray(other.targets) != np.asarray(many.targets)).any((1, 2)).all()


def reference(method, params, target, x, blocks):
  """The loss of images x, image by image and block by block, of the patches that count alone."""
  params, target = (jax.tree.map(lambda a: np.asarray(a, np.float64), tree) for tree in (params, target))
  encoder, predictor, values = params['encoder'], params['predictor'], []
  count = len(prefix(encoder))

  def encode(parameters, image, numbers):
    patches, places = cut(image, method.encoder.patch)
    tokens = [linear(parameters['patch_embed'], patches[i]) + position(*places[i], 16) for i in numbers]
    return transformer(parameters, np.stack(prefix(parameters) + tokens), 2), places

  for image, context, seen, targets, real in zip(np.asarray(x, np.float64), *map(np.asarray, blocks), strict=True):
    visible = context[seen]
    tokens, places = encode(encoder, image, visible)
    expected = encode(target, image, range(len(places)))[0][count:]
    expected = (expected - expected.mean(1, keepdims=True)) / np.sqrt(expected.var(1, keepdims=True) + 1e-5)
    for block, counts in zip(targets, real, strict=True):
      given = linear(predictor['embed'], tokens)
      given[count:] += [position(*places[i], 8) for i in visible]
      asked = [predictor['mask_token'] + position(*places[i], 8) for i in block[counts]]
      if not asked:
        continue
      out = transformer(predictor, np.concatenate([given, asked]), 2)[len(given):]
      distance = np.abs(linear(predictor['out'], out) - expected[block[counts]])
      values.append(np.where(distance < 1, distance**2 / 2, distance - 0.5).ravel())
  return np.concatenate(values).mean()


@pytest.mark.parametrize('name', VARIANTS)
def test_loss_equals_a_slow_reference(name):
  method, x, state = VARIANTS[name], images(*SHAPE), initial(VARIANTS[name])
  params, target = moved(state.params, 0), moved(state.params, 1)['encoder']
  stats = {'target': {'params': {'encoder': target}}}
  found, (stats, metrics) = loss(method, params, stats, x, KEY, 3)
  momentum = 0.9  # Of both; the schedule's at step 2, which ended the last update.
  average = jax.tree.map(lambda a, b: momentum * a + (1 - momentum) * b, target, params['encoder'])
  blocks = method.draw_blocks(jax.random.split(KEY)[0], x)
  np.testing.assert_allclose(found, reference(method, params, average, x, blocks), rtol=1e-5)
  tokens = method.target(average, x)
  np.testing.assert_allclose(metrics['target_deviation'], np.sqrt(np.var(tokens, axis=0).mean()), rtol=1e-4)
  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stats['target']['params']['encoder'], average)


@pytest.mark.parametrize('name', VARIANTS)
def test_what_does_not_count_changes_nothing(name):
  """Neither the pixels of patches that are not seen, nor what stands in idle places, nor where they say they are."""
  method, x, params = VARIANTS[name], images(*SHAPE), moved(initial(VARIANTS[name]).params, 0)
  blocks = draw(method, KEY, SHAPE)
  grid = (16 // np.broadcast_to(method.encoder.patch, 2)[0], 5)
  visible = np.zeros((3, math.prod(grid)), bool)
  for row, context, seen in zip(visible, *map(np.asarray, blocks[:2]), strict=True):
    row[context[seen]] = True
  visible = np.kron(visible.reshape(3, *grid), np.ones((16 // grid[0], 4), bool))[..., None]
  other = jnp.where(visible, x, images(*SHAPE, seed=2))
  assert np.abs(other - x).max() > 0.5 and not (blocks.seen.all() and blocks.real.all())
  rng = np.random.default_rng(0)
  noise = lambda numbers, counts: jnp.where(counts, numbers, rng.integers(0, math.prod(grid), numbers.shape))
  shuffled = blocks._replace(
      context=noise(blocks.context, blocks.seen), targets=noise(blocks.targets, blocks.real))
  expected = np.asarray(predict(method, params, x, blocks))[blocks.real]
  found = np.asarray(predict(method, params, other, shuffled))[blocks.real]
  np.testing.assert_array_equal(found, expected)
  changed = np.asarray(predict(method, params, images(*SHAPE, seed=2), blocks))[blocks.real]
  assert np.abs(changed - expected).max() > 1e-2


def test_no_gradient_reaches_the_target():
  """Where the target is the network itself, the gradient is that of a loss with the target as a constant."""
  method = variant(momentum=lambda step: 1.0 * step)  # 0 at the end of step 0, 1 at that of step 1.
  x, params = images(*SHAPE), moved(initial(IJEPA).params, 0)
  stats = lambda params: {'target': {'params': {'encoder': params['encoder']}}}
  grad = jax.jit(jax.value_and_grad(lambda *args: method.loss(*args)[0], argnums=(0, 1)))
  same, (found, of_target) = grad(params, stats(moved(params, 1)), x, KEY, 1)
  constant, (expected, of_constant) = grad(params, stats(params), x, KEY, 2)
  np.testing.assert_allclose(same, constant, rtol=1e-6)
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), found, expected)
  assert not any(jnp.any(leaf) for leaf in jax.tree.leaves((of_target, of_constant)))


def test_the_moving_average_of_three_steps_written_out():
  state, step = initial(IJEPA), jax.jit(IJEPA.step)
  average = state.params['encoder']
  for i in range(3):
    state, _ = step(state, {'views': (images(*SHAPE, seed=i),)}, jax.random.key(i))
    stored = state.stats['target']['params']
    assert set(stored) == {'encoder'}
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), stored['encoder'], average)
    momentum = 0.8 + 0.05 * i
    average = jax.tree.map(lambda a, b, m=momentum: m * a + (1 - m) * b, average, state.params['encoder'])
  x = images(*SHAPE, seed=9)
  mean = jax.jit(lambda params: ENCODER.apply({'params': params}, x))
  np.testing.assert_allclose(represent(IJEPA, state, x), mean(average), atol=1e-5)
  np.testing.assert_allclose(represent(IJEPA, state, (x,), 'online'), mean(state.params['encoder']), atol=1e-6)
  assert np.abs(mean(average) - mean(state.params['encoder'])).max() > 1e-3
  flat = lambda tree: np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree['encoder'])])
  own, followed = flat(state.params), flat(state.stats['target']['params'])
  expected = np.linalg.norm(own - followed) / np.linalg.norm(own)
  np.testing.assert_allclose(IJEPA.health(state, {})['target_distance'], expected, rtol=1e-4)


def test_representations_are_those_the_encoder_has():
  state, x = initial(SMALL_CONTEXT), images(*SHAPE)
  assert IJEPA.representations == ('mean', 'online') and SMALL_CONTEXT.representations == ('mean', 'online', 'class')
  encoder, variables = SMALL_CONTEXT.backbone(state, 'class')
  tokens = jax.jit(functools.partial(encoder.apply, method='tokens'))(variables, x)
  np.testing.assert_allclose(represent(SMALL_CONTEXT, state, x, 'class'), tokens[:, 0], atol=1e-5)
  np.testing.assert_allclose(represent(SMALL_CONTEXT, state, x), tokens[:, 3:].mean(1), atol=1e-5)
  with pytest.raises(ValueError, match="name must be one of 'mean', 'online', got 'class'"):
    IJEPA.backbone(initial(IJEPA), 'class')


def test_embedding_has_mean_zero():
  (h,) = jax.jit(IJEPA.embed)(initial(IJEPA), {'views': (images(5, *SHAPE[1:]),)})
  assert h.shape == (5, 16) and h.std() > 1e-3
  np.testing.assert_allclose(h.mean(0), 0, atol=1e-6)


def test_state_holds_encoder_and_predictor():
  state = initial(IJEPA)
  assert isinstance(state, core.State) and set(state.params) == {'encoder', 'predictor'}
  jax.tree.map(
      np.testing.assert_array_equal, state.stats, {'target': {'params': {'encoder': state.params['encoder']}}})


def test_stochastic_depth_is_of_the_context_alone():
  method, x = variant(encoder=ENCODER.clone(depth=2, drop_path=0.9)), images(*SHAPE)
  state = jax.eval_shape(method.init, KEY, {'views': (x,)})
  assert jax.eval_shape(method.target, state.params['encoder'], x).shape == (3, 20, 16)  # Without a key.
  jax.eval_shape(method.loss, state.params, state.stats, x, KEY)
  with pytest.raises(Exception, match='dropout'):
    jax.eval_shape(lambda params: method.network.apply(
        {'params': params}, x, method.draw_blocks(KEY, x), train=True), state.params)


@pytest.mark.parametrize('fields, message', [
    ({'encoder': models.ConvEncoder((4,))}, 'encoder must be a ViT, got ConvEncoder'),
    ({'predictor': models.MAEDecoder()}, 'predictor must be a JEPAPredictor, got MAEDecoder'),
    ({'momentum': 1.5}, r'momentum must lie in \[0, 1\], or be a schedule, got 1.5'),
    ({'num_targets': 0}, 'num_targets must be positive, got 0'),
    ({'target_scale': (0.2, 0.15)}, r'target_scale must be two numbers in \(0, 1\], .* first, got \(0.2, 0.15\)'),
    ({'target_scale': (0.0, 0.2)}, r'target_scale must be two numbers in \(0, 1\]'),
    ({'target_aspect': (1.0, math.inf)}, r'target_aspect must be two numbers above 0, .* got \(1.0, inf\)'),
    ({'context_scale': (0.85, 1.1)}, r'context_scale must be two numbers in \(0, 1\], .* got \(0.85, 1.1\)'),
    ({'context_share': 0.0}, r'context_share must lie in \(0, 1\], got 0.0'),
])
def test_mistakes_are_named(fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields)


@pytest.mark.parametrize('shape, fields, message', [
    ((2, 4, 4, 1), {}, 'target_scale and context_scale must leave some context: of 1 x 1 patches a target may take 1'),
    ((2, 8, 8, 1), {'context_scale': (0.1, 1.0)}, r'may take 1, and the context have 1, with \(0.15, 0.2\) and \(0.1'),
    ((2, 16, 18, 1), {}, 'patch must divide the images: 4 x 4 does not divide 16 x 18'),
])
def test_grids_that_leave_no_context_are_refused(shape, fields, message):
  with pytest.raises(ValueError, match=message):
    variant(**fields).init(KEY, {'views': (jnp.zeros(shape),)})
