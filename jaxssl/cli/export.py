"""jaxssl export: the encoder of a run as a file for other projects."""

import os
from typing import Any

import jax
from absl import flags
from flax import linen as nn

from jaxssl import core, evaluation, export
from jaxssl.cli import runs, workdir
from jaxssl.cli.launch import launch
from jaxssl.cli.loading import of_run
from jaxssl.models import ResNet, ViT
from jaxssl.training import files

USAGE = """Writes the trained encoder of a run to a file that needs nothing of this project.

  jaxssl export --workdir DIR --out FILE [--step N] [--representation NAME]

FILE.safetensors: weights under the names of torchvision (ResNet) or timm (ViT), for PyTorch. FILE.stablehlo: the
function images [b, h, w, c] -> features [b, d] for any b, to run by jax.export; of an encoder of several views, it
takes them as so many arrays."""


def main() -> None:
  """Parses the flags and runs."""
  directory = flags.DEFINE_string('workdir', None, 'Work directory of the run.', required=True)
  out = flags.DEFINE_string('out', None, 'File to write: .safetensors or .stablehlo.', required=True)
  step = flags.DEFINE_integer('step', None, 'Checkpoint to take; default: the last.')
  representation = flags.DEFINE_string(
      'representation', None, "Of a .stablehlo: which features; default: those of the run's evaluation.")
  launch(lambda: write(directory.value, out.value, step.value, representation.value), USAGE)


def write(path: str, out: str, step: int | None = None, representation: str | None = None) -> None:
  """Writes `out` from the run in the work directory `path`."""
  kind = os.path.splitext(out)[1]
  if kind not in ('.safetensors', '.stablehlo'):
    raise ValueError(f'--out {out} must end in .safetensors or .stablehlo')
  if representation and kind == '.safetensors':
    raise ValueError('--representation is for a .stablehlo: a .safetensors has the weights of the encoder alone')
  workdir.refuse_links(path)
  run = runs.restore(path, step)
  shapes = _shapes(run)
  inside = os.path.join(os.path.realpath(path), 'checkpoints', '')
  if os.path.realpath(out).startswith(inside):
    raise ValueError(f'--out {out} must lie outside {inside}, which is for checkpoints alone')
  with files.writing(out):
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    if kind == '.safetensors':
      encoder, variables = _encoder(run)
      size, _, channels = shapes[0]
      with files.replacing(out) as temporary:
        export.save(temporary, encoder, variables, size)
      hint = _counterpart(encoder, size, channels)
    else:
      represent = of_run(run, representation).represent
      program = export.stablehlo(lambda *views: represent(views if len(views) > 1 else views[0]), *shapes)
      with files.replacing(out) as temporary, open(temporary, 'wb') as file:
        file.write(program)
      called = ', '.join(f'view_{i}' for i in range(len(shapes))) if len(shapes) > 1 else 'images'
      hint = f'jax.export.deserialize(bytearray(content)).call({called})'
  print(f'{out}: {type(run.experiment.method).__name__}, step {int(run.state.step)}, {_described(shapes)}\n{hint}')


def _shapes(run: runs.Run) -> list[tuple[int, ...]]:
  """The shapes of what the encoder sees of an example in evaluation: of an image, or of each of several views."""
  if run.hears:
    raise ValueError('--workdir must hold a run on images, found one on audio')
  batch = runs.batch_like(run.meta['batch'])['inputs']
  seen = jax.eval_shape(lambda x: evaluation.adapt(x, run.experiment.recipe, run.channels), batch)
  return [view.shape[1:] for view in jax.tree.leaves(seen)]


def _described(shapes: list[tuple[int, ...]]) -> str:
  """What goes into the encoder, in words."""
  if len(shapes) > 1 or len(shapes[0]) != 3:
    named = ' and '.join(f'[b, {", ".join(map(str, shape))}]' for shape in shapes)
    return f'views {named}, float32, as `preprocess` of jaxssl.load makes them'
  height, width, channels = shapes[0]
  return f'images of {height} x {width} with {channels} channel{"s" if channels > 1 else ""}, float32 in [0, 1]'


def _encoder(run: runs.Run) -> tuple[Any, dict[str, Any]]:
  """The encoder alone that the run's evaluation uses (of I-JEPA a moving average), and its variables."""
  method, state = run.experiment.method, run.whole().state
  module, variables = method.backbone(state, run.representations[0])
  if isinstance(module, ResNet | ViT):
    return module, variables
  encoder, single = getattr(method, 'encoder', None), True
  if isinstance(encoder, ResNet | ViT):
    parts = {kind: tree['network']['encoder'] for kind, tree in core.part_of(state, ('encoder',)).items()}
    if not hasattr(method, 'seen'):
      return encoder, parts
    if single := 'shared' in parts['params']:  # Of several views, which have one network.
      return encoder, {kind: tree['shared'] for kind, tree in parts.items()}
  found = type(encoder).__name__ if single and isinstance(encoder, nn.Module) else 'not one network'
  raise ValueError(f'--out: .safetensors are of a ResNet or a ViT; the encoder of {run.config.method.name} is {found}. '
                   'Write a .stablehlo')


RESNETS: dict[tuple[tuple[int, ...], str], str] = {
    ((2, 2, 2, 2), 'basic'): 'resnet18', ((3, 4, 6, 3), 'basic'): 'resnet34',
    ((3, 4, 6, 3), 'bottleneck'): 'resnet50', ((3, 4, 23, 3), 'bottleneck'): 'resnet101',
    ((3, 8, 36, 3), 'bottleneck'): 'resnet152'}


def _counterpart(encoder: ResNet | ViT, size: int, channels: int) -> str:
  """The model of torchvision or timm that takes the weights, as one makes it there, or that there is none."""
  if isinstance(encoder, ViT):
    more = f', reg_tokens={encoder.registers}' if encoder.registers else ''
    more += f', init_values={encoder.layer_scale}' if encoder.layer_scale else ''
    more += '' if encoder.class_token else ', class_token=False'
    pool = 'token' if encoder.pool == 'class' else 'avg'
    return (f'timm.models.VisionTransformer(img_size={size}, patch_size={encoder.patch}, in_chans={channels}, '
            f'embed_dim={encoder.width}, depth={encoder.depth}, num_heads={encoder.heads}, num_classes=0, '
            f"global_pool='{pool}', fc_norm=False{more})")
  name = RESNETS.get((tuple(encoder.stage_sizes), encoder.block))
  stock = tuple(encoder.widths) == (64, 128, 256, 512) and encoder.width_multiplier == 1
  deep = encoder.stem == 'd' and encoder.average_pool_shortcut
  if name is None or not stock or (encoder.average_pool_shortcut and not deep) or encoder.stem == 'strided':
    return ("no model of torchvision or timm has this network's stages, widths and stem: build it there with their "
            'names, or take a .stablehlo')
  if deep:
    return f"timm.create_model('{name}d', in_chans={channels}, num_classes=0)"
  if encoder.stem == 'small':
    return (f'torchvision.models.{name}() with conv1 = torch.nn.Conv2d({channels}, 64, 3, 1, 1, bias=False) and '
            'maxpool = fc = torch.nn.Identity()')
  return f"timm.create_model('{name}', in_chans={channels}, num_classes=0)"
