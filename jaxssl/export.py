"""Encoders in and out: weights under the names of torchvision and timm, in safetensors files; StableHLO programs.

A `ResNet` has the names of torchvision's ResNet (with stem 'd', of timm's ResNet-D), a `ViT` those of timm's
VisionTransformer. So an encoder pretrained here can be fine-tuned there, and one from there be the start of a run here.
"""

import os
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.export
import numpy as np
from flax import linen as nn

from jaxssl.models.resnet import ResNet
from jaxssl.models.vit import ViT
from jaxssl.models.weights import dump_timm, dump_torchvision, load_timm, load_torchvision


def state_dict(encoder: nn.Module, variables: Mapping[str, Any], image_size: int | tuple[int, int] = 224) -> dict:
  """Returns an encoder's weights under the names of torchvision or timm.

  Args:
    encoder: a `ResNet` with batch norm and without selective kernels, or a `ViT` whose positions are not rotary.
    variables: as for `encoder.apply`: `{'params': ..., 'batch_stats': ...}`.
    image_size: side of the images in pixels, or (height, width): timm keeps the positions of a ViT as weights, also
      fixed ones, which are of one size of image. ResNets do without.

  Returns:
    name -> float32 array, in the layout of PyTorch: what `torch_model.load_state_dict(..., strict=False)` takes as
    tensors; the classifier alone is missing.

  Raises:
    ValueError: for an encoder that has no counterpart there, or variables of another one.
  """
  if not isinstance(encoder, ResNet | ViT):
    raise ValueError(f'encoder must be a ResNet or a ViT, got {type(encoder).__name__}')
  try:
    if isinstance(encoder, ResNet):
      state = dump_torchvision(encoder, variables)
    else:
      state = dump_timm(encoder, variables, _grid(encoder, image_size))
    _check('variables', encoder, variables, image_size)
  except KeyError as error:
    raise ValueError(f'variables must be of this encoder, which has {error}') from error
  return state


def variables(encoder: nn.Module, state: Mapping[str, Any], image_size: int | tuple[int, int] = 224) -> dict[str, Any]:
  """The inverse of `state_dict`: the variables of `encoder` from weights under the names of torchvision or timm.

  Args:
    encoder: a `ResNet`, or a `ViT` with `positions='learned'`: weights of timm have positions.
    state: name -> array; the classifier is left out.
    image_size: of the images that the positions are for.

  Raises:
    ValueError: where the weights are not those of `encoder`, with the first that differs.
  """
  if not isinstance(encoder, ResNet | ViT):
    raise ValueError(f'encoder must be a ResNet or a ViT, got {type(encoder).__name__}')
  if isinstance(encoder, ViT) and encoder.positions != 'learned':
    raise ValueError(f"encoder must have positions='learned', as weights of timm do, got {encoder.positions!r}")
  _check_values(state)
  try:
    if isinstance(encoder, ResNet):
      found = load_torchvision(state)
    else:
      _check_patch(encoder, state)
      found = load_timm(state, _grid(encoder, image_size))
    _check('state', encoder, found, image_size)
  except (AttributeError, IndexError, KeyError, TypeError, ZeroDivisionError) as error:  # Of odd shapes and names.
    raise ValueError(
        f'state must be of a {type(encoder).__name__}, got weights that are of none ({error!r})') from error
  return found


def save(
    file: str | os.PathLike, encoder: nn.Module, variables: Mapping[str, Any],
    image_size: int | tuple[int, int] = 224) -> None:
  """Writes `state_dict` as a .safetensors file. Arguments and errors are those of `state_dict`."""
  from safetensors.numpy import save as serialize

  state = {name: np.ascontiguousarray(array) for name, array in state_dict(encoder, variables, image_size).items()}
  content = serialize(state, metadata={'format': 'pt'})
  with open(file, 'wb') as opened:
    opened.write(content)


def load(file: str | os.PathLike, encoder: nn.Module, image_size: int | tuple[int, int] = 224) -> dict[str, Any]:
  """Returns the variables of `encoder` from a .safetensors file, such as timm's.

  Arguments and errors are those of `variables`; the errors name the file. What comes back goes into
  `encoder.apply(variables, images)`.
  """
  from safetensors import SafetensorError
  from safetensors.numpy import load_file

  try:
    state = load_file(file)
  except (SafetensorError, AttributeError) as error:  # AttributeError: a type that NumPy has not, such as float8.
    raise ValueError(f'{file} is no .safetensors file that can be read: {error}') from error
  try:
    return variables(encoder, state, image_size)
  except ValueError as error:
    raise ValueError(f'{file}: {error}') from error


