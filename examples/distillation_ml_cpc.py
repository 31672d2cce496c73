"""A student that tells its teacher's features apart: contrastive distillation with InfoNCE and with multi-label CPC.

Tian, Krishnan, Isola, "Contrastive Representation Distillation", 2019, https://arxiv.org/abs/1910.10699, with negatives
from the batch; and with the objective of Song and Ermon, "Multi-label Contrastive Predictive Coding", 2020,
https://arxiv.org/abs/2007.09852. On the bundled Omniglot drawings: a teacher learns their characters from drawers 1-15;
then a student of a quarter of its width learns them too, from the labels alone or also from the teacher: what it makes
of a picture has to be told from what it makes of the others in the batch. The table: the accuracy on drawers 16-20.

    python examples/distillation_ml_cpc.py [SEEDS]    # About a minute a seed on two CPU cores.

Of three seeds: the teacher .657; its student .437 by labels alone, .471 with InfoNCE, .471 with multi-label CPC and
.467 with its schedule of alpha: the teacher helps, and here each contrast as much as another.
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from jaxssl import augment, data, losses, recipes

TEACHER, STUDENT = 32, 8  # Widths.
STEPS, BATCH = 400, 128
TEMPERATURE, WEIGHT = 0.1, 1.0  # Of the contrast; its weight beside the cross-entropy.
ALPHA = functools.partial(losses.geometric_alpha, steps=STEPS, high=10.0, low=0.1)  # The authors' schedule.
CONTRASTS = {
    'labels alone': None,
    'and InfoNCE': lambda student, teacher, step: losses.info_nce(student, teacher, temperature=TEMPERATURE),
    'and multi-label CPC': lambda student, teacher, step: losses.multi_label_info_nce(
        student, teacher, temperature=TEMPERATURE),
    'and multi-label CPC, alpha 10 to 0.1': lambda student, teacher, step: losses.multi_label_info_nce(
        student, teacher, temperature=TEMPERATURE, alpha=ALPHA(step)) / ALPHA(step),
}


class Classifier(nn.Module):
  """Images [b, 28, 28, 1] -> logits [b, classes] and the features under them [b, 64 * width]."""

  width: int
  classes: int

  @nn.compact
  def __call__(self, x):
    for scale in (1, 2, 4):
      x = nn.relu(nn.GroupNorm(num_groups=None, group_size=4)(nn.Conv(scale * self.width, (3, 3), strides=2)(x)))
    features = x.reshape(len(x), -1)
    return nn.Dense(self.classes)(features), features


class Pair(nn.Module):
  """A student beside the features of its teacher: -> logits, and the projections of both that are compared."""

  student: nn.Module

  @nn.compact
  def __call__(self, x, teacher_features):
    logits, features = self.student(x)
    return logits, nn.Dense(64)(features), nn.Dense(64)(teacher_features)


def load(split):
  """Returns a split's images, uint8 [n, 28, 28, 1], and their labels [n]."""
  source = data.load('bundled', 'omniglot', '', split, size=28)
  return jnp.asarray(np.stack([source.inputs[i] for i in range(len(source))])), jnp.asarray(source.labels)


def train(network, contrast, teach, images, labels, key, steps=STEPS):
  """Returns the parameters after `steps` of Adam: labels, and `contrast` with the features that `teach` gives."""
  views = augment.prepare(recipes.drawings(views=1), 'device')
  optimizer = optax.adam(optax.cosine_decay_schedule(3e-3, steps))
  first = jnp.zeros((1, 28, 28, 1))
  params = network.init(key, first, *([] if teach is None else [teach(first)]))

  @jax.jit
  def step(params, state, i):
    chosen, augmented = jax.random.split(jax.random.fold_in(key, i))
    index = jax.random.randint(chosen, (BATCH,), 0, len(images))
    (x,) = views({'inputs': images[index]}, augmented)['views']

    def loss(params):
      logits, *projections = network.apply(params, x, *([] if teach is None else [teach(x)]))
      total = jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels[index]))
      return total if contrast is None else total + WEIGHT * contrast(*projections, i)

    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state

  state = optimizer.init(params)
  for i in range(steps):
    params, state = step(params, state, i)
  return params


def accuracies(key, steps=STEPS):
  """Returns the accuracy on the test drawers of the teacher, and of a student with each contrast."""
  images, labels = load('train')
  test_images, test_labels = load('test')
  test = test_images / 255.0
  classes = int(labels.max()) + 1
  hits = lambda logits: float(jnp.mean(jnp.argmax(logits, axis=1) == test_labels))
  teacher, student = Classifier(TEACHER, classes), Classifier(STUDENT, classes)
  learnt = train(teacher, None, None, images, labels, jax.random.fold_in(key, 0), steps)
  teach = lambda x: jax.lax.stop_gradient(teacher.apply(learnt, x)[1])
  found = {'teacher': hits(teacher.apply(learnt, test)[0])}
  for name, contrast in CONTRASTS.items():
    network = Pair(student)
    params = train(network, contrast, teach, images, labels, jax.random.fold_in(key, 1), steps)
    found[name] = hits(network.apply(params, test, teach(test))[0])
  return found


if __name__ == '__main__':
  seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 1
  runs = [accuracies(jax.random.key(seed)) for seed in range(seeds)]
  for name in runs[0]:
    values = [run[name] for run in runs]
    print(f'{name:40} {np.mean(values):.3f}', f'({min(values):.3f} to {max(values):.3f})' if seeds > 1 else '')
