"""Contrastive predictive coding of audio and sequences: encoders to z, causal contexts c, predictors of z from c.

CPC: van den Oord et al. 2018, https://arxiv.org/abs/1807.03748. "Modified CPC", with norm over channels and transformer
predictors: Rivière et al. 2020, https://arxiv.org/abs/2002.02848, and facebookresearch/CPC_audio.

What is causal: c and predictions at step t are exactly independent of z after t. A step of an audio encoder also sees
some samples of its neighbours, by its receptive field; batch norm in training mixes all steps of all sequences.
"""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxssl import ops, spectral
from jaxssl.models import _checks
from jaxssl.models.heads import MLP

NORMS = ('batch', 'channel', None)
CELLS = {'gru': nn.GRUCell, 'lstm': nn.OptimizedLSTMCell}


class AudioEncoder(nn.Module):
  """Strided convolutions of raw audio, [b, samples] or [b, samples, channels] -> z [b, samples // downsample, d].

  Each convolution is followed by norm and ReLU. The defaults are the paper's (section 3.1): a step every 160 samples,
  10 ms at 16 kHz, 20480 samples to 128 steps. Each convolution is padded by kernel - stride zeros, a half (rounded up)
  in front: where the strides divide the samples, these are the steps of CPC_audio's padding (3, 2, 1, 1, 1). Step t
  sees the samples 160 t - 153 to 160 t + 311. Of padded audio that holds n samples, n // downsample steps count.

  Attributes:
    features: channels of every convolution, d.
    kernels: of the convolutions, none smaller than its stride.
    strides: of the convolutions.
    norm: 'batch' (in training, over all steps of the whole batch), 'channel' (CPC_audio's, over the channels of each
      step alone, with a scale and a bias per channel; there the variance is the unbiased one) or None.
    axis_name: the mapped axis to take batch-norm statistics over, inside pmap, vmap or shard_map; None under jit.
    dtype: of the computation; parameters, batch-norm averages and z are float32.
  """

  features: int = 512
  kernels: tuple[int, ...] = (10, 8, 4, 4, 4)
  strides: tuple[int, ...] = (5, 4, 2, 2, 2)
  norm: str | None = 'batch'
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @property
  def downsample(self) -> int:
    """Samples per step."""
    return math.prod(self.strides)

  @property
  def receptive_field(self) -> int:
    """Samples that one step sees."""
    jumps = [math.prod(self.strides[:i]) for i in range(len(self.strides))]
    return 1 + sum((kernel - 1) * jump for kernel, jump in zip(self.kernels, jumps, strict=True))

  @nn.compact
  def __call__(self, waveform: jax.Array, train: bool = False) -> jax.Array:
    self._check(waveform)
    x = waveform[..., None] if waveform.ndim == 2 else waveform
    # Matmuls of reshaped blocks were 1.8 times faster in the second layer on a CPU at best, up to 17 slower in others.
    for i, (kernel, stride) in enumerate(zip(self.kernels, self.strides, strict=True)):
      spare = kernel - stride
      x = nn.Conv(
          self.features, (kernel,), (stride,), padding=(((spare + 1) // 2, spare // 2),),
          use_bias=self.norm != 'batch', dtype=self.dtype, name=f'conv{i + 1}')(x)
      x = nn.relu(self._normalize(x, f'norm{i + 1}', train))
    return x.astype(jnp.float32)

  def _normalize(self, x: jax.Array, name: str, train: bool) -> jax.Array:
    if self.norm == 'batch':
      return nn.BatchNorm(
          use_running_average=not train, momentum=0.9, epsilon=1e-5, axis_name=self.axis_name, dtype=self.dtype,
          name=name)(x)
    return nn.LayerNorm(epsilon=1e-5, dtype=self.dtype, name=name)(x) if self.norm == 'channel' else x

  def _check(self, waveform: jax.Array) -> None:
    _checks.choice('norm', self.norm, NORMS)
    if len(self.kernels) != len(self.strides) or any(k < s for k, s in zip(self.kernels, self.strides, strict=True)):
      raise ValueError(
          f'kernels and strides must have one entry a layer, no kernel smaller than its stride, got {self.kernels} and '
          f'{self.strides}')
    if waveform.ndim not in (2, 3):
      raise ValueError(f'waveform must be [b, samples] or [b, samples, channels], got shape {waveform.shape}')
    if waveform.shape[1] < self.downsample:
      raise ValueError(
          f'waveform must hold at least the {self.downsample} samples of one step, got shape {waveform.shape}')


def audio_encoder_8khz(**fields: Any) -> AudioEncoder:
  """The audio encoder for 8 kHz: 80 samples, again 10 ms, a step, which sees 28 ms; `fields` are AudioEncoder's."""
  return AudioEncoder(kernels=(10, 8, 4, 4), strides=(5, 4, 2, 2), **fields)


class LogMelEncoder(nn.Module):
  """Convolutions of log-mel features, [b, samples] or [b, samples, channels] -> z [b, samples // downsample, d].

  To compare with raw audio: the same steps of 10 ms, from `spectral.log_mel` (of the mean of the channels) in place of
  learned strides. A frame of 25 ms is centred on its step; beyond the ends there are zeros. With the default kernels a
  step also sees two frames to either side.

  Attributes:
    features: channels of every convolution, d.
    rate: samples per second of the input.
    mels: filters.
    kernels: of the convolutions, each of stride 1 and followed by norm and ReLU.
    norm, axis_name, dtype: as in `AudioEncoder`; the features themselves are float32.
  """

  features: int = 256
  rate: int = 16_000
  mels: int = 40
  kernels: tuple[int, ...] = (3, 3)
  norm: str | None = 'batch'
  axis_name: str | None = None
  dtype: Any = jnp.float32

  @property
  def downsample(self) -> int:
    """Samples per step."""
    return spectral.frame_sizes(self.rate)[1]

  @nn.compact
  def __call__(self, waveform: jax.Array, train: bool = False) -> jax.Array:
    window, hop = spectral.frame_sizes(self.rate)
    if waveform.ndim not in (2, 3) or waveform.shape[1] < hop:
      raise ValueError(f'waveform must be [b, samples] or [b, samples, channels], with at least the {hop} samples of '
                       f'one step, got shape {waveform.shape}')
    mono = waveform.mean(axis=2) if waveform.ndim == 3 else waveform
    before = (window - hop + 1) // 2
    mel = spectral.log_mel(jnp.pad(mono, ((0, 0), (before, window - hop - before))), self.rate, self.mels)
    return AudioEncoder(
        self.features, self.kernels, (1,) * len(self.kernels), self.norm, self.axis_name, self.dtype,
        name='convs')(mel, train)


def log_mel_encoder_8khz(**fields: Any) -> LogMelEncoder:
  """The log-mel encoder for 8 kHz, again of 10 ms a step; `fields` are LogMelEncoder's."""
  return LogMelEncoder(rate=8000, **fields)


class SequenceEncoder(nn.Module):
  """One multilayer perceptron for every step of a sequence of vectors, [b, t, f] -> z [b, t, features[-1]].

  Attributes:
    features: output size of each layer, with ReLU between them and no norm: steps and sequences do not mix.
    dtype: of the computation; parameters and z are float32.
  """

  features: tuple[int, ...] = (256, 256)
  dtype: Any = jnp.float32

  @property
  def downsample(self) -> int:
    """Input steps per step."""
    return 1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    _check_sequence('x', x)
    mlp = MLP(self.features, hidden_bn=False, output_bn=False, output_bias=True, dtype=self.dtype, name='mlp')
    return mlp(x.reshape(-1, x.shape[2]), train).reshape(*x.shape[:2], -1)


class RNNContext(nn.Module):
  """A recurrent context, z [b, t, d] -> c [b, t, features], float32; c_t sees z up to and with t.

  The paper's (section 3.1) is a GRU of 256; CPC_audio's default an LSTM of 256. The state starts at zero.

  Attributes:
    kind: 'gru' or 'lstm'.
    features: size of the state.
    layers: recurrent layers on top of each other.
    dtype: of the computation; parameters and the state are float32.
  """

  kind: str = 'gru'
  features: int = 256
  layers: int = 1
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
    _checks.choice('kind', self.kind, CELLS)
    _check_sequence('z', z)
    for i in range(self.layers):
      cell = CELLS[self.kind](self.features, dtype=self.dtype, name=f'{self.kind}{i + 1}')
      # Not unrolled: on a CPU, 5, 10 or all 50 steps in one iteration took up to 6 times as long.
      z = jnp.asarray(nn.RNN(cell, name=f'scan{i + 1}')(z), jnp.float32)
    return z


class TransformerContext(nn.Module):
  """A causal transformer, z [b, t, d] -> c [b, t, features], float32; c_t sees z up to and with t.

  Pre-norm (Xiong et al. 2020, https://arxiv.org/abs/2002.04745), with sinusoidal positions (Vaswani et al. 2017,
  https://arxiv.org/abs/1706.03762, section 3.5) and no dropout. Padding at the end needs no mask.

  Attributes:
    features: width of the layers.
    layers: number of layers.
    heads: attention heads, a divisor of `features`.
    dtype: of the computation; parameters and the residual stream are float32.
  """

  features: int = 256
  layers: int = 2
  heads: int = 4
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, z: jax.Array, train: bool = False) -> jax.Array:
    if self.features % 2 or self.features % self.heads:
      raise ValueError(f'features must be even and a multiple of heads = {self.heads}, got {self.features}')
    _check_sequence('z', z)
    x = nn.Dense(self.features, dtype=self.dtype, name='embed')(z)
    x = x + sinusoidal_positions(z.shape[1], self.features)[None]
    for i in range(self.layers):
      x = CausalBlock(self.heads, self.dtype, name=f'block{i + 1}')(x)
    return nn.LayerNorm(dtype=self.dtype, name='norm')(x).astype(jnp.float32)


class CausalBlock(nn.Module):
  """A pre-norm transformer layer, [b, t, d] -> [b, t, d]: causal self-attention, then a perceptron 4 times as wide."""

  heads: int
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    width = x.shape[-1]
    dense = functools.partial(nn.Dense, dtype=self.dtype)
    normed = nn.LayerNorm(dtype=self.dtype, name='norm1')(x)
    qkv = dense(3 * width, name='qkv')(normed).reshape(*x.shape[:-1], 3, self.heads, width // self.heads)
    attended = jax.nn.dot_product_attention(qkv[..., 0, :, :], qkv[..., 1, :, :], qkv[..., 2, :, :], is_causal=True)
    x = x + dense(width, name='out')(attended.reshape(x.shape))
    normed = nn.LayerNorm(dtype=self.dtype, name='norm2')(x)
    return x + dense(width, name='mlp2')(nn.gelu(dense(4 * width, name='mlp1')(normed)))


def sinusoidal_positions(length: int, features: int) -> np.ndarray:
  """Returns sines, then cosines, of t / 10000^(2i / features), [length, features] float32; `features` is even."""
  angles = np.arange(length)[:, None] / 10_000 ** (np.arange(0, features, 2) / features)
  return np.concatenate([np.sin(angles), np.cos(angles)], axis=1).astype(np.float32)


def _score_init(features: int) -> nn.initializers.Initializer:
  """The initial W_k: by fan-in, over sqrt(features), so that scores z^T W_k c start at the scale of one product.

  With the usual variance 1 / fan-in, scores summed over 512 channels start at about 500 times that variance, and the
  loss far above the log N of equal scores; CPC_audio takes the mean over channels instead.
  """
  return nn.initializers.variance_scaling(1 / features, 'fan_in', 'truncated_normal')


class LinearPredictor(nn.Module):
  """The paper's W_k (equation 3): contexts [b, t, d'] -> predictions [b, t, steps, features], float32.

  Entry k - 1 of axis 2 predicts z at step t + k: f_k(z_{t+k}, c_t) = exp(z_{t+k}^T W_k c_t). No bias.

  Attributes:
    steps: K, how far to predict; 12 for audio (section 3.1).
    features: d, that of z.
    dtype: of the computation; parameters and predictions are float32.
  """

  steps: int = 12
  features: int = 512
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, c: jax.Array, train: bool = False) -> jax.Array:
    _check_sequence('c', c)
    _check_ahead(self.steps, self.features)
    predictions = nn.Dense(
        self.steps * self.features, use_bias=False, kernel_init=_score_init(self.features), dtype=self.dtype,
        name='steps')(c)
    return predictions.reshape(*c.shape[:2], self.steps, self.features).astype(jnp.float32)


class _TransformerStep(nn.Module):
  """The predictor of one step, [b, t, d'] -> [b, t, features]."""

  features: int
  heads: int
  dtype: Any

  @nn.compact
  def __call__(self, c: jax.Array) -> jax.Array:
    x = TransformerContext(self.features, 1, self.heads, self.dtype, name='transformer')(c)
    return nn.Dense(
        self.features, use_bias=False, kernel_init=_score_init(self.features), dtype=self.dtype, name='output')(x)


class TransformerPredictor(nn.Module):
  """A causal transformer layer for each step (modified CPC): [b, t, d'] -> [b, t, steps, features], float32.

  Predictions at t see c up to and with t. Unlike CPC_audio's, the layer is pre-norm without dropout, has sinusoidal
  instead of learned relative positions, and a linear map before and after it.

  Attributes:
    steps: K, how far to predict.
    features: d, that of z, and the width of the layers.
    heads: attention heads, a divisor of `features`; CPC_audio has 8.
    dtype: of the computation; parameters and predictions are float32.
  """

  steps: int = 12
  features: int = 256
  heads: int = 8
  dtype: Any = jnp.float32

  @nn.compact
  def __call__(self, c: jax.Array, train: bool = False) -> jax.Array:
    _check_ahead(self.steps, self.features)
    all_steps = nn.vmap(
        _TransformerStep, in_axes=None, out_axes=2, axis_size=self.steps, variable_axes={'params': 0},
        split_rngs={'params': True})
    return all_steps(self.features, self.heads, self.dtype, name='steps')(c).astype(jnp.float32)


class CPCNetwork(nn.Module):
  """Encoder g_enc, context g_ar and predictors W_k: sequences [b, n, ...] -> (z [b, t, d], c [b, t, e], W_k c_t)."""

  encoder: nn.Module
  context: nn.Module
  predictor: nn.Module

  def __call__(self, x: jax.Array, train: bool = False) -> tuple[jax.Array, jax.Array, jax.Array]:
    z = self.encoder(x, train=train)
    c = self.context(z, train=train)
    return z, c, self.predictor(c, train=train)  # [b, t, K, d].


class CPCRepresentation(nn.Module):
  """z, or with a context c, of sequences: each step's, [b, t, d], or their means over the steps that count, [b, d]."""

  encoder: nn.Module
  context: nn.Module | None
  pooled: bool
  downsample: int | None = None  # Inputs of a step.

  def __call__(self, x: jax.Array, train: bool = False, mask: jax.Array | None = None) -> jax.Array:
    steps = self.encoder(silenced(x, mask), train=train)
    if self.context is not None:
      steps = self.context(steps, train=train)
    if not self.pooled:
      return steps
    valid = jnp.ones(steps.shape[:2], bool)
    if mask is not None:
      valid = ops.step_mask(mask, steps.shape[1], self.downsample)
    share = valid / jnp.maximum(jnp.sum(valid, axis=1, keepdims=True), 1)
    return jnp.einsum('bt,btd->bd', share, steps)


def silenced(x: jax.Array, mask: jax.Array | None) -> jax.Array:
  """Returns inputs [b, n, ...] with zeros for what the mask [b, n] calls padding, which may hold anything, NaN too."""
  if mask is None:
    return x
  if mask.shape != x.shape[:2]:
    raise ValueError(f'mask must have shape {list(x.shape[:2])}, that of the inputs, got {list(mask.shape)}')
  return jnp.where(mask.reshape(*mask.shape, *[1] * (x.ndim - 2)), x, 0)


def _check_sequence(name: str, x: jax.Array) -> None:
  if x.ndim != 3:
    raise ValueError(f'{name} must be sequences [b, t, d], got shape {x.shape}')


def _check_ahead(steps: int, features: int) -> None:
  for name, value in {'steps': steps, 'features': features}.items():
    if value < 1:
      raise ValueError(f'{name} must be at least 1, got {value}')
