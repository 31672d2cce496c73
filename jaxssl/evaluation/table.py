"""Results as rows: one flat dict a figure, the same in results.json and in the printed table."""

import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxssl.training import files

Row = dict[str, Any]

# Baselines first; anything else follows in the order of its rows.
NAMES = {
    'raw': 'raw pixels',
    'mfcc': 'MFCC',
    'mean': 'training mean',
    'mean_patch': 'mean patch',
    'pca': 'PCA',
    'train': 'training examples',
    'random': 'random encoder',
    'trained': 'trained encoder',
}
BASELINES = ('raw', 'mfcc', 'mean', 'mean_patch', 'pca', 'train')  # That no network computes.
NONE = 'none'  # The label or the representation of a figure that is not about any.
NATS = ('elbo', 'iwae', 'kl')
FEW = 100  # Samples or test examples, below which figures of samples are flagged.
HARDLY = 0.1  # Of the way from chance to 1: a classifier below it has not learnt what its features are to tell apart.


def _percent(fraction: float) -> str:
  return f'{100 * fraction:g} %'


def _optimizer(row: Mapping[str, Any]) -> str:
  name = row.get('optimizer', 'sgd')
  return str({'sgd': 'SGD', 'lars': 'LARS', 'adamw': 'AdamW'}.get(name, name))


def describe(row: Mapping[str, Any]) -> str:
  """Returns a row's protocol in words, such as 'k-NN (cosine, k = 5, weights exp(cos/0.1))'."""
  protocol = row['protocol']
  if protocol == 'knn':
    text = f'k-NN (cosine, k = {row["k"]}, weights exp(cos/{row["temperature"]:g}))'
  elif protocol == 'sgd':
    norm = ', batch norm' if row.get('batch_norm') else ''
    text = f'linear probe ({_optimizer(row)} with augmentation{norm}, {row["epochs"]:g} epochs)'
  elif protocol == 'linear':
    text = 'linear probe (L-BFGS)'
  elif protocol == 'linear_steps':
    text = 'linear probe of single steps (L-BFGS)'
  elif protocol == 'retrieval':
    text = f'z of a view finds its counterpart (of {row["num_test"]:,})'
  elif protocol == 'finetune':
    words = [_optimizer(row)] if row.get('optimizer', 'sgd') != 'sgd' else []
    words += [name for name in ('mixup', 'cutmix') if row.get(name)]
    text = f'fine-tuning ({"".join(f"{word}, " for word in words)}{row["epochs"]:g} epochs)'
  elif protocol == 'clustering':
    text = f'{row["clusters"]:,} clusters, each with the label of most'
  elif protocol == 'reconstruction':
    return _reconstructed(row)
  elif protocol == 'samples':
    return _sampled(row)
  else:
    text = protocol
  if row.get('fraction', 1) != 1:
    text += f', {_percent(row["fraction"])} of labels'
  return text if row['metric'] == 'accuracy' else f'{text}: {row["metric"]}'


def _reconstructed(row: Mapping[str, Any]) -> str:
  metric = row['metric']
  draws = f', k = {row["samples"]:,}' if metric == 'iwae' else ''
  return f'reconstruction: {metric.replace("_", " ")}{draws}{", nats" if metric in NATS else ""}'


def _sampled(row: Mapping[str, Any]) -> str:
  neighbours = f' (k = {row["k"]})' if 'k' in row else ''
  return f'samples: {row["metric"].replace("frechet_distance", "Fréchet distance")}{neighbours}'


def number(value: float, row: Mapping[str, Any]) -> str:
  """Returns a figure as text: three decimals, but of what has all orders, such as reconstructions, four digits."""
  if row['protocol'] != 'reconstruction' and row['metric'] != 'frechet_distance':
    return f'{value:.3f}'
  if row['metric'] == 'active_units':
    return f'{value:.4g}'
  order = math.floor(math.log10(abs(value))) if value else 0
  return f'{value:.{max(0, 3 - order)}f}' if order >= -4 else f'{value:.3e}'


def _ordered(features: Iterable[str]) -> list[str]:
  seen = list(dict.fromkeys(features))
  return [name for name in NAMES if name in seen] + [name for name in seen if name not in NAMES]


def aligned(cells: Sequence[Sequence[str]]) -> list[str]:
  """Returns lines of text for rows of cells, the first of them the head."""
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = ['  '.join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip() for row in cells]
  return [lines[0], '-' * (sum(widths) + 2 * len(widths) - 2), *lines[1:]]


