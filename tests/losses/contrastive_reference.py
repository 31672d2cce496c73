"""The contrastive losses in float64 NumPy, one pair at a time."""

import numpy as np


def nt_xent(z1, z2, temperature):
  z = [unit(row) for row in (*z1, *z2)]
  n, losses = len(z1), []
  for i in range(2 * n):
    positive = z[(i + n) % (2 * n)]
    candidates = [z[k] for k in range(2 * n) if k != i]
    losses.append(cross_entropy(z[i], positive, candidates, temperature))
  return np.mean(losses)


def info_nce(query, key, negatives=None, *, temperature, normalize=True):
  scale = unit if normalize else lambda row: np.asarray(row, np.float64)
  losses = []
  for i in range(len(query)):
    if negatives is None:
      others = [key[j] for j in range(len(key)) if j != i]
    else:
      others = negatives if np.ndim(negatives) == 2 else negatives[i]
    candidates = [scale(row) for row in (key[i], *others)]
    losses.append(cross_entropy(scale(query[i]), candidates[0], candidates, temperature))
  return np.mean(losses)


def noise_contrastive(query, key, negatives, temperature, normalizer, num_examples):
  losses = []
  for i in range(len(query)):
    own = negatives if np.ndim(negatives) == 2 else negatives[i]
    share = len(own) / num_examples
    p = [np.exp(unit(query[i]) @ unit(row) / temperature) / normalizer for row in (key[i], *own)]
    losses.append(-np.log(p[0] / (p[0] + share)) - sum(np.log(share / (each + share)) for each in p[1:]))
  return np.mean(losses)


def symmetric_info_nce(a, b, temperature):
  return (info_nce(a, b, temperature=temperature) + info_nce(b, a, temperature=temperature)) / 2


def siglip(a, b, temperature, bias=-10.0):
  total = 0.0
  for i in range(len(a)):
    for j in range(len(b)):
      logit = unit(a[i]) @ unit(b[j]) / temperature + bias
      total += np.logaddexp(0.0, -logit if i == j else logit)
  return total / len(a)


def accuracy(z1, z2):
  z = [unit(row) for row in (*z1, *z2)]
  n, hits = len(z1), 0
  for i in range(2 * n):
    positive = (i + n) % (2 * n)
    hits += all(z[i] @ z[positive] > z[i] @ z[k] for k in range(2 * n) if k not in (i, positive))
  return hits / (2 * n)


def retrieval(a, b):
  scores = np.array([[unit(x) @ unit(y) for y in b] for x in a])
  hits = [sum(scores[i, i] > scores[i, j] for j in range(len(b)) if j != i) == len(b) - 1 for i in range(len(a))]
  hits += [sum(scores[i, i] > scores[j, i] for j in range(len(a)) if j != i) == len(a) - 1 for i in range(len(b))]
  return np.mean(hits)


def anchors(z1, z2):
  """Yields each anchor's cosine with its positive, and with its negatives."""
  z = [unit(row) for row in (*z1, *z2)]
  n = len(z1)
  for i in range(2 * n):
    p = (i + n) % (2 * n)
    yield z[i] @ z[p], np.array([z[i] @ z[k] for k in range(2 * n) if k not in (i, p)])


def supervised(z, labels, temperature):
  same = np.equal.outer(labels, labels)
  return multi_positive(z, z, same, np.ones_like(same), temperature, exclude_self=True)


def multi_positive(query, key, positives, candidates, temperature, exclude_self=False):
  found = []
  for i in range(len(query)):
    own = lambda j, i=i: not (exclude_self and i == j)
    scores = [unit(query[i]) @ unit(key[j]) / temperature for j in range(len(key))]
    chosen = [scores[j] for j in range(len(key)) if positives[i][j] and own(j)]
    lse = np.logaddexp.reduce([scores[j] for j in range(len(key)) if (candidates | positives)[i][j] and own(j)])
    if chosen:
      found.append(np.mean([lse - score for score in chosen]))
  return np.mean(found) if found else 0.0


def decoupled(z1, z2, temperature, sigma=None):
  weights = np.ones(len(z1))
  if sigma is not None:
    closeness = np.exp([unit(a) @ unit(b) / sigma for a, b in zip(z1, z2, strict=True)])
    weights = 2 - closeness / closeness.mean()
  return np.mean([np.logaddexp.reduce(negative / temperature) - weight * positive / temperature
                  for (positive, negative), weight in zip(anchors(z1, z2), np.tile(weights, 2), strict=True)])


def debiased(z1, z2, temperature, prior, hardness):
  found = []
  for positive, negative in anchors(z1, z2):
    positive, negative = positive / temperature, negative / temperature
    if not len(negative):
      return 0.0
    weight = np.exp(hardness * negative)
    weight /= weight.mean()
    g = (np.mean(weight * np.exp(negative)) - prior * np.exp(positive)) / (1 - prior)
    g = max(g, np.exp(-1 / temperature))
    found.append(-np.log(np.exp(positive) / (np.exp(positive) + len(negative) * g)))
  return np.mean(found)


def logistic(z1, z2, temperature, margin=None):
  found = []
  for positive, negative in anchors(z1, z2):
    if margin is not None:
      negative = negative[(negative < positive) & (negative > positive - margin)]
    terms = np.logaddexp(0, negative / temperature)
    found.append(np.logaddexp(0, -positive / temperature) + (terms.mean() if len(terms) else 0))
  return np.mean(found)


def triplet(z1, z2, temperature, margin, semi_hard):
  del temperature
  found = []
  for positive, negative in anchors(z1, z2):
    negative = negative[negative < positive] if semi_hard else negative
    found.append(np.maximum(negative - positive + margin, 0).mean() if len(negative) else 0)
  return np.mean(found)


def multi_label_nt_xent(z1, z2, temperature, alpha=1.0):
  scores = [(positive / temperature, negative / temperature) for positive, negative in anchors(z1, z2)]
  return multi_label(scores, alpha)


def multi_label_info_nce(query, key, negatives=None, *, temperature, alpha=1.0, normalize=True):
  scale, scores = unit if normalize else lambda row: np.asarray(row, np.float64), []
  for i in range(len(query)):
    if negatives is None:
      others = [key[j] for j in range(len(key)) if j != i]
    else:
      others = negatives if np.ndim(negatives) == 2 else negatives[i]
    anchor = scale(query[i]) / temperature
    scores.append((anchor @ scale(key[i]), np.array([anchor @ scale(row) for row in others])))
  return multi_label(scores, alpha)


def multi_label(scores, alpha):
  """log m less the bound, of (score of the positive, scores of the m - 1 negatives) of each anchor."""
  n, m = len(scores), 1 + len(scores[0][1])
  terms = [np.log(alpha) + positive for positive, _ in scores]
  terms += [np.log((m - alpha) / (m - 1)) + score for _, negative in scores for score in negative]
  denominator = np.logaddexp.reduce(terms)
  return np.log(m) - np.mean([np.log(n * m) + positive - denominator for positive, _ in scores])


def cross_entropy(anchor, positive, candidates, temperature):
  scores = [anchor @ candidate / temperature for candidate in candidates]
  return np.logaddexp.reduce(scores) - anchor @ positive / temperature


def unit(row):
  row = np.asarray(row, np.float64)
  length = np.sqrt(row @ row)
  return row / length if length else row
