"""Weights of PyTorch: from the names and layouts of torchvision (ResNet) and timm (ResNet-D, ViT), and to them."""

import math
import re
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from jaxssl.models.resnet import ResNet
from jaxssl.models.vit import ViT, sincos_positions

# timm's ResNet-D keeps its stem in one sequence: torch name -> ours.
_STEM_D = {'conv1.0': 'conv1', 'conv1.1': 'bn1', 'conv1.3': 'conv2', 'conv1.4': 'bn2', 'conv1.6': 'conv3', 'bn1': 'bn3'}
_MODULES = r'conv1|bn1|conv1\.\d|layer\d\.\d+\.(conv\d|bn\d|downsample\.\d)'
_LEAVES = {'bias': ('params', 'bias'), 'running_mean': ('batch_stats', 'mean'), 'running_var': ('batch_stats', 'var')}
# timm's blocks: its name -> ours.
_VIT_LAYERS = {
    'norm1': 'norm1', 'attn.qkv': 'qkv', 'attn.proj': 'out', 'ls1': 'layer_scale1', 'norm2': 'norm2', 'mlp.fc1': 'mlp1',
    'mlp.fc2': 'mlp2', 'ls2': 'layer_scale2'}


def load_torchvision(state_dict: Mapping[str, Any]) -> dict[str, Any]:
  """Converts a torchvision ResNet's weights, or a timm ResNet-D's, to the variables of the same ResNet here.

  Args:
    state_dict: name -> array, such as `{k: v.numpy() for k, v in torchvision.models.resnet50().state_dict().items()}`.
      The classifier `fc` is left out. `stem` and `average_pool_shortcut` leave no other trace: set them as they were.

  Returns:
    `{'params': ..., 'batch_stats': ...}` of float32 arrays for `ResNet.apply`.

  Raises:
    ValueError: for a weight that ResNet has no place for.
  """
  variables: dict[str, Any] = {'params': {}, 'batch_stats': {}}
  for name, value in state_dict.items():
    module, _, leaf = name.rpartition('.')
    if module == 'fc' or leaf == 'num_batches_tracked':
      continue
    if not re.fullmatch(_MODULES, module) or leaf not in ('weight', *_LEAVES):
      raise ValueError(f'state_dict must be of a ResNet, got the weight {name!r}')
    array = np.asarray(value, np.float32)
    if leaf == 'weight':
      collection, leaf = 'params', 'kernel' if array.ndim == 4 else 'scale'
    else:
      collection, leaf = _LEAVES[leaf]
    *parents, last = _flax_path(module, leaf, 'conv1.0.weight' in state_dict)
    scope = variables[collection]
    for parent in (*parents, last):
      scope = scope.setdefault(parent, {})
    scope[leaf] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
  return variables


def _flax_path(module: str, leaf: str, stem_d: bool) -> tuple[str, ...]:
  """'layer1.0.downsample.1' -> ('layer1_0', 'downsample_bn'): torch's module name as ours."""
  if not module.startswith('layer'):
    return (_STEM_D[module] if stem_d else module,)
  stage, index, layer, *_ = module.split('.')
  if layer == 'downsample':
    layer = 'downsample_conv' if leaf == 'kernel' else 'downsample_bn'
  return f'{stage}_{index}', layer


def dump_torchvision(network: ResNet, variables: Mapping[str, Any]) -> dict[str, np.ndarray]:
  """The inverse of `load_torchvision`: weights under torchvision's names, of a ResNet-D under timm's.

  Raises:
    ValueError: for a network that neither has: with selective kernels, or without batch norm.
  """
  if network.sk_ratio or network.norm != 'batch':
    raise ValueError(
        f"network must have norm='batch' and sk_ratio=0 to have torchvision's names, got norm={network.norm!r} and "
        f'sk_ratio={network.sk_ratio}')
  stem = {ours: theirs for theirs, ours in _STEM_D.items()} if network.stem == 'd' else {}
  leaves = {ours: theirs for theirs, (_, ours) in _LEAVES.items()} | {'kernel': 'weight', 'scale': 'weight'}
  # timm's shortcut that averages has the average in front.
  shortcut = {'downsample_conv': 0 + network.average_pool_shortcut, 'downsample_bn': 1 + network.average_pool_shortcut}
  state = {}
  for path, array in jax.tree.leaves_with_path({name: variables[name] for name in ('params', 'batch_stats')}):
    _, *module, leaf = (key.key for key in path)
    first, layer = module[0], module[-1]
    if len(module) == 1:
      name = stem.get(first, first)
    else:
      name = first.replace('_', '.') + '.' + (f'downsample.{shortcut[layer]}' if layer in shortcut else layer)
    array = np.asarray(array, np.float32)
    state[f'{name}.{leaves[leaf]}'] = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array
  return state


