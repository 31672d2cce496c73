"""The device's engine for data that bring several views of each example."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl.augment.engine import apply, resize_inputs, to_float
from jaxssl.augment.sampling import jitter_order, sample
from jaxssl.recipes import Paired, Recipe

Views = tuple[jax.Array, ...]


def prepare(recipe: Paired) -> Callable[[dict[str, Any], jax.Array], dict[str, Any]]:
  """Returns `prepare(batch, key) -> batch`, pure, to be compiled with the train step.

  The batch brings `inputs`, a tuple of arrays [b, ...], one a view. It returns `views`, float32, changed as the recipe
  says, and `inputs`, as `see` returns them. Every example has a key of its own.
  """

  def prepare(batch, key):
    example_key, order_key = jax.random.split(key)
    keys = jax.random.split(example_key, batch['inputs'][0].shape[0])
    return {**batch, 'views': change(keys, batch['inputs'], recipe, order_key), 'inputs': see(batch['inputs'], recipe)}

  return prepare


def change(keys: jax.Array, inputs: Views, recipe: Paired, order_key: jax.Array) -> Views:
  """Changes the views of every example as the recipe says; `keys` [b], one an example."""
  order = jitter_order(order_key)

  def image(key, x):
    return apply(to_float(x), sample(key, recipe.view, *x.shape[:2]), recipe.view, order)

  def other(key, x):
    return x.astype(jnp.float32) + recipe.noise * jax.random.normal(key, x.shape)

  views = []
  for i, x in enumerate(inputs):
    own = jax.vmap(jax.random.fold_in, (0, None))(keys, i)
    if x.ndim == 4:
      views.append(jax.vmap(image)(keys if recipe.aligned else own, x))
    else:
      views.append(jax.vmap(other)(own, x) if recipe.noise else x.astype(jnp.float32))
  return tuple(views)


def see(inputs: Views, recipe: Paired) -> Views:
  """Returns what evaluation sees of a tuple of views: images cut and resized, all in float32."""
  whole = Recipe((recipe.view,), recipe.input_size, recipe.input_crop)
  return tuple(resize_inputs(x, whole) if x.ndim == 4 else x.astype(jnp.float32) for x in inputs)
