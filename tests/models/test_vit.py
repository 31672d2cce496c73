"""Vision transformers against timm, its published sizes, a float64 reference in NumPy and their own symmetries."""

import functools
import importlib.util
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models
from jaxssl.models import vit
from jaxssl.models.forward import forward

SCRIPT = pathlib.Path(__file__).parents[2] / 'scripts' / 'golden_vit.py'
spec = importlib.util.spec_from_file_location('golden_vit', SCRIPT)
golden_vit = importlib.util.module_from_spec(spec)
spec.loader.exec_module(golden_vit)

TIMM = models.ViT(8, 48, 3, 4, positions='learned')
LIKE_TIMM = {
    'plain': TIMM,
    'registers': TIMM.clone(registers=2, layer_scale=0.1),
    'registers without positions': TIMM.clone(registers=2),
    'no class, wide': TIMM.clone(class_token=False, pool='mean', qkv_bias=False),
}
SMALL = models.ViT(4, 16, 2, 2)
EVERYTHING = models.ViT(
    (2, 4), 16, 2, 2, mlp_ratio=3, pool='mean', registers=2, positions='rotary', layer_scale=0.5, qkv_bias=False)


def images(*shape, seed=1):
  return jnp.asarray(np.random.default_rng(seed).random(shape, np.float32))


@functools.cache
def init(network, shape=(1, 8, 12, 3)):
  """Random parameters, those that start at 0 or 1 too."""
  params = jax.jit(network.init)(jax.random.key(0, impl='rbg'), jnp.zeros(shape))['params']
  leaves, structure = jax.tree.flatten(params)
  rng = np.random.default_rng(0)
  return {'params': structure.unflatten([x + 0.1 * rng.normal(size=x.shape).astype(np.float32) for x in leaves])}


@functools.partial(jax.jit, static_argnums=0)
def tokens(network, variables, x, keep=None):
  return network.apply(variables, x, keep, method='tokens')


@functools.partial(jax.jit, static_argnums=0)
def masked(network, variables, x, keep, mask):
  return network.apply(variables, x, keep, mask=mask, method='tokens')


@functools.partial(jax.jit, static_argnums=0)
def features(network, variables, x):
  return network.apply(variables, x)


@functools.partial(jax.jit, static_argnums=0)
def train(network, params, x, seed):
  return forward(network, params, {}, x, rngs={'dropout': jax.random.key(seed)})[0]


def size(network, side):
  shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, side, side, 3)))
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(shapes))


