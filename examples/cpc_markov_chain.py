"""What InfoNCE learns, where the answer is known: f_k = log p(x_{t+k} | x_t) - log p(x_{t+k}) + a constant of x_t.

Chains of six states; a free table of embeddings z and another of contexts c, a row a state, and a matrix W_k for each
distance k. CPC (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748, section 2.3) says what the scores become.

    python examples/cpc_markov_chain.py    # Seconds.
"""

import jax
import jax.numpy as jnp
import optax

from jaxssl import losses

STATES, K = 6, 2
TRANSITION = jax.nn.softmax(jax.random.normal(jax.random.key(0), (STATES, STATES)))


def sample_chains(key, chains=32, length=12, warmup=50):
  """Returns states [chains, length]; after the warm-up they are stationary."""
  def move(states, key):
    states = jax.random.categorical(key, jnp.log(TRANSITION)[states])
    return states, states

  return jax.lax.scan(move, jnp.zeros(chains, jnp.int32), jax.random.split(key, warmup + length))[1][warmup:].T


def embed(params, states):
  """Returns predictions [..., K, d] and z [..., d] of states [...]."""
  return jnp.einsum('kde,...e->...kd', params['W'], params['c'][states]), params['z'][states]


def train(key, steps=1000):
  """Returns the tables after so many steps of Adam, each on fresh chains."""
  c, z, *keys = jax.random.split(key, 2 + steps)
  params = {'c': jax.random.normal(c, (STATES, STATES)), 'z': jax.random.normal(z, (STATES, STATES)),
            'W': jnp.stack([jnp.eye(STATES)] * K)}
  optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))

  def step(carry, key):
    params, state = carry
    loss = lambda params: losses.cpc_info_nce(*embed(params, sample_chains(key)), negatives='others')
    updates, state = optimizer.update(jax.grad(loss)(params), state)
    return (optax.apply_updates(params, updates), state), None

  return jax.lax.scan(step, (params, optimizer.init(params)), jnp.stack(keys))[0][0]


def log_ratio(k):
  """Returns log p(x_{t+k} = j | x_t = i) - log p(x_{t+k} = j) as [i, j]."""
  return jnp.log(jnp.linalg.matrix_power(TRANSITION, k) / jnp.linalg.matrix_power(TRANSITION, 200)[:1])


def correlation(params, k):
  """Returns that of the learnt and the true log-ratios, after the mean of each context is taken off."""
  predictions, z = embed(params, jnp.arange(STATES))
  learnt, true = (x - jnp.mean(x, axis=1, keepdims=True) for x in (predictions[:, k - 1] @ z.T, log_ratio(k)))
  return jnp.corrcoef(learnt.ravel(), true.ravel())[0, 1]


if __name__ == '__main__':
  params = jax.jit(train)(jax.random.key(1))
  print('correlation of learnt and true log-ratios:', *(f'{correlation(params, k):.4f} at k = {k}' for k in (1, 2)))
