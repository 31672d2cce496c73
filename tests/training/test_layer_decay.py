"""The rate of every parameter by its depth, on the names of real networks, and AdamW with it against its formula."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import models
from jaxssl.training import optimizers
from jaxssl.training.layer_decay import scales


def block():
  return {'norm1': {'scale': np.ones(4), 'bias': np.ones(4)}, 'qkv': {'kernel': np.ones((4, 12))},
          'mlp1': {'kernel': np.ones((4, 16)), 'bias': np.ones(16)}, 'layer_scale1': np.ones(4)}


def vit(blocks):
  return {'patch_embed': {'kernel': np.ones((12, 4)), 'bias': np.ones(4)}, 'class_token': np.ones(4),
          'registers': np.ones((2, 4)), 'positions': np.ones((5, 4)), 'norm': {'scale': np.ones(4)},
          **{f'block{i}': block() for i in range(blocks)}}


def by_path(tree):
  return {jax.tree_util.keystr(path, simple=True, separator='/'): value
          for path, value in jax.tree_util.tree_leaves_with_path(tree)}


@pytest.mark.parametrize('parents', [('encoder',), ('encoder', 'network', 'encoder')])
def test_vit(parents):
  tree = vit(12)  # More than ten: the order is that of the numbers, not of the letters.
  for parent in reversed(parents):
    tree = {parent: tree}
  found = by_path(scales({**tree, 'head': {'kernel': np.ones((4, 3))}}, 0.65))
  for path, scale in found.items():
    name = path.removeprefix('/'.join(parents) + '/').split('/')[0]
    if name.startswith('block'):
      depth = int(name.removeprefix('block')) + 1
    else:
      depth = {'norm': 13, 'head': 13}.get(name, 0)
    np.testing.assert_allclose(scale, 0.65 ** (13 - depth), err_msg=path)
  assert len(found) == 12 * 6 + 7


def test_bare_vit_is_its_own_root():
  found = by_path(scales(vit(2), 0.5))
  assert (found['patch_embed/kernel'], found['block0/qkv/kernel'], found['block1/qkv/kernel']) == (0.125, 0.25, 0.5)
  assert found['norm/scale'] == 1.0


def test_resnet_by_stages():
  network = models.ResNet((1, 2, 1), 'bottleneck', widths=(2, 2, 4), stem='d')
  params = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3)))['params']
  found = by_path(scales({'encoder': params, 'head': {'bias': np.ones(3)}}, 0.5))
  stages = {'conv1': 0, 'bn1': 0, 'conv3': 0, 'bn3': 0, 'layer1_0': 1, 'layer2_0': 2, 'layer2_1': 2, 'layer3_0': 3}
  for name, depth in stages.items():
    mine = {scale for path, scale in found.items() if path.startswith(f'encoder/{name}/')}
    assert mine == {0.5 ** (4 - depth)}, name
  assert found['head/bias'] == 1.0


def test_mlp_and_the_head_of_pretraining():
  linear = lambda: {'kernel': np.ones((2, 2))}
  found = by_path(scales({
      'encoder': {'linear1': linear(), 'bn1': {'scale': np.ones(2)}, 'linear2': linear()},
      'head': {'linear1': linear(), 'linear2': linear()}}, 0.1))
  assert list(found) == [
      'encoder/bn1/scale', 'encoder/linear1/kernel', 'encoder/linear2/kernel', 'head/linear1/kernel',
      'head/linear2/kernel']
  np.testing.assert_allclose(list(found.values()), [0.01, 0.01, 0.1, 1, 1])  # bn1 and linear1 are one layer.


def test_encoders_side_by_side_and_decoders():
  found = by_path(scales({'view0': vit(1), 'view1': vit(3), 'decoder': vit(4)}, 0.5))
  assert found['view0/block0/qkv/kernel'] == 0.5 and found['view1/block0/qkv/kernel'] == 0.125
  assert found['view0/patch_embed/kernel'] == 0.25 and found['view1/patch_embed/kernel'] == 0.0625
  assert {scale for path, scale in found.items() if path.startswith('decoder')} == {1.0}


def test_unknown_trees_and_decays_are_refused():
  with pytest.raises(ValueError, match=r'layer_decay needs parameters whose names tell their depth.*got Dense_0'):
    scales({'Dense_0': {'kernel': np.ones((2, 2))}}, 0.5)
  with pytest.raises(ValueError, match=r'layer_decay must lie in \(0, 1\]: got 1.5'):
    scales(vit(1), 1.5)
  with pytest.raises(ValueError, match='layer_decay needs parameters'):
    optimizers.adamw(0.1, layer_decay=0.5).init({'kernel': np.ones((2, 2))})


@pytest.mark.parametrize('accumulate_steps', [1, 2])
def test_adamw_against_its_formula(accumulate_steps):
  rng = np.random.default_rng(0)
  params = jax.tree.map(lambda x: rng.normal(size=x.shape), {'encoder': vit(2), 'head': {'kernel': np.ones((4, 3))}})
  grads = [jax.tree.map(lambda x: rng.normal(size=x.shape), params) for _ in range(4)]
  rate, decay, b1, b2 = (lambda i: 0.1 / (1 + i)), 0.65, 0.9, 0.95
  optimizer = optimizers.adamw(
      rate, b2=b2, weight_decay=0.05, layer_decay=decay, accumulate_steps=accumulate_steps)
  with jax.enable_x64(True):
    got, state = jax.tree.map(jnp.asarray, params), optimizer.init(jax.tree.map(jnp.asarray, params))
    for grad in grads:
      updates, state = jax.jit(optimizer.update)(jax.tree.map(jnp.asarray, grad), state, got)
      got = optax.apply_updates(got, updates)

  def follow(path, w):
    names = jax.tree_util.keystr(path, simple=True, separator='/')
    depth = 3 if 'head' in names or '/norm/' in names else 0
    depth = int(names.split('block')[1][0]) + 1 if 'block' in names else depth
    mine = [dict(jax.tree_util.tree_leaves_with_path(grad))[path] for grad in grads]
    mine = [np.mean(mine[i:i + accumulate_steps], 0) for i in range(0, len(mine), accumulate_steps)]
    m = v = 0.0
    for i, g in enumerate(mine):
      m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
      direction = m / (1 - b1 ** (i + 1)) / (np.sqrt(v / (1 - b2 ** (i + 1))) + 1e-8)
      lr = rate(i * accumulate_steps + accumulate_steps - 1) * decay ** (3 - depth)
      plain = w.ndim < 2 or names.endswith(('positions', 'registers'))
      w = w - lr * (direction + (0 if plain else 0.05 * w))
    return w

  jax.tree.map(
      lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-10 if accumulate_steps == 1 else 2e-6, atol=1e-12),
      got, jax.tree_util.tree_map_with_path(follow, params))


def test_no_decay_is_adamw_as_it_was():
  params = {'weights': jnp.ones((2, 3))}  # A name that tells no depth.
  plain = optimizers.adamw(0.1)
  for off in (None, 1.0):
    optimizer = optimizers.adamw(0.1, layer_decay=off)
    assert jax.tree.structure(optimizer.init(params)) == jax.tree.structure(plain.init(params))