def grid(rows: Sequence[Row]) -> list[list[str]]:
  """Returns the table as cells: a head line, then a line a protocol, with one column a kind of features.

  Several values in one cell (seeds, say) are averaged. Where several labels or representations are evaluated, each
  has lines of its own; what baselines have no representation of the method's stand in all of them. Of several metrics
  each line names its own.
  """
  columns = _ordered(row['features'] for row in rows)
  names = representations(rows) or ['']
  mixed = len({row['metric'] for row in rows}) > 1
  several = len({row['label'] for row in rows} - {NONE}) > 1
  cells: dict[str, dict[str, dict[str, list[float]]]] = {}
  examples: dict[str, Row] = {}
  for row in rows:
    text = f'{row["label"]}: {describe(row)}' if several and row['label'] != NONE else describe(row)
    text += ': accuracy' if mixed and row['metric'] == 'accuracy' else ''
    examples[text] = row
    own = [''] if row['representation'] == NONE else names if row['features'] in BASELINES else [row['representation']]
    for name in own:
      cells.setdefault(text, {}).setdefault(name, {}).setdefault(row['features'], []).append(row['value'])
  head = ['' if mixed else rows[0]['metric'], *(NAMES.get(c, c) for c in columns)]
  lines = []
  for text, found in cells.items():
    cell = lambda values, text=text: number(sum(values) / len(values), examples[text]) if values else '-'
    for name in dict.fromkeys(['', *names]):
      if name in found:
        lines.append([f'{text}, {name}' if len(names) > 1 and name else text,
                      *(cell(found[name].get(c, [])) for c in columns)])
  return [head, *lines]


def representations(rows: Sequence[Row]) -> list[str]:
  """Returns the names of the representations that the rows are about."""
  names = (row['representation'] for row in rows if row['features'] not in BASELINES)
  return [name for name in dict.fromkeys(names) if name != NONE]


def notes(rows: Sequence[Row]) -> list[str]:
  """Returns what the table's head cannot hold: data, sizes, and how each probe's penalty came about."""
  about = (_about_data, _about_sequences, _about_reconstructions, _about_samples, _about_penalties)
  return [note for each in about for note in each(rows)] if rows else []


def _about_data(rows: Sequence[Row]) -> Iterator[str]:
  first = next((row for row in rows if 'num_train' in row), rows[0])
  name = ', step '.join(str(first[key]) for key in ('data', 'step') if key in first)
  names = representations(rows)
  if name and len(names) == 1:  # Otherwise each line has its own.
    name += f', representation {names[0]}'
  name = f'{name}: ' if name else ''
  if 'num_train' in first:
    yield name + '{num_train:,} training and {num_test:,} test examples, {num_classes:,} classes.'.format(**first)
  elif first['protocol'] == 'geometry':
    yield f'{name}{first["num_test"]:,} test examples without labels.'
    yield ('Effective rank (RankMe): over how many directions the features spread. Uniformity: from -8, spread over '
           'the whole sphere, to 0, collapsed. Neither says how useful the features are.')
  elif first['protocol'] in ('reconstruction', 'samples'):
    yield f'{name}{first["num_test"]:,} test examples.'
  if seen := first.get('num_test_seen'):
    yield f'CAUTION: {seen:,} of these test examples stand among the pretraining examples too.'


def _about_sequences(rows: Sequence[Row]) -> Iterator[str]:
  folds = max(row.get('folds', 0) for row in rows)
  if folds:
    yield 'Features of a clip: mean and standard deviation of its steps over time.'
  if folds > 1:
    yield (f'Unheard: each of the {folds} speakers in turn is held out of the classifier, and the mean is shown; the '
           'encoder has heard all of them, without labels.')


def _about_reconstructions(rows: Sequence[Row]) -> Iterator[str]:
  metrics = {row['metric'] for row in rows if row['protocol'] == 'reconstruction'}
  if 'squared_error' in metrics:
    yield 'Squared error: of an example\'s values, in [0, 1] where they are pixels, the mean; lower is better.'
  if metrics & {'elbo', 'iwae'}:
    yield ('elbo, iwae: lower bounds on log p(x) of a whole example, in nats; higher is better. (A Bernoulli of grey '
           'pixels is no likelihood, unless they are binarized.)')
  if 'masked_error' in metrics:
    yield ('Masked error: of hidden patches, in the units of the target. Mean patch: each predicted to be the mean of '
           'the patches that are visible.')
  if 'denoising_error' in metrics:
    yield 'Denoising error: the squared error of reconstructions from noisy examples.'
  if 'latent_error' in metrics:
    yield ('Latent error: how far E(G(z)) is from z, squared, over the same of two draws of z: 0 where the encoder '
           'inverts the generator, 1 by chance, .5 for the mean of z.')
  if 'active_units' in metrics:
    yield 'Active units: latent dimensions whose posterior mean varies by more than .01 over the examples.'
  if 'codebook_use' in metrics:
    yield 'Codebook: the share of its entries that stand for anything, and the perplexity of their use.'
  components = [row for row in rows if row['features'] == 'pca' and 'dimensions' in row]
  features = {row['dimensions'] for row in components if row['protocol'] != 'reconstruction'}
  codes = {row['dimensions'] for row in components if row['protocol'] == 'reconstruction'}
  if components:
    listed = lambda sizes: ', '.join(f'{size:,}' for size in sorted(sizes))
    own = f'; of {listed(codes)} for reconstructions' if features and codes - features else ''
    yield f'PCA: of {listed(features or codes)} dimensions{own}, fitted on training examples.'


