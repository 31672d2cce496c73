"""The device's engine for audio: whole recipes on batches of windows."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxssl.augment import audio as ops
from jaxssl.recipes import Audio


def prepare(recipe: Audio) -> Callable[[dict[str, Any], jax.Array], dict[str, Any]]:
  """Returns `prepare(batch, key) -> batch`, pure, to be compiled with the train step.

  The batch brings `inputs` [b, recipe.span], int16 or float in [-1, 1], and `mask`, bool of the same shape, True where
  samples are real. It returns `views`, a tuple of float32 [b, window]; `inputs`, float32 [b, window], un-augmented; and
  `mask`, bool [b, window], True where samples are real in the inputs and in every view (a faster view of a short clip
  ends sooner). Every example has a key of its own, so a batch split over devices gives the same views.
  """

  def prepare(batch, key):
    waves, mask = to_float(batch['inputs']), batch['mask']
    if waves.shape[1:] != (recipe.span,) or mask.shape != waves.shape:
      found = f'inputs {list(waves.shape)} and mask {list(mask.shape)}'
      raise ValueError(f'inputs and mask must be [b, {recipe.span}], as the recipe says, got {found}')
    keys, real, made = jax.random.split(key, waves.shape[0]), mask[:, : recipe.window], []
    for index in range(recipe.views):
      one = lambda key, wave, mask, index=index: view(jax.random.fold_in(key, index), wave, mask, recipe)
      wave, where = jax.vmap(one)(keys, waves, mask)
      made.append(wave)
      real = real & where
    return {**batch, 'views': tuple(made), 'inputs': waves[:, : recipe.window], 'mask': real}

  return prepare


def view(key: jax.Array, wave: jax.Array, mask: jax.Array, recipe: Audio) -> tuple[jax.Array, jax.Array]:
  """Makes a view of `wave` [span], float: float32 [window], zero where nothing is real, and bool [window] where it is.

  In this order: tempo, speed, noise, time mask, gain, polarity. `mask` [span] says where samples are real.
  """
  tempo_key, speed_key, noise_key, mask_key, gain_key, polarity_key = jax.random.split(key, 6)
  factor = jnp.float32(1.0)
  if recipe.tempo:
    tempo = ops.random_factor(tempo_key, recipe.tempo)
    wave, factor = ops.change_tempo(wave, tempo, recipe.stretched, recipe.frame), tempo
  if recipe.speed:
    speed = ops.random_factor(speed_key, recipe.speed)
    wave, factor = ops.change_speed(wave, speed, recipe.window), factor * speed
  wave = wave[: recipe.window]
  real = jnp.arange(recipe.window) * factor < jnp.sum(mask)
  wave = jnp.where(real, wave, 0.0)
  if recipe.noise:
    wave = ops.random_noise(noise_key, wave, recipe.snr, recipe.noise, real)
  if recipe.time_mask:
    wave = ops.random_time_mask(mask_key, wave, recipe.time_mask_share, recipe.time_masks, recipe.time_mask)
  if recipe.gain != (0.0, 0.0):
    wave = ops.random_gain(gain_key, wave, recipe.gain)
  if recipe.polarity:
    wave = ops.random_polarity(polarity_key, wave, recipe.polarity)
  return wave, real


def to_float(waves: jax.Array) -> jax.Array:
  """Returns int16 samples scaled to [-1, 1), and float samples as they are, in float32."""
  if waves.dtype == jnp.int16:
    return waves.astype(jnp.float32) / 32768.0
  return waves.astype(jnp.float32)
