"""The losses of reconstructions and codes in float64 NumPy, one example, pixel or unit at a time."""

import math

import numpy as np


def squared_error(reconstruction, target):
  return np.mean([sum((a - b) ** 2 for a, b in zip(x.flat, y.flat, strict=True))
                  for x, y in zip(reconstruction, target, strict=True)])


def bernoulli_log_likelihood(logits, target):
  def pixel(logit, x):
    log_normalizer = max(logit, 0.0) + math.log1p(math.exp(-abs(logit)))  # log(1 + e^logit)
    return x * logit - log_normalizer

  return [sum(pixel(*each) for each in zip(ls.flat, xs.flat, strict=True))
          for ls, xs in zip(logits, target, strict=True)]


def gaussian_log_likelihood(mean, target, log_variance):
  """`log_variance` has the shape of the others."""
  def pixel(mu, x, s):
    return math.log(math.exp(-(x - mu) ** 2 / (2 * math.exp(s))) / math.sqrt(2 * math.pi * math.exp(s)))

  return [sum(pixel(*each) for each in zip(*(row.flat for row in rows), strict=True))
          for rows in zip(mean, target, log_variance, strict=True)]


def importance_weighted_bound(log_weights):
  return [math.log(sum(math.exp(w) for w in column) / len(column)) for column in log_weights.T]


def normalize_patches(patches, epsilon):
  found = np.empty_like(patches)
  for place in np.ndindex(patches.shape[:-1]):
    mean = math.fsum(patches[place]) / patches.shape[-1]
    variance = math.fsum((x - mean) ** 2 for x in patches[place]) / (patches.shape[-1] - 1)
    found[place] = [(x - mean) / math.sqrt(variance + epsilon) for x in patches[place]]
  return found


def masked_patch_error(prediction, target, mask):
  errors = [np.mean((prediction[place] - target[place]) ** 2) for place in np.ndindex(mask.shape) if mask[place]]
  return np.mean(errors) if errors else 0.0


def sparsity_kl(activations, target):
  def unit(mean):
    return target * math.log(target / mean) + (1 - target) * math.log((1 - target) / (1 - mean))

  return sum(unit(math.fsum(column) / len(column)) for column in activations.T)


def k_sparse(codes, k):
  found = np.zeros_like(codes)
  for row, kept in zip(codes, found, strict=True):
    for j in sorted(range(len(row)), key=lambda j: (-row[j], j))[:k]:
      kept[j] = row[j]
  return found


def quantization_error(z_e, codes):
  return np.mean([np.sum((z_e[place] - codes[place]) ** 2) for place in np.ndindex(z_e.shape[:-1])])


def codebook_perplexity(counts):
  shares = [count / sum(counts) for count in counts if count]
  return math.exp(-sum(share * math.log(share) for share in shares))
