"""MAE: a ViT sees a quarter of an image's patches, and a light decoder the pixels of the rest.

He, Chen, Xie, Li, Dollár, Girshick, "Masked Autoencoders Are Scalable Vision Learners", CVPR 2022,
https://arxiv.org/abs/2111.06377.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from jaxssl import core, losses, ops
from jaxssl.methods import _checks
from jaxssl.models.forward import forward
from jaxssl.models.mae import MAEDecoder, MAENetwork
from jaxssl.models.vit import ViT

GREY = 0.5  # Of masked patches, in pictures.


class Masking(NamedTuple):
  """Which patches are hidden."""

  keep: jax.Array  # int [b, k]: the visible patches.
  restore: jax.Array  # int [b, n]: the place of each patch in the shuffled order, of which `keep` is the beginning.
  mask: jax.Array  # bool [b, n]: true where a patch is hidden.


@dataclasses.dataclass(frozen=True)
class MAE:
  """Reconstructs the first view, whose side must be a multiple of the encoder's patch."""

  encoder: ViT  # images [b, h, w, c] -> tokens [b, t, d]
  decoder: MAEDecoder  # tokens of the visible patches -> patches [b, n, p]; its defaults are those of table 1.
  optimizer: optax.GradientTransformation  # AdamW, b2 .95, weight decay .05, 1.5e-4 x batch / 256 (table 8).
  mask_ratio: float = 0.75  # Figure 5.
  normalize_targets: bool = True  # Each patch to mean 0 and variance 1 (table 1d).

  def __post_init__(self):
    _checks.kinds(encoder=(self.encoder, ViT), decoder=(self.decoder, MAEDecoder))
    if not 0 < self.mask_ratio < 1:
      raise ValueError(f'mask_ratio must lie in (0, 1), got {self.mask_ratio}')

  @property
  def representations(self) -> tuple[str, ...]:
    return ('mean', 'class') if self.encoder.class_token else ('mean',)

  @property
  def network(self) -> MAENetwork:
    return MAENetwork(self.encoder, self.decoder)

  def init(self, key: jax.Array, batch: core.Batch) -> core.State:
    x = ops.single(batch['views'])
    mask_key, network_key = jax.random.split(key)
    masking = self.draw_mask(mask_key, x)
    return core.init_state(self.network, self.optimizer, network_key, x, masking.keep, masking.restore)

  def draw_mask(self, key: jax.Array, x: jax.Array) -> Masking:
    """Draws the hidden patches of each image of x [b, h, w, c] alone: those with the largest noise.

    Raises:
      ValueError: if the ratio hides all patches, or none.
    """
    rows, columns = ops.patch_grid(x, self.encoder.patch)
    n = rows * columns
    visible = int(n * (1 - self.mask_ratio) + 1e-6)  # Rounded down, but not where 1 - 0.9 is a bit less than 0.1.
    if not 0 < visible < n:
      raise ValueError(
          f'mask_ratio must leave some of the {n} patches visible and hide some, got {self.mask_ratio}, which leaves '
          f'{visible}')
    order = jnp.argsort(jax.random.uniform(key, (len(x), n)), axis=1)
    restore = jnp.argsort(order, axis=1)
    return Masking(order[:, :visible], restore, restore >= visible)

  def loss(self, params, stats, x, key):
    """Returns the mean squared error of the hidden patches' pixels, and (updated stats, metrics)."""
    mask_key, drop_key = jax.random.split(key)
    keep, restore, mask = self.draw_mask(mask_key, x)
    prediction, stats = forward(self.network, params, stats, x, keep, restore, rngs={'dropout': drop_key})
    return losses.masked_patch_error(prediction, self.target(x), mask), (stats, {})

  def target(self, x: jax.Array) -> jax.Array:
    """Returns what is to be predicted of images x [b, h, w, c]: patches [b, n, p]."""
    patches = ops.to_patches(x, self.encoder.patch).astype(jnp.float32)
    return losses.normalize_patches(patches) if self.normalize_targets else patches

  def step(self, state: core.State, batch: core.Batch, key: jax.Array) -> tuple[core.State, core.Metrics]:
    x = ops.single(batch['views'])
    return core.descend(lambda params: self.loss(params, state.stats, x, key), self.optimizer, state)

  def represent(self, state: core.State, inputs: Any, name: str | None = None, mask=None) -> jax.Array:
    """Returns the mean of the patches' tokens [n, d], or the class token, of whole images [n, h, w, c]."""
    encoder, variables = self.backbone(state, name)
    features: Any = encoder.apply(variables, ops.single(inputs))
    return features

  def backbone(self, state: core.State, name: str | None = None) -> tuple[nn.Module, Any]:
    """Returns the encoder alone, with its pool, and its variables: what fine-tuning trains."""
    pool = core.choose(name, {each: each for each in self.representations})
    return self.encoder.clone(pool=pool), {'params': state.params['encoder']}

  def reconstruct(self, state: core.State, inputs: Any, key: jax.Array) -> dict[str, jax.Array]:
    """Returns images [b, h, w, c] with hidden patches in grey, and with their predictions in place.

    If targets are normalised, a prediction gets the mean and standard deviation of the true patch, as in the authors'
    pictures: its contrast is no achievement.
    """
    x = ops.single(inputs)
    prediction, masking = self._predict(state, x, key)
    grey = jnp.full_like(prediction, GREY)
    return {'masked': self._paste(x, grey, masking.mask), 'reconstruction': self._picture(x, prediction, masking.mask)}

  def score(self, state: core.State, inputs: Any, key: jax.Array, samples: int = 1) -> core.Metrics:
    """Returns errors of each image [b], means over `samples` masks.

    `masked_error`: of the hidden patches' pixels, in the units of the target, which is the loss.
    `masked_error_of_mean_patch`: the same where each is predicted to be the mean of the image's visible patches.
    """
    x = ops.single(inputs)
    found = jax.lax.map(lambda key: self._score(state, x, key), jax.random.split(key, samples))
    return {name: jnp.mean(each, axis=0) for name, each in found.items()}

  def embed(self, state: core.State, batch: core.Batch) -> tuple[jax.Array, ...]:
    """Returns the mean of the first view's tokens [b, d], less that of the batch, for the health of the embedding."""
    h = self.represent(state, batch['views'], 'mean')
    return (h - jnp.mean(h, axis=0, keepdims=True),)

  def _predict(self, state: core.State, x: jax.Array, key: jax.Array) -> tuple[jax.Array, Masking]:
    masking = self.draw_mask(key, x)
    prediction: Any = self.network.apply({'params': state.params, **state.stats}, x, masking.keep, masking.restore)
    return prediction, masking

  def _score(self, state: core.State, x: jax.Array, key: jax.Array) -> core.Metrics:
    prediction, masking = self._predict(state, x, key)
    target, hidden = self.target(x), masking.mask.astype(jnp.float32)
    mean_patch = jnp.mean(jnp.take_along_axis(target, masking.keep[..., None], axis=1), axis=1, keepdims=True)
    over_hidden = lambda guess: jnp.sum(
        jnp.mean(jnp.square(guess - target), axis=-1) * hidden, axis=1) / jnp.sum(hidden, axis=1)
    return {
        'masked_error': over_hidden(prediction),
        'masked_error_of_mean_patch': over_hidden(mean_patch),
    }

  def _picture(self, x: jax.Array, prediction: jax.Array, mask: jax.Array) -> jax.Array:
    """Undoes the targets' normalisation, and pastes predictions over the hidden patches."""
    if self.normalize_targets:
      patches = ops.to_patches(x, self.encoder.patch)
      deviation = jnp.sqrt(jnp.var(patches, axis=-1, keepdims=True, ddof=1) + 1e-6)
      prediction = prediction * deviation + jnp.mean(patches, axis=-1, keepdims=True)
    return self._paste(x, prediction, mask)

  def _paste(self, x: jax.Array, prediction: jax.Array, mask: jax.Array) -> jax.Array:
    patches = jnp.where(mask[..., None], prediction, ops.to_patches(x, self.encoder.patch))
    return ops.from_patches(patches, ops.patch_grid(x, self.encoder.patch), self.encoder.patch)