def load_timm(state_dict: Mapping[str, Any], grid: tuple[int, int] | None = None) -> dict[str, Any]:
  """Converts the weights of a timm VisionTransformer to the variables of the same `ViT` here.

  MAE's published encoders have the same names; a decoder beside them is left out. The weights have positions, so that
  they are for `positions='learned'`, MAE's fixed ones too.

  Args:
    state_dict: name -> array, such as `{k: v.numpy() for k, v in timm.create_model(...).state_dict().items()}`. The
      classifier `head` is left out.
    grid: rows and columns of patches; None: a square.

  Returns:
    `{'params': ...}` of float32 arrays for `ViT.apply`.

  Raises:
    ValueError: for a weight that is missing or that ViT has no place for, or positions that do not fit `grid`.
  """
  for name in ('patch_embed.proj.weight', 'patch_embed.proj.bias', 'pos_embed'):
    if name not in state_dict:
      raise ValueError(f'state_dict must be of a plain VisionTransformer, which has {name!r}, got '
                       f'{next(iter(state_dict), None)!r} and others')
  arrays = {name: np.asarray(value, np.float32) for name, value in state_dict.items()
            if not name.startswith(('head.', 'decoder_', 'mask_token'))}
  params: dict[str, Any] = _load_special(arrays, grid)
  for name, array in arrays.items():
    module, _, leaf = name.rpartition('.')
    *block, layer = module.split('.', 2)
    place = f'block{block[1]}' if block[:1] == ['blocks'] else None
    if module == 'norm':
      path = ['norm']
    elif place and layer in _VIT_LAYERS:
      path = [place, _VIT_LAYERS[layer]]
    else:
      raise ValueError(f'state_dict must be of a plain VisionTransformer, got the weight {name!r}')
    scope = params
    for key in path[:-1]:
      scope = scope.setdefault(key, {})
    if leaf == 'gamma':
      scope[path[-1]] = array
    else:
      kernel = 'scale' if array.ndim == 1 else 'kernel'
      scope.setdefault(path[-1], {})[kernel if leaf == 'weight' else leaf] = array.T
  return {'params': params}


def _load_special(arrays: dict[str, np.ndarray], grid: tuple[int, int] | None) -> dict[str, Any]:
  """Takes the weights of what comes before the blocks out of `arrays`, and returns ours."""
  kernel = arrays.pop('patch_embed.proj.weight')  # [d, c, p, p]
  embed = {'kernel': kernel.transpose(2, 3, 1, 0).reshape(-1, len(kernel)), 'bias': arrays.pop('patch_embed.proj.bias')}
  prefix = [(ours, arrays.pop(theirs)[0]) for ours, theirs in (('class_token', 'cls_token'), ('registers', 'reg_token'))
            if theirs in arrays]
  positions = arrays.pop('pos_embed')[0]
  before = sum(len(tokens) for _, tokens in prefix)
  of_prefix = len(positions) - (math.prod(grid) if grid else math.isqrt(len(positions)) ** 2)
  if of_prefix not in (0, before):
    raise ValueError(
        f'grid must have as many patches as state_dict has positions, got {len(positions)}, those of up to {before} '
        f'other tokens included, with grid={grid}')
  # Registers have no position of their own here, and the class token of a model without one has 0.
  own = positions[:of_prefix] if of_prefix else np.zeros((before, positions.shape[1]), np.float32)
  params: dict[str, Any] = {'patch_embed': embed}
  positions = positions[of_prefix:]
  for name, tokens in prefix:
    if name == 'class_token':
      params[name], class_position, own = tokens[0], own[:1], own[1:]
      positions = np.concatenate([class_position, positions])
    else:
      params[name] = tokens + own
  return {**params, 'positions': positions}


def dump_timm(network: ViT, variables: Mapping[str, Any], grid: tuple[int, int]) -> dict[str, np.ndarray]:
  """The inverse of `load_timm`, for images of `grid` rows and columns of patches: fixed positions become weights.

  Raises:
    ValueError: for rotary positions, which a plain VisionTransformer has not, or positions of another grid.
  """
  if network.positions == 'rotary':
    raise ValueError("network must have positions='learned' or 'sincos' to have timm's names, got 'rotary'")
  params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float32), dict(variables['params']))
  state = _dump_special(network, params, grid)
  layers = {ours: theirs for theirs, ours in _VIT_LAYERS.items()}
  for path, array in jax.tree.leaves_with_path(params):
    *module, leaf = (key.key for key in path)
    if module == ['norm']:
      name = 'norm'
    elif leaf in layers:
      name, leaf = f'blocks.{module[0].removeprefix("block")}.{layers[leaf]}', 'gamma'
    else:
      name = f'blocks.{module[0].removeprefix("block")}.{layers[module[1]]}'
    state[f'{name}.{ {"kernel": "weight", "scale": "weight"}.get(leaf, leaf)}'] = array.T
  return state


def _dump_special(network: ViT, params: dict[str, Any], grid: tuple[int, int]) -> dict[str, np.ndarray]:
  """Takes the weights of what comes before the blocks out of `params`, and returns them under timm's names."""
  embed, patch = params.pop('patch_embed'), network.patch
  rows, columns = patch if isinstance(patch, tuple) else (patch, patch)
  kernel = embed['kernel'].reshape(rows, columns, -1, network.width).transpose(3, 2, 0, 1)
  state = {'patch_embed.proj.weight': kernel, 'patch_embed.proj.bias': embed['bias']}
  table = params.pop('positions') if network.positions == 'learned' else sincos_positions(grid, network.width)
  learned_class = network.class_token and network.positions == 'learned'
  if len(table) != learned_class + math.prod(grid):
    raise ValueError(f'grid must have the {len(table) - learned_class} patches of the learned positions, got {grid}')
  before = np.zeros((network.num_prefix, network.width), np.float32)
  if learned_class:
    before[0], table = table[0], table[1:]
  for ours, theirs in (('class_token', 'cls_token'), ('registers', 'reg_token')):
    if ours in params:
      state[theirs] = params.pop(ours).reshape(1, -1, network.width)
  return {**state, 'pos_embed': np.concatenate([before, table])[None]}
