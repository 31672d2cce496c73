"""Layer-wise learning-rate decay: the nearer a layer is to the input, the less fine-tuning changes it.

BEiT: Bao et al. 2021, https://arxiv.org/abs/2106.08254; masked autoencoders fine-tune with a decay of .65 (He et al.
2021, https://arxiv.org/abs/2111.06377, table 9). Depth is read from the names of the parameters.
"""

import re
from typing import Any

import jax
import optax

# What one step of depth is called: a transformer's block, else a ResNet's stage, else a numbered layer. The first that
# a tree has is taken, its number being the first group.
UNITS = (r'block(\d+)', r'layer(\d+)_\d+', r'(?:conv|linear|dense|bn|norm)(\d+)')
# What comes before the first unit; everything else beside the units comes after the last.
STEM = r'patch_embed|class_token|mask_token|registers|positions|embed|conv\d+|bn\d+'
AFTER = {'head', 'decoder', 'predictor'}  # Numbered layers in here are no part of the encoder.

Path = tuple[str, ...]


def scales(params: Any, decay: float) -> Any:
  """Returns, for each parameter, what the learning rate is multiplied by: decay^(N + 1 - depth), a tree of floats.

  Patch embedding, tokens and positions have depth 0, block i of a ViT (named `block{i}`, from 0) has i + 1, its last
  norm N + 1. The stages of a ResNet (`layer1_0`, `layer1_1`, `layer2_0`, …) count as the blocks and `conv1` as the
  embedding. In a network of numbered layers alone (`linear1`, `bn1`, `linear2`, …) the first has depth 0, layer i
  depth i - 1. All outside of the encoder, such as the head, is N + 1: the rate as it is. Encoders side by side, such as
  those of several views, have each its own depth.

  Args:
    params: nested dicts of arrays, of an encoder alone or within a classifier.
    decay: in (0, 1].

  Raises:
    ValueError: if no name tells a depth, or if decay is out of range.
  """
  if not 0 < decay <= 1:
    raise ValueError(f'layer_decay must lie in (0, 1]: got {decay}')
  paths = [_keys(path) for path, _ in jax.tree_util.tree_leaves_with_path(params)]
  unit = next((unit for unit in UNITS if _stacks(paths, unit)), None)
  if unit is None:
    names = sorted({'/'.join(path[:-1] or path) for path in paths})
    raise ValueError(
        'layer_decay needs parameters whose names tell their depth: block0, block1, … (ViT), layer1_0, layer2_0, … '
        f'(ResNet) or linear1, linear2, … (MLP); got {", ".join(names[:8])}')
  stacks = _stacks(paths, unit)
  return jax.tree_util.tree_map_with_path(
      lambda path, _: decay ** _layers_above(_keys(path), stacks, unit), params)


def scale_by_depth(decay: float) -> optax.GradientTransformation:
  """Multiplies updates by `scales`, as the last transformation of an optimizer: decoupled weight decay included."""

  def init(params):
    scales(params, decay)  # Raises for what it cannot tell the depth of.
    return optax.EmptyState()

  def update(updates, state, params=None):
    del params
    return jax.tree.map(lambda update, scale: update * scale, updates, scales(updates, decay)), state

  return optax.GradientTransformation(init, update)


def _keys(path: tuple[Any, ...]) -> Path:
  return tuple(jax.tree_util.keystr((key,), simple=True) for key in path)


def _number(key: str, unit: str) -> int | None:
  found = re.fullmatch(unit, key)
  return int(found[1]) if found else None


def _stacks(paths: list[Path], unit: str) -> dict[Path, range]:
  """Returns where units stand side by side, {path of their parent: their numbers}."""
  found: dict[Path, list[int]] = {}
  for path in paths:
    for i, key in enumerate(path):
      if key in AFTER:
        break
      if (number := _number(key, unit)) is not None:
        found.setdefault(path[:i], []).append(number)
        break
  return {parent: range(min(numbers), max(numbers) + 1) for parent, numbers in found.items()}


def _layers_above(path: Path, stacks: dict[Path, range], unit: str) -> int:
  """Returns N + 1 - depth of the parameter at `path`."""
  parents = [parent for parent in stacks if path[:len(parent)] == parent]
  if not parents:
    return 0
  parent = max(parents, key=len)
  numbers, key = stacks[parent], path[len(parent)]
  if (number := _number(key, unit)) is not None:
    return numbers.stop - number
  return len(numbers) + 1 if unit != UNITS[-1] and re.fullmatch(STEM, key) else 0
