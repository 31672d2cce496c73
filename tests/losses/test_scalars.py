"""Scalar arguments of all losses: one rule, whichever the loss."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import losses
from jaxssl.losses import mutual_information

BFLOAT16 = np.dtype(jnp.bfloat16).type
Z = jax.random.normal(jax.random.key(0), (4, 3))
ARRAYS = dict.fromkeys((
    'z1', 'z2', 'a', 'b', 'z', 'z_e', 'query', 'key', 'others', 'target', 'prediction', 'scores', 'targets', 'codes',
    'activations', 'mean', 'logits', 'negatives', 'patches', 'reconstruction'), Z)
VECTORS = dict.fromkeys(('log_likelihood', 'kl', 'positive', 'counts', 'log_weights'), Z[:, 0])
GIVEN = {'normalizer': 1.0, 'num_examples': 8, 'step': 1, 'steps': 4, 'k': 1, 'count': 2, 'size': 2,
         'labels': jnp.arange(4), 'positives': jnp.eye(4, dtype=bool), 'log_baseline': 0.0, 'moving_average': 0.0,
         'alpha': 0.5, 'clip': 1.0}
OWN = {
    'random_directions': {'key': jax.random.key(0)},
    'cpc_info_nce': {'predictions': Z.reshape(2, 2, 1, 3), 'z': Z.reshape(2, 2, 3)},
    'cpc_accuracy_and_bound': {'predictions': Z.reshape(2, 2, 1, 3), 'z': Z.reshape(2, 2, 3)}}
SQUARE = {'scores': jnp.eye(4)}
STATIC = ('num_negatives', 'chunk', 'sigma', 'margin')  # Numbers that may be None; `axis_name` and the like are not.
ARRAY_TOO = ('log_variance', 'log_baseline')


def scalar_arguments():
  """Yields (function, its other arguments, the name of a scalar argument)."""
  bounds = {name: getattr(mutual_information, name) for name in ('alpha_cpc', 'ml_cpc', 'smile', 'alpha_tuba', 'mine')}
  for name, function in [(each, getattr(losses, each)) for each in losses.__all__] + list(bounds.items()):
    if not inspect.isfunction(function) or name == 'in_groups':
      continue
    given = GIVEN | ARRAYS | VECTORS | OWN.get(name, {}) | (SQUARE if name in bounds else {})
    values = {}  # Of all arguments, by default those that have one.
    for parameter in inspect.signature(function).parameters.values():
      values[parameter.name] = given.get(parameter.name) if parameter.default is parameter.empty else parameter.default
    for each, value in values.items():
      is_number = isinstance(value, int | float) and not isinstance(value, bool)
      if (is_number and each not in ARRAY_TOO) or each in STATIC:
        yield pytest.param(function, values, each, id=f'{name}-{each}')


CASES = list(scalar_arguments())


@pytest.mark.parametrize('function, name', [
    (losses.info_nce, 'normalize'), (losses.multi_label_info_nce, 'normalize'), (losses.whitened_mse, 'normalize'),
    (losses.margin_triplet, 'semi_hard'), (losses.adversarial.jensen_shannon, 'saturating')])
def test_what_is_true_or_false_is_no_text(function, name):
  needed = {'alpha': 0.5} if function is losses.multi_label_info_nce else {}
  z = Z[:, 0] if function is losses.adversarial.jensen_shannon else Z
  for value in ('no', 2, None, jnp.array(True)):
    with pytest.raises(ValueError, match=f'^{name} must be True or False, got '):
      function(z, z, **needed, **{name: value})


def test_of_every_kind_some_are_tried():
  tried = {case.values[2] for case in CASES}
  assert tried >= {'temperature', 'epsilon', 'weight', 'margin', 'alpha', 'num_negatives', 'iterations', 'clip', 'bias'}
  assert len(CASES) > 50


@pytest.mark.parametrize('function, arguments, name', CASES)
def test_what_is_no_finite_number_is_refused_by_name(function, arguments, name):
  for value in (float('nan'), BFLOAT16('nan'), 'text', True, 1j, [1.0], jax.random.key(0), -10**400):
    with pytest.raises(ValueError, match=f'^{name} must '):
      function(**{**arguments, name: value})


@pytest.mark.parametrize(
    'function, arguments, name', [case for case in CASES if case.values[2].endswith('temperature')])
def test_nothing_is_divided_by_a_temperature_of_0(function, arguments, name):
  for zero in (0, 1e-60, 1e-40, BFLOAT16(0)):  # In float32.
    with pytest.raises(ValueError, match=f'^{name} must be finite and not 0, got {zero}$'):
      function(**{**arguments, name: zero})


@pytest.mark.parametrize('function, arguments, name', [case for case in CASES if case.values[2] == 'epsilon'])
def test_no_epsilon_is_negative(function, arguments, name):
  with pytest.raises(ValueError, match='^epsilon must be .*, got -1$'):
    function(**{**arguments, name: -1})
