"""Random operations on patches [..., p, p, c], float: `op(key, patches, ...)`, drawn anew for every patch.

CPC v1: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, section 3.2. CPC v2: Hénaff et al. 2019,
https://arxiv.org/abs/1905.09272. `jaxssl.ops.patchify` cuts images into patches.
"""

import jax
import jax.numpy as jnp


def random_subcrop(key: jax.Array, patches: jax.Array, share: float = 60 / 64) -> jax.Array:
  """Cuts a random square of `share` of the side, rounded down, out of each patch; pads it back with zeros all around.

  The default is CPC v1's: 60 of 64 pixels.

  Raises:
    ValueError: for a `share` outside (0, 1].
  """
  if not 0 < share <= 1:
    raise ValueError(f'share must lie in (0, 1], got {share}')
  _check(patches)
  *grid, side, _, channels = patches.shape
  size = max(int(share * side), 1)
  before = (side - size) // 2
  flat = patches.reshape(-1, side, side, channels)
  corners = jax.random.randint(key, (flat.shape[0], 2), 0, side - size + 1)
  cut = lambda patch, corner: jax.lax.dynamic_slice(patch, (corner[0], corner[1], 0), (size, size, channels))
  margin = (before, side - size - before)
  padded = jnp.pad(jax.vmap(cut)(flat, corners), ((0, 0), margin, margin, (0, 0)))
  return padded.reshape(*grid, side, side, channels)


def random_color_drop(key: jax.Array, patches: jax.Array, probability: float = 1.0) -> jax.Array:
  """With `probability`, sets all channels of a patch but a random one to zero: CPC v2's "colour dropping".

  Patches of one channel stay as they are.
  """
  _check(patches)
  *grid, _, _, channels = patches.shape
  apply_key, channel_key = jax.random.split(key)
  kept = jax.nn.one_hot(jax.random.randint(channel_key, grid, 0, channels), channels, dtype=patches.dtype)
  applied = jax.random.bernoulli(apply_key, probability, grid)
  factor = jnp.where(applied[..., None], kept, jnp.ones_like(kept))
  return patches * factor[..., None, None, :]


def random_patch_flip(key: jax.Array, patches: jax.Array, probability: float = 0.5) -> jax.Array:
  """Mirrors each patch left and right with `probability`, as CPC v2 does."""
  _check(patches)
  flipped = jax.random.bernoulli(key, probability, patches.shape[:-3])
  return jnp.where(flipped[..., None, None, None], patches[..., ::-1, :], patches)


def _check(patches: jax.Array) -> None:
  if patches.ndim < 3 or patches.shape[-3] != patches.shape[-2]:
    raise ValueError(f'patches must be squares [..., p, p, c], got shape {patches.shape}')
