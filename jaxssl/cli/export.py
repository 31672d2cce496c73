"""jaxssl export: the encoder of a run as a file for other projects."""

import os
from typing import Any

from absl import flags

from jaxssl import core, export
from jaxssl.cli import runs, workdir
from jaxssl.cli.launch import launch
from jaxssl.cli.loading import of_run
from jaxssl.models import ResNet, ViT
from jaxssl.training import files

USAGE = """Writes the trained encoder of a run to a file that needs nothing of this project.

  jaxssl export --workdir DIR --out FILE [--step N] [--representation NAME]

FILE.safetensors: weights under the names of torchvision (ResNet) or timm (ViT), for PyTorch. FILE.stablehlo: the
function images [b, h, w, c] -> features [b, d] for any b, to run by jax.export."""


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
  size = _image_size(run)
  with files.writing(out):
    os.makedirs(os.path.dirname(os.path.abspath(out)), exist_ok=True)
    if kind == '.safetensors':
      export.save(out, *_encoder(run), size)
    else:
      represent = of_run(run, representation).represent
      program = export.stablehlo(represent, (size, size, run.channels))
      with open(out, 'wb') as file:
        file.write(program)
  print(f'{out}: {type(run.experiment.method).__name__}, step {int(run.state.step)}, images of {size} x {size} with '
        f'{run.channels} channel{"s" if run.channels > 1 else ""}, float32 in [0, 1]')


def _image_size(run: runs.Run) -> int:
  """Side of the images that the encoder sees in evaluation."""
  if run.hears:
    raise ValueError('--workdir must hold a run on images, found one on audio')
  return run.experiment.recipe.input_size


def _encoder(run: runs.Run) -> tuple[Any, dict[str, Any]]:
  """The encoder alone, nothing on top, and its variables."""
  encoder = getattr(run.experiment.method, 'encoder', None)
  if not isinstance(encoder, ResNet | ViT):
    raise ValueError(f'--out: .safetensors are of a ResNet or a ViT; the encoder of {run.config.method.name} is '
                     f'{"several networks" if isinstance(encoder, tuple) else type(encoder).__name__}')
  state = run.whole().state
  parts = core.part_of(state, ('encoder',))
  return encoder, {kind: tree['network']['encoder'] for kind, tree in parts.items()}
