"""What the scripts in examples/ claim."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np

from jaxssl import losses

EXAMPLES = pathlib.Path(__file__).parents[1] / 'examples'


def load(name):
  spec = importlib.util.spec_from_file_location(name, EXAMPLES / f'{name}.py')
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


def test_info_nce_recovers_the_log_ratios_of_a_markov_chain():
  chain = load('cpc_markov_chain')
  untrained, params = (jax.jit(chain.train, static_argnums=1)(jax.random.key(1), steps) for steps in (1, 1000))
  states = chain.sample_chains(jax.random.key(2), chains=512)
  _, bound = losses.cpc_accuracy_and_bound(*chain.embed(params, states), negatives='others')
  for k in (1, 2):
    assert chain.correlation(params, k) >= 0.98 and chain.correlation(untrained, k) < 0.6
    stationary = np.linalg.matrix_power(chain.TRANSITION, 200)[:1]
    joint = stationary.T * np.linalg.matrix_power(chain.TRANSITION, k)
    np.testing.assert_allclose(bound[k - 1], jnp.sum(joint * chain.log_ratio(k)), atol=0.03)  # Mutual information.


def test_a_student_learns_to_tell_its_teachers_features_apart():
  """A short run, of a teacher that has learnt nothing."""
  example = load('distillation_ml_cpc')
  images, labels = example.load('train')
  images, labels = images[labels < 20], labels[labels < 20]
  teacher = example.Classifier(8, 20)
  weights = teacher.init(jax.random.key(0), jnp.zeros((1, 28, 28, 1)))
  teach = lambda x: teacher.apply(weights, x)[1]
  network = example.Pair(example.Classifier(4, 20))
  contrast = example.CONTRASTS['and multi-label CPC, alpha 10 to 0.1']
  params = example.train(network, contrast, teach, images, labels, jax.random.key(1), steps=60)
  x = images[::5] / 255.0
  logits, *projections = network.apply(params, x, teach(x))
  assert losses.info_nce(*projections) < 0.5 * np.log(len(x))
  assert jnp.mean(jnp.argmax(logits, axis=1) == labels[::5]) > 0.2  # Chance: 0.05.
