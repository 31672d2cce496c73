"""Writes tests/models/golden_vit.npz: tokens of timm's vision transformers for known weights.

The weights come from a recipe in NumPy (`random_weights`), so that the tests need neither torch nor a download:

  python -m venv torch && torch/bin/pip install torch timm && torch/bin/python scripts/golden_vit.py
"""

import pathlib
import zlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / 'tests' / 'models' / 'golden_vit.npz'
COMMON = {'patch_size': 8, 'embed_dim': 48, 'depth': 3, 'num_heads': 4, 'num_classes': 0, 'global_pool': ''}
# Name -> arguments of timm's VisionTransformer.
MODELS = {
    'plain': {'img_size': 32},
    'registers': {'img_size': 32, 'reg_tokens': 2, 'init_values': 0.1},
    'registers without positions': {'img_size': 32, 'reg_tokens': 2, 'no_embed_class': True},
    'no class, wide': {'img_size': (24, 40), 'class_token': False, 'qkv_bias': False},
}


def shapes(name: str) -> dict[str, tuple[int, ...]]:
  """Returns the shapes of the state dict of model `name`."""
  model, d = MODELS[name], COMMON['embed_dim']
  height, width = random_images(name).shape[1:3]
  has_class, registers = model.get('class_token', True), model.get('reg_tokens', 0)
  positions = height * width // COMMON['patch_size'] ** 2
  positions += 0 if model.get('no_embed_class') else has_class + registers
  linear = lambda name, fan_in, out: {f'{name}.weight': (out, fan_in), f'{name}.bias': (out,)}
  norm = lambda name: {f'{name}.weight': (d,), f'{name}.bias': (d,)}
  found = {'cls_token': (1, 1, d)} if has_class else {}
  found |= {'reg_token': (1, registers, d)} if registers else {}
  found |= {'pos_embed': (1, positions, d), 'patch_embed.proj.weight': (d, 3, 8, 8), 'patch_embed.proj.bias': (d,)}
  for i in range(COMMON['depth']):
    block = f'blocks.{i}'
    found |= norm(f'{block}.norm1') | linear(f'{block}.attn.qkv', d, 3 * d) | linear(f'{block}.attn.proj', d, d)
    found |= norm(f'{block}.norm2') | linear(f'{block}.mlp.fc1', d, 4 * d) | linear(f'{block}.mlp.fc2', 4 * d, d)
    if 'init_values' in model:
      found |= {f'{block}.ls{j}.gamma': (d,) for j in (1, 2)}
    if not model.get('qkv_bias', True):
      del found[f'{block}.attn.qkv.bias']
  return found | norm('norm')


def random_state(name: str) -> dict[str, np.ndarray]:
  """Returns the state dict of model `name`, of `random_weights`."""
  return {key: random_weights(key, shape) for key, shape in shapes(name).items()}


def random_weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns the float32 tensor `name` of a torch state dict, drawn from a generator seeded by the name's crc32."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  if name.endswith('weight') and len(shape) > 1:
    return rng.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)
  if name.endswith(('weight', 'gamma')):
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  return rng.normal(0, 0.1, shape).astype(np.float32)


def random_images(name: str) -> np.ndarray:
  """Returns two float32 images [2, h, w, 3] in [0, 1] of the size of model `name`."""
  size = MODELS[name]['img_size']
  height, width = (size, size) if isinstance(size, int) else size
  return np.random.default_rng(0).random((2, height, width, 3), np.float32)


def torch_tokens(name: str) -> np.ndarray:
  """Returns all tokens [2, t, d] of `random_images` after the last norm."""
  import torch
  from timm.models.vision_transformer import VisionTransformer

  model = VisionTransformer(**COMMON, **MODELS[name]).eval()
  model.load_state_dict({k: torch.from_numpy(v) for k, v in random_state(name).items()})
  with torch.no_grad():
    tokens = model.forward_features(torch.from_numpy(random_images(name)).permute(0, 3, 1, 2))
  return tokens.numpy()


def main() -> None:
  # Every sixth channel keeps the file small.
  np.savez_compressed(GOLDEN, **{name: torch_tokens(name)[:, :, ::6] for name in MODELS})
  print(f'{GOLDEN}: {GOLDEN.stat().st_size} bytes')


if __name__ == '__main__':
  main()
