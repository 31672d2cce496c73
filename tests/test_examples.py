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
