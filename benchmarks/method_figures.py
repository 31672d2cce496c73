"""The figures of docs/methods: of each method its curves and what it has learnt, from a finished work directory.

  python benchmarks/methods.py --seconds 60 --seeds 0
  python benchmarks/method_figures.py [--runs runs/methods] [--out docs/figures/methods] [--methods simclr byol ...]

Takes RUNS/<method>_0 of each method, where `methods.py` leaves most of them; of those that it leaves out this script
says the command, with the flags that made the run short (other data than the drawings need the `data` extra). Draws the
loss and the method's own metrics; below them, of encoders, drawings of the test set with the nearest training drawings
by the trained encoder, the random one and raw pixels; of what decodes, originals and reconstructions, or samples; of
CPC, how well each distance is predicted; of CMC on sounds, a map of the clips. A figure is a PNG of few colours and of
LARGEST bytes at most.
"""

import argparse
import os
import shlex
import tempfile

import numpy as np
from PIL import Image, ImageChops

from jaxssl.build import load_source
from jaxssl.cli import measure, pictures_audio, pictures_distance, pictures_generative, runs
from jaxssl.evaluation import Subset, extract, knn, plots, plots_generative
from jaxssl.training import logging

TWO = ('loss', 'effective_rank')
# The metrics to be drawn, two in a row, and the pictures below them: those of `PAINTERS`, by the names of their files.
FIGURES = {
    'simclr': (('loss', 'contrastive_accuracy'), ('neighbours',)),
    'moco': (('loss', 'retrieval_accuracy', 'target_distance', 'effective_rank'), ('neighbours',)),
    'moco_v3': (('loss', 'retrieval_accuracy', 'target_distance', 'effective_rank'), ('neighbours',)),
    'nnclr': (('loss', 'retrieval_accuracy'), ('neighbours',)),
    'byol': (('loss', 'embedding_std', 'target_distance', 'effective_rank'), ('neighbours',)),
    'simsiam': (('loss', 'embedding_std'), ('neighbours',)),
    'swav': (('loss', 'effective_rank', 'prototypes_used', 'assignment_entropy'), ('neighbours',)),
    'dino': (('loss', 'target_distance', 'prototypes_used', 'assignment_entropy'), ('neighbours',)),
    'barlow_twins': (('loss', 'effective_rank', 'correlation', 'correlation_off_diagonal'), ('neighbours',)),
    'vicreg': (('loss', 'invariance_term', 'variance_term', 'covariance_term'), ('neighbours',)),
    'w_mse': (TWO, ('neighbours',)),
    'lejepa': (('loss', 'effective_rank', 'invariance', 'sigreg'), ('neighbours',)),
    'i_jepa': (('loss', 'effective_rank', 'target_deviation', 'target_distance'), ('neighbours',)),
    'mae': (TWO, ('reconstructions',)),
    'autoencoder': (('loss', 'squared_error'), ('reconstructions', 'interpolations')),
    'vae': (('elbo', 'kl'), ('reconstructions', 'samples')),
    'vq_vae': (('loss', 'perplexity'), ('reconstructions', 'codebook')),
    'gan': (('discriminator_loss', 'generator_loss', 'divergence', 'effective_rank'), ('samples',)),
    'adversarial_autoencoder': (('squared_error', 'divergence'), ('reconstructions', 'samples')),
    'bigan': (('loss', 'divergence'), ('reconstructions', 'samples')),
    'cpc': (('loss', 'accuracy'), ('distance',)),
    'cpc_image': (('loss', 'accuracy'), ('distance',)),
    'cmc': (('loss', 'bound'), ('embedding_class',)),
}
# Runs that methods.py does not make by itself: their configs, and what differs from them.
EXTRA = {
    'gan': ('gan_omniglot', '--config.steps=1200', '--config.logging.every=20'),
    'bigan': ('bigan_omniglot', '--config.steps=1200', '--config.logging.every=20'),
    'adversarial_autoencoder': (
        'adversarial_autoencoder_omniglot', '--config.steps=450', '--config.logging.every=10'),
    'cpc': ('cpc_spoken_digit',),
    'cmc': ('cmc_spoken_digit',),
    'cpc_image': (  # The glimpse at the head of the config.
        'cpc_cifar10', '--config.steps=1000', '--config.batch_size=64', '--config.evaluation.knn.k=20',
        '--config.method.encoder.network.stage_sizes=(1, 1, 1)', '--config.method.encoder.network.block=basic',
        '--config.method.encoder.network.widths=(32, 64, 128)', '--config.method.encoder.network.stem=strided',
        '--config.method.predictor.context.features=64', '--config.method.predictor.context.blocks=2',
        '--config.method.num_negatives=128', '--config.method.optimizer.learning_rate.base=3e-3',
        '--config.method.optimizer.learning_rate.warmup_epochs=0.1'),
}
QUERIES, NEAREST = 12, 2  # Test drawings; by the trained encoder, so many neighbours of each.
COLOURS, LARGEST = 64, 80_000  # Of a PNG; its bytes.
MARGIN = 16  # Pixels of white above and below a part.


