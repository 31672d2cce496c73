"""Vision transformers in NumPy, float64, of one sequence of tokens."""

import math

import numpy as np


def linear(params, y):
  return y @ params['kernel'] + params['bias']


def norm(params, y):
  return (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + 1e-6) * params['scale'] + params['bias']


def transformer(params, x, heads):
  """Blocks and the last norm on x [t, d]."""
  for i in range(sum(name.startswith('block') for name in params)):
    p = params[f'block{i}']
    q, k, v = linear(p['qkv'], norm(p['norm1'], x)).reshape(len(x), 3, heads, -1).transpose(1, 2, 0, 3)
    weights = np.exp(q @ k.transpose(0, 2, 1) / math.sqrt(q.shape[-1]))
    attended = weights / weights.sum(-1, keepdims=True) @ v
    x = x + linear(p['out'], attended.transpose(1, 0, 2).reshape(x.shape))
    y = linear(p['mlp1'], norm(p['norm2'], x))
    x = x + linear(p['mlp2'], y * 0.5 * (1 + np.vectorize(math.erf)(y / math.sqrt(2))))
  return norm(params['norm'], x)


def position(row, column, width):
  frequency = [10_000 ** (-4 * i / width) for i in range(width // 4)]
  return np.array([f(place * w) for place in (column, row) for f in (math.sin, math.cos) for w in frequency])


def cut(image, patch):
  """Returns the patches of an image [h, w, c], row by row, and their places."""
  height, width = np.broadcast_to(patch, 2)
  places = [(r, c) for r in range(image.shape[0] // height) for c in range(image.shape[1] // width)]
  return [image[r * height : (r + 1) * height, c * width : (c + 1) * width].reshape(-1) for r, c in places], places


def prefix(encoder):
  """Returns the tokens of no patch of an encoder with these parameters: a list of [d]."""
  tokens = [encoder['class_token']] if 'class_token' in encoder else []
  return tokens + list(encoder.get('registers', []))
