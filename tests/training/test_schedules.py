"""Learning-rate schedules against SimCLR's formulas."""

import math

import numpy as np
import pytest

from jaxssl.training import schedules

CONTEXT = {'batch_size': 512, 'steps': 1000, 'steps_per_epoch': 20}


def reference(step, highest, warmup, steps, final=0.0):
  if step < warmup:
    return highest * step / warmup
  cosine = (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2
  return highest * (final + (1 - final) * cosine)


@pytest.mark.parametrize('scaling, highest', [('linear', 0.6), ('sqrt', 0.3 * 512 ** 0.5), ('none', 0.3)])
@pytest.mark.parametrize('warmup_epochs, warmup', [(10, 200), (0, 0), (2.5, 50), (100, 500)])
@pytest.mark.parametrize('final', [0.0, 0.01])
def test_warmup_cosine(scaling, highest, warmup_epochs, warmup, final):
  schedule = schedules.warmup_cosine(0.3, **CONTEXT, scaling=scaling, warmup_epochs=warmup_epochs, final=final)
  for step in (0, 1, 49, 50, 51, 199, 200, 201, 500, 777, 999, 1000):
    np.testing.assert_allclose(schedule(step), reference(step, highest, warmup, 1000, final), rtol=2e-5, atol=1e-7)


def test_step_decay():
  schedule = schedules.step_decay(0.03, **CONTEXT, milestones=(0.5, 0.75))
  for step, factor in ((0, 1), (499, 1), (500, 0.1), (749, 0.1), (750, 0.01), (1000, 0.01)):
    np.testing.assert_allclose(schedule(step), 0.03 * factor, rtol=1e-5)
  assert float(schedules.step_decay(0.03, **CONTEXT, scaling='linear')(0)) == pytest.approx(0.06)
  with pytest.raises(ValueError, match=r'milestones must be shares of the run, in \(0, 1\): got \(120,\)'):
    schedules.step_decay(0.03, **CONTEXT, milestones=(120,))


@pytest.mark.parametrize('warmup_epochs, warmup', [(10, 200), (0, 0), (100, 500)])
def test_linear_warmup_stays_where_it_arrives(warmup_epochs, warmup):
  schedule = schedules.linear_warmup(4.0, **CONTEXT, warmup_epochs=warmup_epochs)
  for step in (0, 1, 100, 200, 499, 500, 1000):
    np.testing.assert_allclose(schedule(step), 4.0 * min(1, step / warmup if warmup else 1), rtol=2e-5)
  with pytest.raises(ValueError, match='warmup_epochs must be finite and not negative: got -1'):
    schedules.linear_warmup(4.0, **CONTEXT, warmup_epochs=-1)


def test_the_two_rules_of_simclr_meet_at_4096():
  assert schedules.peak(0.3, 4096, 'linear') == pytest.approx(4.8)
  assert schedules.peak(0.075, 4096, 'sqrt') == pytest.approx(4.8)


def test_constant():
  schedule = schedules.constant(0.1, **CONTEXT)
  assert schedule(0) == schedule(999) == 0.1
  assert schedules.constant(0.1, **CONTEXT, scaling='linear')(5) == pytest.approx(0.2)


def test_the_shortest_run_still_moves():
  schedule = schedules.warmup_cosine(1.0, batch_size=256, steps=1, steps_per_epoch=20)
  assert schedule(0) == 1.0


@pytest.mark.parametrize('name', ['constant', 'step_decay', 'warmup_cosine', 'linear_warmup'])
@pytest.mark.parametrize('base', [-1.0, float('nan'), float('inf')])
def test_every_base_is_finite_and_not_negative(name, base):
  with pytest.raises(ValueError, match=f'base must be finite and not negative: got {base}'):
    getattr(schedules, name)(base, **CONTEXT)


def test_factor_is_not_negative():
  with pytest.raises(ValueError, match='factor must be finite and not negative: got -0.1'):
    schedules.step_decay(1.0, **CONTEXT, factor=-0.1)


@pytest.mark.parametrize('change, message', [
    ({'scaling': 'square'}, "scaling must be 'linear', 'sqrt' or 'none': got 'square'"),
    ({'steps': 0}, 'steps must be positive: got 0'),
    ({'warmup_epochs': float('inf')}, 'warmup_epochs must be finite'),
    ({'warmup_epochs': -1}, 'warmup_epochs must be finite and not negative: got -1'),
    ({'final': float('nan')}, 'final must be finite and not negative: got nan'),
])
def test_errors(change, message):
  with pytest.raises(ValueError, match=message):
    schedules.warmup_cosine(0.3, **{**CONTEXT, **change})


def test_linear_stays_where_it_arrives():
  schedule = schedules.linear(0.04, 0.07, **CONTEXT, epochs=30)  # 600 steps.
  np.testing.assert_allclose([schedule(step) for step in (0, 300, 600, 1000)], [0.04, 0.055, 0.07, 0.07], rtol=1e-5)
  whole = schedules.linear(1.0, 0.0, **CONTEXT)
  np.testing.assert_allclose([whole(step) for step in (0, 250, 1000)], [1, 0.75, 0], atol=1e-6)
  assert schedules.linear(1.0, 0.5, **CONTEXT, epochs=0)(0) == 0.5
  with pytest.raises(ValueError, match='end must be finite and not negative: got -1'):
    schedules.linear(1.0, -1.0, **CONTEXT)


@pytest.mark.parametrize('base', [0.996, 0.99])
def test_cosine_is_the_momentum_of_byol(base):
  schedule = schedules.cosine(base, 1.0, **CONTEXT)
  for step in (0, 1, 250, 500, 999, 1000):
    paper = 1 - (1 - base) * (math.cos(math.pi * step / 1000) + 1) / 2
    np.testing.assert_allclose(schedule(step), paper, rtol=1e-6)
  assert schedule(2000) == 1
