"""Measures a run by the protocols of its config: the rows of results.json."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl import augment, data, evaluation
from jaxssl.cli.runs import Run
from jaxssl.evaluation import extract, geometry

PROTOCOLS = ('knn', 'linear', 'sgd', 'finetune')
Encode = Callable[[jax.Array], jax.Array]


def encoders(run: Run) -> dict[str, Encode]:
  """Returns functions of images [b, h, w, c] of any size: raw pixels, the random encoder, the trained encoder."""
  method, name = run.experiment.method, run.config.evaluation.representation or None
  represent = lambda state: jax.jit(lambda images: method.represent(state, adapt(run, images), name))
  return {
      'raw': jax.jit(lambda images: evaluation.flatten(adapt(run, images))),
      'random': represent(run.initial),
      'trained': represent(run.state),
  }


def adapt(run: Run, images: jax.Array) -> jax.Array:
  """Brings images [b, h, w, c] to the size and the number of channels that the encoder was trained on."""
  channels = run.channels
  images = augment.resize_inputs(images, run.experiment.recipe)
  if images.shape[-1] != channels:
    grey = images.mean(axis=-1, keepdims=True) if images.shape[-1] == 3 else images[..., :1]
    images = jnp.broadcast_to(grey, (*images.shape[:-1], channels))
  return images


def measure(run: Run, train: data.Source, test: data.Source) -> list[dict[str, Any]]:
  """Returns one row a figure, for all protocols of the config; of unlabelled data, the geometry of the features."""
  options = run.config.evaluation
  for protocol in options.protocols:
    if protocol not in PROTOCOLS:
      raise ValueError(f'config.evaluation.protocols must be among {", ".join(PROTOCOLS)}; got {protocol!r}')
  if train.labels is None or test.labels is None:
    rows = spread(run, test)
  else:
    rows = evaluation.evaluate(
        encoders(run), train, test,
        knn=options.knn.to_dict() if 'knn' in options.protocols else None,
        linear=options.linear.to_dict() if 'linear' in options.protocols else None,
        fractions=options.fractions, batch_size=options.batch_size,
        representation=representation(run), seed=run.config.seed)
  return [{**row, 'data': test.name, 'step': int(run.state.step)} for row in rows]


def representation(run: Run) -> str:
  """Returns the name of the representation that is evaluated."""
  return run.config.evaluation.representation or run.experiment.method.representations[0]


def spread(run: Run, source: data.Source, limit: int = 2048) -> list[dict[str, Any]]:
  """Returns the effective rank and uniformity of the features of at most `limit` images, which need no labels."""
  images = source.images[jnp.arange(min(limit, len(source)))]
  rows = []
  for features, encode in encoders(run).items():
    h = jnp.asarray(extract(encode, images, batch_size=run.config.evaluation.batch_size))
    for metric, value in (('effective_rank', geometry.effective_rank(h)), ('uniformity', geometry.uniformity(h))):
      rows.append({
          'protocol': 'geometry', 'label': 'none', 'split': 'test', 'representation': representation(run),
          'features': features, 'seed': run.config.seed, 'metric': metric, 'value': float(value),
          'num_test': len(images)})
  return rows