def main():
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('--runs', default=os.path.join('runs', 'methods'))
  parser.add_argument('--out', default=os.path.join('docs', 'figures', 'methods'))
  parser.add_argument('--methods', nargs='+', default=tuple(FIGURES), choices=FIGURES)
  args = parser.parse_args()
  os.makedirs(args.out, exist_ok=True)
  for method in args.methods:
    file = os.path.join(args.out, f'{method}.png')
    workdir = os.path.join(args.runs, f'{method}_0')
    if not os.path.exists(workdir):
      raise SystemExit(f'{workdir} is missing; make it with\n  {command(method, args.runs, workdir)}')
    draw(method, workdir, file)
    size = os.path.getsize(file)
    print(f'{file}: {size:,} bytes', flush=True)
    if size > LARGEST:
      raise SystemExit(f'{file} has {size:,} bytes, more than {LARGEST:,}')


def command(method: str, out: str, workdir: str) -> str:
  """Returns the command that makes the run of a method."""
  if method not in EXTRA:
    return shlex.join(['python', 'benchmarks/methods.py', '--seconds', '60', '--seeds', '0', '--methods', method,
                       '--out', out])
  config, *flags = EXTRA[method]
  return shlex.join(['python', 'train.py', '--config', f'configs/{config}.py', '--workdir', workdir,
                     "--config.evaluation.protocols=('knn',)", '--config.evaluation.pictures=False', *flags])


def draw(method: str, workdir: str, file: str) -> None:
  """Draws the figure of a method from its work directory."""
  metrics, panels = FIGURES[method]
  run = runs.restore(os.path.abspath(workdir)).whole()
  rows = [{name: row[name] for name in ('step', *metrics) if name in row} for row in logging.read(workdir)]
  with tempfile.TemporaryDirectory() as folder:
    plots.metric_curves([dict.fromkeys(metrics) | row for row in rows], os.path.join(folder, 'metrics.png'), columns=2)
    for painter in dict.fromkeys(PAINTERS[panel] for panel in panels):
      painter(run, lambda name: os.path.join(folder, name))
    stack([os.path.join(folder, f'{name}.png') for name in ('metrics', *panels)], file)


def stack(parts: list[str], file: str) -> None:
  """Writes the pictures one below the other, in few colours."""
  images = [trimmed(Image.open(part).convert('RGB')) for part in parts]
  canvas = Image.new('RGB', (max(each.width for each in images), sum(each.height for each in images)), 'white')
  top = 0
  for each in images:
    canvas.paste(each, (0, top))
    top += each.height
  canvas.quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)


def trimmed(image: Image.Image) -> Image.Image:
  """Returns a picture without what is empty above and below it, but for a margin."""
  _, top, _, bottom = ImageChops.invert(image).getbbox() or (0, 0, 0, image.height)
  return image.crop((0, max(top - MARGIN, 0), image.width, min(bottom + MARGIN, image.height)))


def source(run: runs.Run, split: str):
  return load_source(run.config.to_dict(), split)


def neighbours(run: runs.Run, file) -> None:
  """Draws test images in a row, and in the rows below the training images nearest to them, framed by their class."""
  train, test = source(run, 'train'), source(run, 'test')
  shown = np.linspace(0, len(test) - 1, QUERIES).round().astype(int)
  rows = {'test drawing': [framed(image, plots.PLAIN) for image in test.inputs[shown]]}
  encoders = measure.encoders(run)
  for name, title, count in (
      ('trained', 'trained encoder', NEAREST), ('random', 'random encoder', 1), ('raw', 'raw pixels', 1)):
    encode = lambda images, name=name: extract(encoders[name], images, batch_size=run.config.evaluation.batch_size)
    nearest, _ = knn.neighbours(encode(Subset(test.inputs, shown)), encode(train.inputs), count)
    for k in range(count):
      found = nearest[:, k]
      rows[f'{title}, {k + 1}.' if count > 1 else title] = [
          framed(image, plots.RIGHT if same else plots.WRONG)
          for image, same in zip(train.inputs[found], train.labels[found] == test.labels[shown], strict=True)]
  plots_generative.sheet(rows, file('neighbours.png'))


def framed(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
  """Returns a grey image [h, w, 1], uint8, in a frame: [h + 4, w + 4, 3]."""
  return np.stack([np.pad(image[..., 0], 2, constant_values=value) for value in colour], axis=-1)


def generative(run: runs.Run, file) -> None:
  pictures_generative.draw(run, source(run, 'test'), file)


def distance(run: runs.Run, file) -> None:
  pictures_distance.draw(run, source(run, 'test'), file('distance.png'))


def clips(run: runs.Run, file) -> None:
  pictures_audio.draw(run, source(run, 'test'), file)


PAINTERS = {
    'neighbours': neighbours, 'distance': distance, 'embedding_class': clips,
    **dict.fromkeys(('reconstructions', 'interpolations', 'samples', 'codebook'), generative)}


if __name__ == '__main__':
  main()
