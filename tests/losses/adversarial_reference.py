"""Adversarial losses in float64 NumPy, one score at a time, from probabilities where the paper has them."""

import math

import numpy as np


def sigmoid(x):
  return 1 / (1 + math.exp(-x))


def jensen_shannon(real, fake):
  discriminator = -np.mean([math.log(sigmoid(s)) for s in real]) - np.mean([math.log(1 - sigmoid(s)) for s in fake])
  return discriminator, -np.mean([math.log(sigmoid(s)) for s in fake]), math.log(2) - discriminator / 2


def saturating(real, fake):
  discriminator, _, divergence = jensen_shannon(real, fake)
  return discriminator, np.mean([math.log(1 - sigmoid(s)) for s in fake]), divergence


def least_squares(real, fake, a, b, c):
  discriminator = (sum((s - b) ** 2 for s in real) / len(real) + sum((s - a) ** 2 for s in fake) / len(fake)) / 2
  return discriminator, sum((s - c) ** 2 for s in fake) / len(fake) / 2, 2 - 8 * discriminator / (b - a) ** 2


def hinge(real, fake):
  discriminator = -np.mean([min(0, -1 + s) for s in real]) - np.mean([min(0, -1 - s) for s in fake])
  return discriminator, -np.mean(fake), 1 - discriminator / 2


def wasserstein(real, fake):
  return np.mean(fake) - np.mean(real), -np.mean(fake), np.mean(real) - np.mean(fake)


def relativistic(real, fake):
  pairs = list(zip(real, fake, strict=True))
  discriminator = -np.mean([math.log(sigmoid(r - f)) for r, f in pairs])
  return discriminator, -np.mean([math.log(sigmoid(f - r)) for r, f in pairs]), math.log(2) - discriminator


def slopes(critic, x, step=1e-6):
  """The norm of the gradient of each example's score, by central differences in every coordinate."""
  found = np.zeros(len(x))
  for i, example in enumerate(x):
    for place in np.ndindex(example.shape):
      moved = [np.array(example), np.array(example)]
      moved[0][place] += step
      moved[1][place] -= step
      found[i] += ((critic(moved[0]) - critic(moved[1])) / (2 * step)) ** 2
  return np.sqrt(found)