def stablehlo(
    function: Callable, *shapes: tuple[int, ...], dtype: Any = np.float32,
    platforms: tuple[str, ...] = ('cpu', 'cuda', 'tpu')) -> bytes:
  """Returns a function of arrays as a StableHLO program for any batch size: `jax.export`, serialized.

  Args:
    function: of an array [b, *shape] for each of `shapes`, such as the `represent` of `jaxssl.load`; its weights become
      a part of the program.
    shapes: of one example; for a function of several arrays, of each of them.
    dtype: of the arrays.
    platforms: that the program can run on.

  `jax.export.deserialize(...).call(x)` runs it, without jaxssl and without the code of the model.
  """
  (batch,) = jax.export.symbolic_shape('b')
  exported = jax.export.export(jax.jit(function), platforms=platforms)(
      *(jax.ShapeDtypeStruct((batch, *shape), dtype) for shape in shapes))
  return bytes(exported.serialize())


def _grid(encoder: ViT, image_size: int | tuple[int, int]) -> tuple[int, int]:
  """Rows and columns of patches."""
  sides, patch = (x if isinstance(x, tuple) else (x, x) for x in (image_size, encoder.patch))
  if any(side % of for side, of in zip(sides, patch, strict=True)):
    raise ValueError(f'image_size must be a multiple of the patch, {encoder.patch}, got {image_size}')
  return sides[0] // patch[0], sides[1] // patch[1]


def _check_values(state: Mapping[str, Any]) -> None:
  """Raises ValueError for weights that are no finite floats; how many batches were seen is no weight."""
  for name, value in state.items():
    if name.endswith('num_batches_tracked'):
      continue
    if not jax.numpy.issubdtype(value.dtype, np.floating):
      raise ValueError(f'state must hold floats, got {value.dtype} in {name}')
    if not np.isfinite(np.asarray(value, np.float32)).all():
      raise ValueError(f'state must hold finite float32 numbers, got others in {name}')


def _check_patch(encoder: ViT, state: Mapping[str, Any]) -> None:
  """Raises ValueError for weights of other patches."""
  patch = encoder.patch if isinstance(encoder.patch, tuple) else (encoder.patch, encoder.patch)
  kernel = state.get('patch_embed.proj.weight')
  if kernel is not None and kernel.shape[2:] != patch:
    raise ValueError(
        f'state must be of patches of {list(patch)} pixels, as the encoder has, got {list(kernel.shape[2:])}')


def _check(argument: str, encoder: nn.Module, found: Mapping[str, Any], image_size: int | tuple[int, int]) -> None:
  """Raises ValueError unless `found` has the names and shapes of the variables of `encoder`."""
  sides = image_size if isinstance(image_size, tuple) else (image_size, image_size)
  channels = _channels(encoder, found)
  image = jax.ShapeDtypeStruct((1, *sides, channels), np.float32)
  named = lambda tree: {jax.tree_util.keystr(path, simple=True, separator='.'): np.shape(leaf)
                        for path, leaf in jax.tree.leaves_with_path(tree)}
  wanted, given = named(jax.eval_shape(encoder.init, jax.random.key(0), image)), named(found)
  for name in sorted(wanted.keys() | given.keys()):
    if wanted.get(name) != given.get(name):
      raise ValueError(
          f'{argument} must be of this encoder, which has {name} of shape {wanted.get(name, "none")}; got '
          f'{given.get(name, "none")}')


def _channels(encoder: nn.Module, found: Mapping[str, Any]) -> int:
  """Of the images, from the weights of the first layer."""
  if isinstance(encoder, ResNet):
    kernel = found['params'].get('conv1', {}).get('kernel')
    return 3 if kernel is None else kernel.shape[2]  # Where it is missing, `_check` says so.
  patch = encoder.patch if isinstance(encoder.patch, tuple) else (encoder.patch, encoder.patch)
  return len(found['params']['patch_embed']['kernel']) // (patch[0] * patch[1])