def _about_samples(rows: Sequence[Row]) -> Iterator[str]:
  found = {row['features']: row for row in rows if row['protocol'] == 'samples'}
  if not found:
    return
  first = next(iter(found.values()))
  real = f', and {found["train"]["num_samples"]:,} training examples' if 'train' in found else ''
  made = max(row['num_samples'] for name, row in found.items() if name != 'train' or len(found) == 1)
  yield (f'Samples: {made:,} of the generator, before training (under random) and after it (under trained){real}, '
         f'beside {first["num_test"]:,} test examples. Fréchet distance: lower is better, and training examples have '
         'about the least there can be. Precision: the share of samples that are like test examples; recall: that of '
         'test examples that are like samples.')
  if min(made, first['num_test']) < FEW:
    yield f'CAUTION: with fewer than {FEW} samples or test examples these figures say little: noise may look precise.'
  accuracy, chance = first.get('network_accuracy'), first.get('network_chance', 0)
  if first['network'] == 'random':
    yield 'Samples are judged by features of a network with random weights, as there are no labels to train one with.'
  elif accuracy is not None:
    yield f'Samples are judged by features of a classifier of accuracy {accuracy:.3f} on test examples.'
    if accuracy - chance <= HARDLY * (1 - chance):
      yield 'CAUTION: this classifier is hardly better than chance and cannot judge: train it for more steps.'


def _about_penalties(rows: Sequence[Row]) -> Iterator[str]:
  strengths: dict[str, set[float]] = {}
  for row in rows:
    if row.get('l2_chosen') and row.get('fraction', 1) == 1:
      name = str(NAMES.get(row['features'], row['features']))
      strengths.setdefault(name, set()).add(row['l2'])
  listed = (f'{f"{min(each):g} to " if len(each) > 1 else ""}{max(each):g} {name}' for name, each in strengths.items())
  if strengths:
    yield f'L2 of the linear probe, chosen on held-out training examples: {", ".join(listed)}.'


def speed(seconds: float | None, images_per_second: float | None) -> list[str]:
  """Returns how long pretraining took as a sentence, in a list; an empty list where nothing is known."""
  known = []
  if seconds is not None:
    known.append(f'{seconds:,.0f} s')
  if images_per_second is not None:
    known.append(f'{images_per_second:,.0f} examples/s')
  return [f'Pretraining: {", ".join(known)}, compilation and checkpoints included.'] if known else []


def format(rows: Sequence[Row], *, seconds: float | None = None, images_per_second: float | None = None) -> str:
  """Returns the results as aligned plain text: a line a protocol, a column a kind of features, baselines first.

  Args:
    rows: as `evaluate` returns them.
    seconds: how long pretraining took.
    images_per_second: at what speed.
  """
  if not rows:
    return 'No results.'
  return '\n'.join([*aligned(grid(rows)), *notes(rows), *speed(seconds, images_per_second)])


def read(path: str | os.PathLike) -> dict[str, Any]:
  """Returns what `write` wrote: 'rows', 'seconds' and 'images_per_second', and 'config' where there was one.

  Raises:
    ValueError: where the file holds something else.
  """
  with open(path, encoding='utf-8') as f:
    try:
      results = json.load(f)
      about = {'config': results['config']} if 'config' in results else {}
      results = {key: results[key] for key in ('rows', 'seconds', 'images_per_second')} | about
      format(results['rows'], seconds=results['seconds'], images_per_second=results['images_per_second'])
    except Exception as error:  # Each function that formats has an error of its own for what is no row.
      raise ValueError(
          f'{os.fspath(path)} is damaged ({type(error).__name__}: {error})') from error
  return results


def write(
    path: str | os.PathLike, rows: Sequence[Row], seconds: float | None, images_per_second: float | None,
    config: Mapping[str, Any] | None = None) -> None:
  """Writes results.json; a reader sees the old file or the new one.

  `config`, of the evaluation and of its data, says what the rows are results of.
  """
  about = {} if config is None else {'config': dict(config)}
  results = {'rows': list(rows), 'seconds': seconds, 'images_per_second': images_per_second, **about}
  with files.replacing(path) as temporary, open(temporary, 'w', encoding='utf-8') as f:
    f.write(json.dumps(results, indent=2) + '\n')