@pytest.mark.parametrize('name, width, published', [  # timm's table of results, with its classifier of 1000 classes
    ('vit_tiny', 192, 5_717_416),
    ('vit_small', 384, 22_050_664),
    ('vit_base', 768, 86_567_656),
    ('vit_large', 1024, 304_326_632),
    ('vit_huge', 1280, 632_045_800),
])
def test_parameter_count_is_the_published_one(name, width, published):
  network = getattr(models, name)(positions='learned')
  assert size(network, 224) == published - (1000 * width + 1000)
  assert size(network.clone(positions='sincos'), 224) == size(network, 224) - (1 + (224 // network.patch) ** 2) * width


@pytest.fixture(scope='module')
def golden():
  with np.load(golden_vit.GOLDEN) as file:
    return dict(file)


def from_timm(name):
  grid = (3, 5) if 'wide' in name else None
  network, variables = LIKE_TIMM[name], models.load_timm(golden_vit.random_state(name), grid)
  x = golden_vit.random_images(name)
  expected = jax.eval_shape(network.init, jax.random.key(0), x)
  assert jax.tree.map(jnp.shape, variables) == jax.tree.map(jnp.shape, expected)
  return tokens(network, variables, x)


@pytest.mark.parametrize('name', LIKE_TIMM)
def test_tokens_equal_timm(name, golden):
  found = from_timm(name)
  assert found.dtype == jnp.float32 and 0.3 < golden[name].std() < 3
  np.testing.assert_allclose(found[:, :, ::6], golden[name], atol=1e-5)


@pytest.mark.parametrize('name', LIKE_TIMM)
def test_installed_timm_agrees(name):
  pytest.importorskip('timm', exc_type=(ImportError, RuntimeError))
  np.testing.assert_allclose(from_timm(name), golden_vit.torch_tokens(name), atol=1e-5)


def test_what_cannot_be_converted_is_named():
  state = golden_vit.random_state('plain')
  with pytest.raises(ValueError, match="plain VisionTransformer, got the weight 'fc_norm.weight'"):
    models.load_timm({**state, 'fc_norm.weight': np.zeros(48)})
  with pytest.raises(ValueError, match='as many patches as state_dict has positions, got 17.*grid=\\(3, 4\\)'):
    models.load_timm(state, (3, 4))
  kept = models.load_timm({**state, 'head.weight': np.zeros((10, 48)), 'decoder_pred.weight': np.zeros(3)})
  assert jax.tree.structure(kept) == jax.tree.structure(models.load_timm(state))


def reference(network, params, x, patch):
  """All tokens, one image, one patch and one head after another, in float64."""
  params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
  linear = lambda p, y: y @ p['kernel'] + p.get('bias', 0)
  gelu = lambda y: y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2)))

  def norm(p, y):
    y = y - y.mean(-1, keepdims=True)
    return y / np.sqrt((y**2).mean(-1, keepdims=True) + 1e-6) * p['scale'] + p['bias']

  def position(row, column):
    if network.positions == 'learned':
      return params['positions'][1 + row * (x.shape[2] // patch[1]) + column]
    if network.positions == 'rotary':
      return np.zeros(network.width)
    quarter = network.width // 4
    angle = lambda place: np.array([place / 10_000 ** (i / quarter) for i in range(quarter)])
    return np.concatenate([np.sin(angle(column)), np.cos(angle(column)), np.sin(angle(row)), np.cos(angle(row))])

  def turned(y, place):
    if network.positions != 'rotary' or place is None:
      return y
    y, half, quarter = y.copy(), len(y) // 2, len(y) // 4
    for i in range(half):
      angle = place[i // quarter] / 100 ** ((i % quarter) / quarter)
      z = complex(y[i], y[i + half]) * complex(math.cos(angle), math.sin(angle))
      y[i], y[i + half] = z.real, z.imag
    return y

  def attention(p, y, places):
    qkv = linear(p['qkv'], y).reshape(len(y), 3, network.heads, -1)
    out = np.zeros((len(y), network.heads, qkv.shape[-1]))
    for head in range(network.heads):
      q, k = ([turned(row, place) for row, place in zip(qkv[:, i, head], places, strict=True)] for i in (0, 1))
      for i in range(len(y)):
        weights = np.exp([q[i] @ k[j] / math.sqrt(len(q[i])) for j in range(len(y))])
        out[i, head] = sum(w * v for w, v in zip(weights / weights.sum(), qkv[:, 2, head], strict=True))
    return linear(p['out'], out.reshape(len(y), -1))

  def one(image):
    rows, columns = image.shape[0] // patch[0], image.shape[1] // patch[1]
    places = [(r, c) for r in range(rows) for c in range(columns)]
    cut = lambda r, c: image[r * patch[0] : (r + 1) * patch[0], c * patch[1] : (c + 1) * patch[1]].reshape(-1)
    y = [linear(params['patch_embed'], cut(*place)) + position(*place) for place in places]
    first = params['class_token'] + (params['positions'][0] if network.positions == 'learned' else 0)
    y = np.stack([first, *params.get('registers', []), *y])
    places = [None] * (len(y) - len(places)) + places
    for i in range(network.depth):
      p = params[f'block{i}']
      y = y + p.get('layer_scale1', 1) * attention(p, norm(p['norm1'], y), places)
      y = y + p.get('layer_scale2', 1) * linear(p['mlp2'], gelu(linear(p['mlp1'], norm(p['norm2'], y))))
    return norm(params['norm'], y)

  return np.stack([one(np.asarray(image, np.float64)) for image in x])


@pytest.mark.parametrize('network, patch', [
    (SMALL, (4, 4)), (EVERYTHING, (2, 4)), (SMALL.clone(positions='learned', registers=1), (4, 4))],
    ids=['sincos', 'rotary', 'learned'])
def test_forward_equals_a_slow_reference(network, patch):
  x, variables = images(2, 8, 12, 3), init(network)
  expected = reference(network, variables['params'], x, patch)
  np.testing.assert_allclose(tokens(network, variables, x), expected, atol=2e-5)
  pooled = expected[:, 0] if network.pool == 'class' else expected[:, 3:].mean(1)
  np.testing.assert_allclose(features(network, variables, x), pooled, atol=2e-5)


def test_bfloat16_is_near_and_keeps_float32_outside():
  variables, x = init(SMALL), images(2, 8, 12, 3)
  exact, network = tokens(SMALL, variables, x), SMALL.clone(dtype=jnp.bfloat16)
  near = tokens(network, variables, x)
  assert near.dtype == jnp.float32
  assert 1e-4 < np.abs(near - exact).max() < 0.1
  fresh = jax.eval_shape(network.init, jax.random.key(0), x)
  assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype('float32')}


def test_remat_changes_no_number():
  network = EVERYTHING.clone(drop_path=0.5)
  params, x = init(network)['params'], images(4, 8, 12, 3)
  loss = lambda network, params: jnp.sum(jnp.square(train(network, params, x, 5)))
  plain, again = (
      jax.jit(jax.value_and_grad(functools.partial(loss, n)))(params) for n in (network, network.clone(remat=True)))
  jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, again)
  traced = [str(jax.make_jaxpr(functools.partial(loss, network.clone(remat=remat)))(params)) for remat in (False, True)]
  assert [jaxpr.count('prevent_cse') for jaxpr in traced] == [0, 2], 'two blocks are computed again'


@pytest.mark.parametrize('network', [SMALL, EVERYTHING, SMALL.clone(positions='learned')], ids=lambda n: n.positions)
def test_keeping_all_patches_changes_nothing_and_their_order_only_theirs(network):
  variables, x = init(network), images(2, 8, 12, 3)
  n = 12 if network is EVERYTHING else 6
  whole = tokens(network, variables, x)
  np.testing.assert_array_equal(tokens(network, variables, x, jnp.tile(jnp.arange(n)[None], (2, 1))), whole)
  order = jnp.stack([jax.random.permutation(jax.random.key(i), n) for i in range(2)])
  prefix = network.num_prefix
  expected = jnp.take_along_axis(whole[:, prefix:], order[..., None], axis=1)
  found = tokens(network, variables, x, order)
  np.testing.assert_allclose(found[:, :prefix], whole[:, :prefix], atol=1e-5)
  np.testing.assert_allclose(found[:, prefix:], expected, atol=1e-5)
  assert np.abs(whole[:, prefix:] - expected).max() > 1e-2


def test_kept_patches_alone_count():
  variables, keep = init(SMALL), jnp.array([[0, 4], [5, 1]])
  x, other = images(2, 8, 12, 3), images(2, 8, 12, 3, seed=2)
  visible = np.zeros((2, 2, 3), bool)
  for i, row in enumerate(np.asarray(keep)):
    visible[i].reshape(-1)[row] = True
  mixed = jnp.where(np.kron(visible, np.ones((4, 4), bool))[..., None], x, other)
  first, second = tokens(SMALL, variables, x, keep), tokens(SMALL, variables, mixed, keep)
  assert first.shape == (2, 1 + 2, 16)
  np.testing.assert_array_equal(first, second)
  assert np.abs(tokens(SMALL, variables, other, keep) - first).max() > 1e-2


@pytest.mark.parametrize('network', [SMALL, EVERYTHING.clone(remat=True)], ids=lambda n: n.positions)
def test_masked_tokens_are_as_if_left_out(network):
  variables, x, prefix = init(network), images(2, 8, 12, 3), network.num_prefix
  keep = jnp.array([[0, 4, 2, 5], [5, 1, 3, 0]])
  mask = jnp.array([[True, True, False, False], [True, False, True, False]])
  found = masked(network, variables, x, keep, mask)
  for i in range(2):
    seen = [*range(prefix), *(prefix + np.flatnonzero(mask[i]))]
    alone = tokens(network, variables, x[i : i + 1], keep[i][mask[i]][None])
    np.testing.assert_allclose(found[i, seen], alone[0], atol=1e-5)
  other = masked(network, variables, x, jnp.where(mask, keep, 1), mask)
  real = np.pad(mask, ((0, 0), (prefix, 0)), constant_values=True)
  np.testing.assert_array_equal(found[real], other[real])
  assert np.abs(found - tokens(network, variables, x, keep))[real].max() > 1e-3
  everywhere = masked(network, variables, x, keep, jnp.ones_like(mask))
  np.testing.assert_allclose(everywhere, tokens(network, variables, x, keep), atol=1e-5)


def test_masked_tokens_get_no_gradient():
  x, mask = images(2, 3, 16), jnp.array([[True, False, True], [False, True, True]])
  params = init(SMALL)['params']['block0']
  loss = lambda x: jnp.sum(jnp.square(vit.Block(2).apply({'params': params}, x, mask=mask))[mask])
  gradient = np.asarray(jax.jit(jax.grad(loss))(x))
  assert (gradient[~np.asarray(mask)] == 0).all() and (gradient[np.asarray(mask)] != 0).all()


def test_sincos_positions_are_those_of_mae():
  table = vit.sincos_positions((2, 3), 8)
  w = 0.01  # 10,000^-(1/2), the second of two frequencies.
  row, column = 1, 2
  expected = [f(place * k) for place in (column, row) for f in (math.sin, math.cos) for k in (1, w)]
  np.testing.assert_allclose(table[row * 3 + column], expected, atol=1e-7)


def test_rotary_scores_depend_on_the_offset_alone():
  rng = np.random.default_rng(0)
  q, k = jnp.asarray(rng.normal(size=(2, 1, 1, 1, 16)), jnp.float32)
  angles = vit.rotary_angles((9, 9), 16).reshape(9, 9, 1, 1, 1, 8)
  score = lambda a, b: float(jnp.vdot(vit.rotate(q, angles[a]), vit.rotate(k, angles[b])))
  for offset in ((1, 0), (0, 3), (2, 5)):
    scores = [score((r, c), (r + offset[0], c + offset[1])) for r, c in ((0, 0), (3, 1), (6, 3))]
    np.testing.assert_allclose(scores, scores[0], rtol=1e-4)
  assert len({round(score((0, 0), place), 3) for place in ((0, 0), (1, 0), (0, 1), (2, 0), (0, 2), (1, 1))}) == 6


def test_rotary_tokens_do_not_change_when_the_image_moves():
  network = models.ViT(4, 16, 2, 2, pool='mean', class_token=False, positions='rotary')
  variables, content = init(network, (1, 20, 20, 3)), images(1, 8, 8, 3)
  place = lambda row, column: jnp.zeros((1, 20, 20, 3)).at[:, 4 * row : 4 * row + 8, 4 * column : 4 * column + 8].set(
      content)
  at = lambda row, column: jnp.array([[5 * r + c for r in (row, row + 1) for c in (column, column + 1)]])
  here, there = (tokens(network, variables, place(*p), at(*p)) for p in ((0, 0), (2, 3)))
  np.testing.assert_allclose(here, there, atol=1e-5)
  fixed = network.clone(positions='sincos')
  here, there = (tokens(fixed, variables, place(*p), at(*p)) for p in ((0, 0), (2, 3)))
  assert np.abs(here - there).max() > 1e-2


def test_stochastic_depth_skips_whole_branches_and_keeps_their_expectation():
  block = vit.Block(2, drop_path=0.25)
  params, y = init(SMALL)['params']['block0'], images(1, 3, 16)
  apply = jax.jit(lambda block, params, x: block.apply({'params': params}, x, rngs={'dropout': jax.random.key(0)}),
                  static_argnums=0)
  many = jnp.tile(y, (4000, 1, 1))
  dropped, whole = apply(block, params, many), apply(block.clone(drop_path=0.0), params, many)
  assert abs((dropped == many).all((1, 2)).mean() - 1 / 16) < 0.015, 'both branches skipped'
  assert len(np.unique(np.asarray(dropped).round(4).reshape(4000, -1), axis=0)) == 4, 'neither tokens nor channels'
  assert not (dropped == whole).all((1, 2)).any(), 'what is left is scaled by 1 / 0.75'
  # Of the attention alone, the expectation is what it is without skipping.
  attention = {**params, 'mlp2': jax.tree.map(jnp.zeros_like, params['mlp2'])}
  dropped, whole = apply(block, attention, many), apply(block.clone(drop_path=0.0), attention, many)
  np.testing.assert_allclose((dropped - many).mean(0), (whole - many)[0], rtol=0.04, atol=1e-5)


def test_stochastic_depth_is_of_training_alone():
  network, x = models.ViT(4, 8, 2, 2, drop_path=0.25), images(4, 4, 4, 1)
  variables = init(network, (1, 4, 4, 1))
  params, whole = variables['params'], features(network, variables, x)
  np.testing.assert_allclose(train(network.clone(drop_path=0.0), params, x, 0), whole, atol=1e-6)
  with pytest.raises(Exception, match='dropout'):
    jax.eval_shape(lambda: network.apply(variables, x, train=True))
  # The first block is never skipped; one alone needs no key.
  one = network.clone(depth=1, drop_path=0.9)
  np.testing.assert_allclose(train(one, params, x, 0), features(one, variables, x), atol=1e-6)
  assert jax.eval_shape(lambda: forward(one, params, {}, x))[1] == {}
  np.testing.assert_array_equal(train(network, params, x, 0), train(network, params, x, 0))
  assert np.abs(train(network, params, x, 0) - train(network, params, x, 1)).max() > 1e-2
  assert np.abs(train(network, params, x, 0) - whole).max() > 1e-2


def test_any_size_but_for_learned_positions():
  for network in (SMALL, EVERYTHING):
    assert jax.eval_shape(network.apply, init(network), images(1, 16, 4, 3)).shape == (1, 16)
  network = SMALL.clone(positions='learned')
  with pytest.raises(ValueError, match=r"learned positions are for, 6 patches; it has 4 x 1. positions='sincos'"):
    network.apply(init(network), images(1, 16, 4, 3))


@pytest.mark.parametrize('network, shape, message', [
    (SMALL, (1, 8, 10, 3), 'patch must divide the images: 4 x 4 does not divide 8 x 10'),
    (SMALL, (8, 8, 3), r'images must be \[b, h, w, c\], got shape \(8, 8, 3\)'),
    (SMALL.clone(patch=(4, 0)), (1, 8, 8, 3), r'patch must be a positive side, .* got \(4, 0\)'),
    (SMALL.clone(class_token=False), (1, 8, 8, 3), r"pool must be one of 'mean' with class_token=False, got 'cl"),
    (SMALL.clone(pool='max'), (1, 8, 8, 3), r"pool must be one of 'class', 'mean' .*got 'max'"),
    (SMALL.clone(positions='none'), (1, 8, 8, 3), "positions must be one of .* got 'none'"),
    (SMALL.clone(heads=3), (1, 8, 8, 3), 'ViT: width must be a multiple of heads = 3, got 16'),
    (SMALL.clone(heads=8, positions='rotary'), (1, 8, 8, 3), "multiple of 4 for positions='rotary', got 16 / 8"),
    (SMALL.clone(width=18), (1, 8, 8, 3), "width must be a multiple of 4 for positions='sincos', got 18"),
    (SMALL.clone(drop_path=1.0), (1, 8, 8, 3), r'drop_path must lie in \[0, 1\), got 1.0'),
    (SMALL.clone(registers=-1), (1, 8, 8, 3), 'registers not negative, got 16, 2, 2 and -1'),
])
def test_mistakes_are_named(network, shape, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(shape))
