"""Weights out and in again, under the names of torchvision and timm; programs that run without the model's code."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import export, models

RESNETS = {
    'basic': models.ResNet((2, 1), 'basic', (4, 8), zero_init_residual=False),
    'bottleneck, D': models.ResNet((1, 2), 'bottleneck', (4, 8), stem='d', average_pool_shortcut=True),
    'small stem, one channel': models.ResNet((1, 1), 'basic', (4, 8), stem='small'),
}
VITS = {
    'fixed positions': models.ViT(8, 16, 2, 2),
    'learned positions': models.ViT((8, 4), 16, 2, 2, positions='learned', layer_scale=0.1),
    'no class': models.ViT(8, 16, 1, 2, class_token=False, pool='mean', positions='learned', qkv_bias=False),
    'registers': models.ViT(8, 16, 1, 2, registers=2, positions='learned'),
    'registers alone': models.ViT(8, 16, 1, 2, registers=3, class_token=False, pool='mean', positions='learned'),
}
ENCODERS = {**RESNETS, **VITS}


@functools.cache
def example(name):
  """An encoder, random variables of which none is 0 or 1, and images."""
  encoder = ENCODERS[name]
  rng = np.random.default_rng(0)
  images = rng.random((3, 32, 16, 1 if 'one channel' in name else 3), np.float32)
  variables = jax.jit(encoder.init)(jax.random.key(0), images)
  noisy = lambda x: x + 0.1 * rng.uniform(size=x.shape).astype(np.float32)
  return encoder, jax.tree.map(noisy, variables), images


def assert_same(a, b):
  jax.tree.map(np.testing.assert_array_equal, dict(a), dict(b))


@pytest.mark.parametrize('name', [name for name in ENCODERS if name != 'fixed positions'])
def test_comes_back_from_a_file(name, tmp_path):
  encoder, variables, _ = example(name)
  export.save(tmp_path / 'encoder.safetensors', encoder, variables, (32, 16))
  assert_same(variables, export.load(tmp_path / 'encoder.safetensors', encoder, (32, 16)))


def test_fixed_positions_become_weights():
  encoder, variables, images = example('fixed positions')
  state = export.state_dict(encoder, variables, (32, 16))
  learned = encoder.clone(positions='learned')
  found = learned.apply(export.variables(learned, state, (32, 16)), images)
  np.testing.assert_allclose(found, encoder.apply(variables, images), atol=1e-6)


def test_names_and_shapes_are_those_of_torchvision_and_timm():
  shapes = {name: array.shape for name, array in export.state_dict(*example('bottleneck, D')[:2]).items()}
  assert shapes['conv1.0.weight'] == (2, 3, 3, 3) and shapes['bn1.running_mean'] == (4,)
  assert shapes['layer2.0.downsample.1.weight'] == (32, 16, 1, 1) and shapes['layer2.1.bn3.bias'] == (32,)
  shapes = {name: array.shape for name, array in export.state_dict(*example('learned positions')[:2], (32, 16)).items()}
  assert shapes['patch_embed.proj.weight'] == (16, 3, 8, 4) and shapes['pos_embed'] == (1, 17, 16)
  assert shapes['blocks.1.attn.qkv.weight'] == (48, 16) and shapes['blocks.0.ls2.gamma'] == (16,)
  assert shapes['cls_token'] == (1, 1, 16) and shapes['norm.bias'] == (16,)


@pytest.mark.parametrize('encoder, message', [
    (models.ResNet((1,), 'bottleneck', (4,), sk_ratio=0.0625), 'sk_ratio=0 to have torchvision.*sk_ratio=0.0625'),
    (models.ResNet((1,), 'basic', (4,), norm='layer'), "norm='batch' .*got norm='layer'"),
    (models.ViT(8, 16, 1, 2, positions='rotary'), "positions='learned' or 'sincos' .*got 'rotary'"),
    (models.MLP((3, 2)), 'encoder must be a ResNet or a ViT, got MLP'),
    (models.ViT(7, 16, 1, 2), 'image_size must be a multiple of the patch, 7, got 32'),
])
def test_what_has_no_counterpart_is_named(encoder, message):
  with pytest.raises(ValueError, match=message):
    export.state_dict(encoder, {'params': {}, 'batch_stats': {}}, 32)


def test_weights_of_another_network_are_refused(tmp_path):
  encoder, variables, _ = example('basic')
  state = export.state_dict(encoder, variables)
  with pytest.raises(ValueError, match=r'has batch_stats.layer1_1.bn1.mean of shape none; got \(4,\)'):
    export.variables(models.ResNet((1, 1), 'basic', (4, 8)), state)
  with pytest.raises(ValueError, match=r'bn1.mean of shape \(6,\); got \(4,\)'):
    export.variables(models.ResNet((2, 1), 'basic', (6, 8)), state)
  with pytest.raises(ValueError, match="of a plain .*, which has 'patch_embed.proj.weight', got 'bn1.bias'"):
    export.variables(ENCODERS['learned positions'], dict(sorted(state.items())))
  of_vit = export.state_dict(*example('learned positions')[:2], (32, 16))
  with pytest.raises(ValueError, match="of a ResNet, got the weight 'patch_embed.proj.weight'"):
    export.variables(encoder, of_vit)
  with pytest.raises(ValueError, match=r'has params.conv1.kernel of shape \(7, 7, 3, 4\); got none'):
    export.variables(encoder, {name: array for name, array in state.items() if name != 'conv1.weight'})
  with pytest.raises(ValueError, match="positions='learned', as weights of timm do, got 'sincos'"):
    export.variables(ENCODERS['fixed positions'], {})
  (tmp_path / 'no.safetensors').write_bytes(b'weights')
  for wrong, message in (({'params': {'view0': variables['params']}}, 'variables must be of this encoder, which has '),
                         ({'params': {}}, 'variables must be of this encoder, which has ')):
    for name in ('basic', 'learned positions'):
      with pytest.raises(ValueError, match=message):
        export.state_dict(ENCODERS[name], wrong, (32, 16))
  with pytest.raises(ValueError, match='no.safetensors is no .safetensors file'):
    export.load(tmp_path / 'no.safetensors', encoder)


def test_a_program_takes_any_batch():
  encoder, variables, images = example('basic')
  represent = lambda x: encoder.apply(variables, x)
  program = jax.export.deserialize(export.stablehlo(represent, images.shape[1:]))
  for batch in (1, 3):
    np.testing.assert_allclose(program.call(jnp.asarray(images[:batch])), represent(images[:batch]), rtol=1e-5)


@pytest.mark.parametrize('name, changes, message', [
    ('basic', {'conv1.weight': np.full((4, 3, 7, 7), np.nan, np.float32)}, 'got others in conv1.weight'),
    ('basic', {'conv1.weight': np.ones((4, 3, 7, 7), int)}, 'must hold floats, got int64 in conv1.weight'),
    ('basic', {'layer1.0.conv1.x.weight': np.ones((4, 4, 3, 3), np.float32)}, "the weight 'layer1.0.conv1.x.weight'"),
    ('basic', {'conv1.0.weight': np.ones((4, 3, 3, 3), np.float32)}, 'state must be of a ResNet'),
    ('learned positions', {'patch_embed.proj.weight': np.ones((16, 3, 4, 8), np.float32)},
     r'patches of \[8, 4\] pixels, as the encoder has, got \[4, 8\]'),
    ('learned positions', {'pos_embed': np.float32(1)}, 'state must be of a ViT'),
    ('learned positions', {'dist_token': np.ones((1, 1, 16), np.float32)}, "got the weight 'dist_token'"),
])
def test_weights_that_are_odd_are_refused_in_one_line(name, changes, message, tmp_path):
  from safetensors.numpy import save_file

  encoder, variables, _ = example(name)
  state = {**export.state_dict(encoder, variables, (32, 16)), **changes}
  save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, tmp_path / 'odd.safetensors')
  with pytest.raises(ValueError, match=f'odd.safetensors: .*{message}'):
    export.load(tmp_path / 'odd.safetensors', encoder, (32, 16))
