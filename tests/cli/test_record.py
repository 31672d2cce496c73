"""The recorder: a collapse is told once it has lasted, and again when it is over."""

import time

import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.cli.record import PATIENCE, Recorder, Timed, check_finite
from jaxssl.core import State


class Spy:
  def __init__(self):
    self.records, self.said, self.shown = [], [], []

  def write(self, step, record):
    self.records.append((step, record))

  def update(self, step, record):
    self.shown.append((step, record))

  def say(self, message):
    self.said.append(message)


def panel(std):
  return {'embedding_std': std, 'effective_rank': 20.0, 'rank_fraction': 0.5, 'alignment': 0.1, 'uniformity': -2.0}


def test_collapse_is_told_once_it_lasts_and_when_it_is_over():
  spy = Spy()
  health = iter([0.9, *[0.01] * (PATIENCE + 2), 0.9, *[0.01] * (PATIENCE - 1), 0.9])
  recorder = Recorder(spy, spy, Timed([]), 4, {'learning_rate': lambda step: 0.5},
                      lambda state, batch, i: panel(next(health)))
  state = State(jnp.int32(1), jnp.int32(-1), {}, {}, ())
  for step in range(1, 2 * PATIENCE + 4):
    for loss in (1.0, 3.0):
      recorder.add({'loss': jnp.float32(loss)})
    recorder.write(step, state, None)
  assert [message.split(':')[0] for message in spy.said] == [f'step {PATIENCE + 1}', f'step {PATIENCE + 4}']
  assert 'nearly the same embedding' in spy.said[0] and 'recovered' in spy.said[1]
  assert all(np.isclose(record['loss'], 2.0) and record['learning_rate'] == 0.5 for _, record in spy.records)


def test_online_evaluation_stands_in_its_row_stays_on_show_and_costs_no_speed():
  spy = Spy()

  def online(step, state):
    time.sleep(0.5)
    return {'online_knn_accuracy': step / 10} if step == 2 else {}

  recorder = Recorder(spy, spy, Timed([]), 100, {}, None, online)
  state = State(jnp.int32(1), jnp.int32(-1), {}, {}, ())
  for step in (1, 2, 3):
    recorder.add({'loss': jnp.float32(1)})
    recorder.write(step, state, None)
  assert [record.get('online_knn_accuracy') for _, record in spy.records] == [None, 0.2, None]
  assert [record.get('online_knn_accuracy') for _, record in spy.shown] == [None, 0.2, 0.2]
  assert all(record['images_per_second'] > 400 for _, record in spy.records)  # 200 with the sleep.


def test_of_several_losses_the_one_that_was_not_finite_is_named():
  rows = [{'loss': 1.0, 'gradient_norm': 2.0, 'generator_loss': 3.0},
          {'loss': 1.5, 'gradient_norm': 2.5, 'generator_loss': np.inf, 'generator_gradient_norm': np.nan}]
  state = State(jnp.int32(1), jnp.int32(1), {}, {}, ())
  message = ('not finite at step 2: loss = 1.5, gradient norm = 2.5, generator loss = inf, '
             'generator gradient norm = nan$')
  with pytest.raises(FloatingPointError, match=message):
    check_finite(2, state, rows)
  with pytest.raises(FloatingPointError, match='step 1: in an earlier update of the step than that with loss = 1.0'):
    check_finite(1, state._replace(failed_step=jnp.int32(0)), rows[:1])
  check_finite(2, state._replace(failed_step=jnp.int32(-1)), rows)
