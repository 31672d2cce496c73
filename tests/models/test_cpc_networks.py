"""CPC's networks for audio and sequences: NumPy references, sizes counted by hand, and exact causality."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import models, spectral
from jaxssl.models.cpc import sinusoidal_positions

KEY = jax.random.key(0, impl='rbg')  # Compiles several times faster than threefry.
TINY = models.AudioEncoder(6, (4, 3), (2, 2), 'channel')
CONTEXTS = {
    'gru': models.RNNContext('gru', 6, 2),
    'lstm': models.RNNContext('lstm', 6),
    'transformer': models.TransformerContext(6, 2, 3),
}
PREDICTORS = {'linear': models.LinearPredictor(3, 4), 'transformer': models.TransformerPredictor(3, 4, 2)}


def normal(*shape):
  return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def initialised(network, x):
  """Variables of `network` with every parameter random, so that no scale or bias is idle."""
  variables = jax.jit(network.init)(KEY, x)
  rng = np.random.default_rng(2)
  draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(leaf.shape[0]), jnp.float32)
  return {**variables, 'params': jax.tree.map(draw, variables['params'])}


@functools.partial(jax.jit, static_argnums=0)
def apply(network, variables, x):
  return network.apply(variables, x)


@functools.partial(jax.jit, static_argnums=0)
def train(network, variables, x):
  return network.apply(variables, x, train=True, mutable=['batch_stats'])


def size(network, *shape):
  variables = jax.eval_shape(lambda: network.init(KEY, jnp.zeros(shape)))
  return sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(variables['params']))


def float64(tree):
  return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), tree)


def influence(function, x):
  """|d sum_t' (w y)[t] / d x[t']| for y = function(x): which input step (axis 1) reaches which output step, [t, t']."""
  weights = normal(*jax.eval_shape(function, x).shape)
  others = tuple(i for i in range(weights.ndim) if i != 1)
  jacobian = jax.jit(jax.jacrev(lambda x: (weights * function(x)).sum(others)))(x)
  return np.asarray(jnp.abs(jacobian).sum((1, *range(3, jacobian.ndim))))


def is_causal(matrix):
  past = np.tril(np.ones_like(matrix, bool))
  return (matrix[past] > 0).all() and (matrix[~past] == 0).all()


# Encoders.


@pytest.mark.parametrize('encoder, samples, steps', [
    (models.AudioEncoder(2), 20480, 128),
    (models.AudioEncoder(2), 20480 + 159, 128),
    (models.AudioEncoder(2), 160, 1),
    (models.audio_encoder_8khz(features=2), 4000, 50),
    (models.audio_encoder_8khz(features=2), 4079, 50),
    (models.LogMelEncoder(2), 20480 + 159, 128),
    (models.log_mel_encoder_8khz(features=2), 4000, 50),
])
def test_steps_of_audio(encoder, samples, steps):
  assert samples // encoder.downsample == steps
  for shape in ((2, samples), (2, samples, 1), (2, samples, 2)):
    z = jax.eval_shape(lambda shape=shape: encoder.init_with_output(KEY, jnp.zeros(shape))[0])
    assert z.shape == (2, steps, 2) and z.dtype == jnp.float32


@pytest.mark.parametrize('norm, count', [
    # conv1 10 x 512, conv2 8 x 512 x 512, conv3 to conv5 4 x 512 x 512; a bias each; a scale and a bias each.
    (None, 5_120 + 2_097_152 + 3 * 1_048_576 + 5 * 512),
    ('channel', 5_120 + 2_097_152 + 3 * 1_048_576 + 5 * 512 + 5 * 1024),
    ('batch', 5_120 + 2_097_152 + 3 * 1_048_576 + 5 * 1024),
])
def test_parameters_of_the_audio_encoder(norm, count):
  assert size(models.AudioEncoder(norm=norm), 1, 20480) == count


@pytest.mark.parametrize('network, inputs, count', [
    (models.RNNContext('gru'), 512, 3 * (512 * 256 + 256) + 3 * 256 * 256 + 256),
    (models.RNNContext('lstm'), 512, 4 * 512 * 256 + 4 * (256 * 256 + 256)),
    # embed; per layer two norms, qkv, out, mlp1 and mlp2; the last norm.
    (models.TransformerContext(), 512, 131_328 + 2 * (1_024 + 197_376 + 65_792 + 263_168 + 262_400) + 512),
    (models.LinearPredictor(), 256, 12 * 256 * 512),
    (models.TransformerPredictor(), 256, 12 * (65_792 + 789_760 + 512 + 65_536)),
    (models.SequenceEncoder((256, 128)), 20, 20 * 256 + 256 + 256 * 128 + 128),
])
def test_parameter_counts(network, inputs, count):
  assert size(network, 1, 5, inputs) == count


def test_audio_encoder_equals_numpy():
  waveform = normal(2, 10)
  variables = initialised(TINY, waveform)
  params, x = float64(variables['params']), np.asarray(waveform, np.float64)[..., None]
  for i, (kernel, stride) in enumerate(zip(TINY.kernels, TINY.strides, strict=True)):
    spare = kernel - stride
    x = np.pad(x, ((0, 0), (-(-spare // 2), spare // 2), (0, 0)))
    steps = (x.shape[1] - kernel) // stride + 1
    windows = np.stack([x[:, t * stride:t * stride + kernel] for t in range(steps)], axis=1)
    y = np.einsum('btkc,kcd->btd', windows, params[f'conv{i + 1}']['kernel']) + params[f'conv{i + 1}']['bias']
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-5)
    x = np.maximum(y * params[f'norm{i + 1}']['scale'] + params[f'norm{i + 1}']['bias'], 0)
  assert x.shape == (2, 2, 6)
  np.testing.assert_allclose(apply(TINY, variables, waveform), x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('encoder, field, before', [
    (models.AudioEncoder(8, norm='channel'), 465, 3 + 2 * 5 + 20 + 40 + 80),
    (models.audio_encoder_8khz(features=8, norm='channel'), 225, 3 + 2 * 5 + 20 + 40),
])
def test_receptive_field_is_that_of_the_gradient(encoder, field, before):
  step = encoder.downsample
  waveform = normal(1, 8 * step)
  variables = initialised(encoder, waveform)
  gradient = jax.jit(jax.grad(lambda waveform: encoder.apply(variables, waveform)[0, 4].sum()))(waveform)
  seen = np.flatnonzero(np.asarray(gradient[0]))
  assert encoder.receptive_field == field
  assert (seen[0], seen[-1] + 1) == (4 * step - before, 4 * step - before + field)


@pytest.mark.parametrize('norm, leaks', [('channel', False), (None, False), ('batch', True)])
def test_sequences_mix_by_batch_norm_alone(norm, leaks):
  encoder = TINY.clone(norm=norm)
  waveform = normal(3, 16)
  variables = initialised(encoder, waveform)
  gradient = jax.jit(jax.grad(lambda waveform: train(encoder, variables, waveform)[0][0].std()))(waveform)
  assert np.any(gradient[0]) and np.any(gradient[1:]) == leaks


def test_batch_norm_has_averages_and_an_axis():
  encoder = TINY.clone(norm='batch')
  waveform = normal(4, 16)
  variables = initialised(encoder, waveform)
  whole, updated = train(encoder, variables, waveform)
  local = lambda x: train(encoder.clone(axis_name='i'), variables, x)[0]
  split = jax.vmap(local, axis_name='i')(waveform.reshape(2, 2, 16))
  np.testing.assert_allclose(split.reshape(whole.shape), whole, rtol=1e-4, atol=1e-5)
  assert set(updated['batch_stats']) == {'norm1', 'norm2'}
  assert np.abs(apply(encoder, {**variables, **updated}, waveform) - apply(encoder, variables, waveform)).max() > 1e-3


def test_log_mel_encoder_is_convolutions_of_log_mel():
  encoder = models.log_mel_encoder_8khz(features=4, mels=10, norm='channel')
  waveform = normal(2, 800)
  variables = initialised(encoder, waveform)
  mel = spectral.log_mel(jnp.pad(waveform, ((0, 0), (60, 60))), 8000, 10)
  assert mel.shape[1] == waveform.shape[1] // 80
  convs = models.AudioEncoder(4, (3, 3), (1, 1), 'channel')
  expected = apply(convs, {'params': variables['params']['convs']}, mel)
  np.testing.assert_allclose(apply(encoder, variables, waveform), expected, rtol=1e-5, atol=1e-6)
  stereo = jnp.stack([waveform * 2, jnp.zeros_like(waveform)], axis=-1)
  np.testing.assert_allclose(apply(encoder, variables, stereo), expected, rtol=1e-5, atol=1e-5)


def test_sequence_encoder_treats_each_step_alone():
  encoder = models.SequenceEncoder((5, 4))
  x = normal(2, 3, 6)
  variables = initialised(encoder, x)
  layers = float64(variables['params']['mlp'])
  hidden = np.maximum(np.asarray(x) @ layers['linear1']['kernel'] + layers['linear1']['bias'], 0)
  expected = hidden @ layers['linear2']['kernel'] + layers['linear2']['bias']
  np.testing.assert_allclose(apply(encoder, variables, x), expected, rtol=1e-4, atol=1e-5)
  assert encoder.downsample == 1


# Contexts and predictors.


@pytest.mark.parametrize('name', CONTEXTS)
def test_contexts_do_not_see_the_future(name):
  z = normal(2, 7, 4)
  variables = initialised(CONTEXTS[name], z)
  assert is_causal(influence(lambda z: CONTEXTS[name].apply(variables, z, train=True), z))


@pytest.mark.parametrize('name', PREDICTORS)
def test_predictions_do_not_see_the_future(name):
  c = normal(2, 7, 5)
  predictor = PREDICTORS[name]
  variables = initialised(predictor, c)
  for k in range(3):
    matrix = influence(lambda c, k=k: predictor.apply(variables, c, train=True)[:, :, k], c)
    assert is_causal(matrix) if name == 'transformer' else (matrix > 0).tolist() == np.eye(7, dtype=bool).tolist()


@pytest.mark.parametrize('name', CONTEXTS)
def test_contexts_of_audio_see_their_samples_and_no_later_ones(name):
  """From waveform to predictions, with norm over channels; batch norm in training mixes all steps by its statistics."""
  waveform = normal(2, 32)
  parts = [TINY, CONTEXTS[name], PREDICTORS['transformer']]
  variables, x = [], waveform
  for part in parts:
    variables.append(initialised(part, x))
    x = apply(part, variables[-1], x)

  def predict(waveform):
    for part, v in zip(parts, variables, strict=True):
      waveform = part.apply(v, waveform, train=True)
    return waveform

  matrix = influence(predict, waveform)
  assert matrix.shape == (8, 32) and TINY.receptive_field == 8
  for t in range(8):  # The first sample that step t sees is 4 t - 1 - 2; see the padding.
    last = 4 * t - 3 + TINY.receptive_field
    assert matrix[t, max(last - 8, 0):last].any() and not matrix[t, last:].any()


def sigmoid(x):
  return 1 / (1 + np.exp(-x))


def numpy_gru(x, p):
  h, outputs = np.zeros((len(x), p['hr']['kernel'].shape[0])), []
  linear = lambda name, x: x @ p[name]['kernel'] + p[name].get('bias', 0.0)
  for t in range(x.shape[1]):
    r = sigmoid(linear('ir', x[:, t]) + linear('hr', h))
    u = sigmoid(linear('iz', x[:, t]) + linear('hz', h))
    h = (1 - u) * np.tanh(linear('in', x[:, t]) + r * linear('hn', h)) + u * h
    outputs.append(h)
  return np.stack(outputs, axis=1)


def numpy_lstm(x, p):
  h = cell = np.zeros((len(x), p['hi']['kernel'].shape[0]))
  outputs = []
  for t in range(x.shape[1]):
    i, f, g, o = (x[:, t] @ p[f'i{n}']['kernel'] + h @ p[f'h{n}']['kernel'] + p[f'h{n}']['bias'] for n in 'ifgo')
    cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(g)
    h = sigmoid(o) * np.tanh(cell)
    outputs.append(h)
  return np.stack(outputs, axis=1)


@pytest.mark.parametrize('kind, reference', [('gru', numpy_gru), ('lstm', numpy_lstm)])
def test_recurrent_contexts_equal_numpy(kind, reference):
  context = models.RNNContext(kind, 5, 2)
  z = normal(3, 6, 4)
  variables = initialised(context, z)
  params = float64(variables['params'])
  expected = reference(reference(np.asarray(z, np.float64), params[f'{kind}1']), params[f'{kind}2'])
  np.testing.assert_allclose(apply(context, variables, z), expected, rtol=1e-4, atol=1e-5)


def numpy_norm(x, p):
  return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * p['scale'] + p['bias']


def numpy_transformer(z, p, heads):
  linear = lambda p, x: x @ p['kernel'] + p['bias']
  x = linear(p['embed'], z)
  _, length, width = x.shape
  for t, i in np.ndindex(length, width // 2):
    angle = t / 10_000 ** (2 * i / width)
    x[:, t, i] += np.sin(angle)
    x[:, t, width // 2 + i] += np.cos(angle)
  block = p['block1']
  q, k, v = np.split(linear(block['qkv'], numpy_norm(x, block['norm1'])), 3, axis=-1)
  attended = np.zeros_like(x)
  for h, t in np.ndindex(heads, length):
    own = slice(h * width // heads, (h + 1) * width // heads)
    weights = np.exp(np.einsum('bd,bsd->bs', q[:, t, own], k[:, :t + 1, own]) / np.sqrt(width // heads))
    attended[:, t, own] = np.einsum('bs,bsd->bd', weights / weights.sum(1, keepdims=True), v[:, :t + 1, own])
  x = x + linear(block['out'], attended)
  y = linear(block['mlp1'], numpy_norm(x, block['norm2']))
  gelu = 0.5 * y * (1 + np.tanh(np.sqrt(2 / np.pi) * (y + 0.044715 * y**3)))
  return numpy_norm(x + linear(block['mlp2'], gelu), p['norm'])


def test_transformer_equals_numpy():
  context = models.TransformerContext(6, 1, 3)
  z = normal(2, 5, 4)
  variables = initialised(context, z)
  expected = numpy_transformer(np.asarray(z, np.float64), float64(variables['params']), 3)
  np.testing.assert_allclose(apply(context, variables, z), expected, rtol=1e-3, atol=1e-4)


def test_positions_differ():
  positions = sinusoidal_positions(200, 16)
  distances = np.linalg.norm(positions[:, None] - positions[None], axis=-1)
  assert distances[~np.eye(200, dtype=bool)].min() > 0.1


def test_linear_predictor_has_one_matrix_per_step():
  c = normal(2, 5, 3)
  predictor = PREDICTORS['linear']
  variables = initialised(predictor, c)
  kernel = variables['params']['steps']['kernel'].reshape(3, 3, 4)  # [d', K, d]
  expected = np.stack([np.asarray(c) @ np.asarray(kernel[:, k]) for k in range(3)], axis=2)
  np.testing.assert_allclose(apply(predictor, variables, c), expected, rtol=1e-4, atol=1e-5)


def test_transformer_predictor_has_one_transformer_per_step():
  c = normal(2, 5, 3)
  predictor = PREDICTORS['transformer']
  variables = initialised(predictor, c)
  predictions = apply(predictor, variables, c)
  for k in range(3):
    params = jax.tree.map(lambda leaf, k=k: leaf[k], variables['params']['steps'])
    hidden = apply(models.TransformerContext(4, 1, 2), {'params': params['transformer']}, c)
    np.testing.assert_allclose(
        predictions[:, :, k], hidden @ params['output']['kernel'], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('predictor', [models.LinearPredictor(4, 256), models.TransformerPredictor(4, 256, 8)])
def test_scores_start_at_the_scale_of_one_product(predictor):
  z, c = normal(2, 32, 256), normal(2, 32, 128)
  predictions = jax.jit(predictor.init_with_output)(KEY, c)[0]
  assert abs(jnp.einsum('btd,bskd->kts', z, predictions).std() / 2**0.5 - 1) < 0.1


@pytest.mark.parametrize('network, shape', [
    *[(TINY.clone(norm=norm), (3, 16)) for norm in ('batch', 'channel')],
    (models.LogMelEncoder(4, 8000, 10), (3, 800)),
    (models.SequenceEncoder((6, 4)), (2, 5, 4)),
    *[(network, (2, 5, 4)) for network in (*CONTEXTS.values(), *PREDICTORS.values())],
])
def test_bfloat16_keeps_float32_outside(network, shape):
  x = normal(*shape)
  half = network.clone(dtype=jnp.bfloat16)
  variables = jax.jit(half.init)(KEY, x)
  output, updated = train(half, variables, x)
  assert {leaf.dtype for leaf in jax.tree.leaves((variables, output, updated))} == {jnp.dtype('float32')}
  exact, _ = train(network, variables, x)
  assert 0 < np.abs(output - exact).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize('network, shape, message', [
    (TINY.clone(norm='layer'), (1, 16), r"norm must be one of 'batch', 'channel', None, got 'layer'"),
    (TINY.clone(strides=(2,)), (1, 16), r'one entry a layer, no kernel smaller than its stride, got \(4, 3\) and \(2,'),
    (TINY.clone(strides=(5, 2)), (1, 16), r'no kernel smaller than its stride, got \(4, 3\) and \(5, 2\)'),
    (models.AudioEncoder(), (2, 159), r'at least the 160 samples of one step, got shape \(2, 159\)'),
    (models.AudioEncoder(), (2000,), r'waveform must be \[b, samples\] or \[b, samples, channels\], got shape \(2000,'),
    (models.RNNContext('rnn'), (2, 3, 4), r"kind must be one of 'gru', 'lstm', got 'rnn'"),
    (models.TransformerContext(6, 1, 4), (2, 3, 4), 'must be even and a multiple of heads = 4, got 6'),
    (models.RNNContext(), (3, 4), r'z must be sequences \[b, t, d\], got shape \(3, 4\)'),
    (models.LinearPredictor(), (3, 4), r'c must be sequences \[b, t, d\], got shape \(3, 4\)'),
    (models.SequenceEncoder(), (3, 4), r'x must be sequences \[b, t, d\], got shape \(3, 4\)'),
])
def test_errors_name_the_argument(network, shape, message):
  with pytest.raises(ValueError, match=message):
    jax.eval_shape(functools.partial(network.init, KEY), jnp.zeros(shape))
