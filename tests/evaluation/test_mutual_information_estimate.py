"""Estimates for arrays: where the truth is known, near a ceiling, and of all that may be wrong with the input."""

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxssl import losses, models
from jaxssl.evaluation import mutual_information as mi
from jaxssl.evaluation import plots_mutual_information as plots

NAMES = ('info_nce', 'ml_cpc', 'nwj', 'smile', 'mine', 'tuba')
SMALL = models.SeparableCritic(features=(32,), embedding=8)


def pairs(n, rho, dimensions=2, seed=0):
  rng = np.random.default_rng(seed)
  x, noise = rng.normal(size=(2, n, dimensions))
  return x, rho * x + math.sqrt(1 - rho**2) * noise


quick = functools.partial(mi.estimate, critic=SMALL, steps=60, learning_rate=3e-3)


@functools.cache
def of_gaussians():
  """One estimator of each kind on Gaussians of 1.66 nats."""
  return {e.estimator.partition(':')[0]: e for e in quick(*pairs(4000, 0.9), estimators=NAMES, steps=300)}


@pytest.mark.parametrize('name', NAMES)
def test_near_the_truth(name):
  truth, each = -math.log(1 - 0.9**2), of_gaussians()[name]
  assert 0 < each.error < 0.2 and each.batch_size == 128
  assert truth - 0.35 < each.nats < truth + 0.15
  assert each.steps[-1] == 300 and len(each.curve) == len(each.curve_error) == len(each.steps) == mi.EVALUATIONS
  chosen = list(each.steps).index(each.best_step)
  if name != 'smile':  # Whose critic is chosen by what it is trained by.
    assert chosen == np.argmax(each.curve)


def test_independent_arrays_share_nothing():
  (x, _), (_, y) = pairs(3000, 0.9), pairs(3000, 0.9, seed=1)
  each, = quick(x, y, estimators=('info_nce',))
  assert abs(each.nats) < 0.05 + 4 * each.error


def test_the_ceiling_is_told():
  x = np.random.default_rng(0).normal(size=(800, 3))
  each, = quick(x, x, estimators=('info_nce',), steps=200, batch_size=16)
  assert each.ceiling == pytest.approx(math.log(16)) and 0.9 * each.ceiling < each.nats <= each.ceiling
  assert each.note == ('cannot exceed log n = 2.77 nats at a batch of 16: use a larger batch, ml_cpc with a smaller '
                       'alpha or smile.')


def test_notes():
  note = lambda text, nats, n=16: mi._note(mi.Estimator.parse(text), nats, n)
  assert note('info_nce', 1.0) == note('nwj', 9.0) == note('ml_cpc', 3.0) == ''
  assert note('alpha_cpc:0.1', 1.0) == 'no lower bound, may exceed the truth.'
  assert 'log(n / alpha) = 5.08 nats' in note('alpha_cpc:0.1', 5.0)
  assert 'log(n / alpha) = 5.48 nats at a batch of 16: use a larger batch or smile.' in note('ml_cpc', 5.4)
  assert '1 + log((n - 1) / alpha) = 4.40 nats' in note('alpha_tuba:0.5', 4.3)
  assert 'not finite' in note('nwj', math.nan)


def test_any_shape_and_type():
  x, y = pairs(500, 0.95, dimensions=4)
  plain = quick(x, y, estimators=('info_nce',))[0]
  assert quick(1e6 + 1e3 * x.reshape(500, 2, 2), y - 7, estimators=('info_nce',))[0].nats == pytest.approx(
      plain.nats, abs=1e-3)
  flat = quick(x[:, 0], (100 * y[:, 0]).astype(np.int16), estimators=('info_nce',))[0]
  column = quick(x[:, :1], np.trunc(100 * y[:, :1]), estimators=('info_nce',))[0]
  assert flat.nats == pytest.approx(column.nats, abs=1e-3)
  assert quick(x[:, 0] > 0, jnp.asarray(y[:, 0], jnp.bfloat16), estimators=('info_nce',))[0].nats > 0.1


def test_standardised_by_the_training_part():
  array = np.concatenate([np.random.default_rng(0).normal(5, 3, size=(50, 2)), np.full((50, 1), 0.1)], axis=1)
  train = np.arange(30)
  found = mi._standardised(array, train)
  np.testing.assert_allclose(found[train].mean(axis=0), 0, atol=1e-5)
  np.testing.assert_allclose(found[train].std(axis=0), [1, 1, 0], atol=1e-5)
  changed = array.copy()
  changed[40:] *= 100
  np.testing.assert_array_equal(mi._standardised(changed, train)[train], found[train])


@pytest.mark.parametrize('n, batch_size', [(40, None), (97, None), (613, 50)])
def test_parts_share_no_pair(n, batch_size):
  rng = np.random.default_rng(0)
  parts, size = mi._split(n, 0.2, batch_size, rng)
  assert sorted(np.concatenate(parts)) == list(range(n)) and size == (batch_size or max(8, n // 5 // 4))
  for part in parts:
    batches = mi._batches(part, size, 7, rng)
    assert batches.shape == (7, size) and np.isin(batches, part).all()
    assert all(len(set(batch)) == size for batch in batches)


def test_few_pairs_and_steps():
  x, y = pairs(40, 0.9)
  each, = quick(x, y, estimators=('info_nce',), steps=3)
  assert each.batch_size == 8 and list(each.steps) == [1, 2, 3] and math.isnan(each.error)
  assert mi.rows([each])[0]['error'] is None and '±' not in mi.format([each])


def test_a_training_that_breaks_down_is_told():
  x, y = pairs(100, 0.9)
  each, = quick(x, y, estimators=('nwj',), steps=5, learning_rate=1e20)
  assert math.isnan(each.nats) and math.isnan(each.error) and each.best_step == 0 and 'broke down' in each.note


def test_same_seed_same_estimate():
  x, y = pairs(300, 0.9)
  first, again, other = (quick(x, y, estimators=('info_nce',), seed=seed)[0].nats for seed in (1, 1, 2))
  assert first == again != other


def test_one_hot():
  np.testing.assert_array_equal(mi.one_hot([7, 3, 7]), [[0, 1], [1, 0], [0, 1]])
  np.testing.assert_array_equal(mi.one_hot(np.array(['b', 'a', 'b'])), [[0, 1], [1, 0], [0, 1]])
  with pytest.raises(ValueError, match=r'labels must have shape \[n\], got \[2, 1\]'):
    mi.one_hot([[1], [2]])
  with pytest.raises(ValueError, match='3 different ones in 3 examples'):
    mi.one_hot([1, 2, 3])


def test_parsing():
  assert str(mi.Estimator.parse('smile')) == 'smile:5' and str(mi.Estimator.parse('smile:inf')) == 'smile:inf'
  assert mi.Estimator.parse('ml_cpc').value_at(4) == pytest.approx(4 / 13)
  bounds = {text: mi.Estimator.parse(text).is_bound(64) for text in (
      'info_nce', 'ml_cpc', 'ml_cpc:1', 'ml_cpc:0.01', 'alpha_cpc', 'alpha_cpc:1', 'dv', 'mine', 'nwj', 'js', 'smile')}
  assert [text for text, bound in bounds.items() if bound] == [
      'info_nce', 'ml_cpc', 'ml_cpc:1', 'alpha_cpc:1', 'nwj', 'js']  # 64 / (64 * 63 + 1) is 0.0159.
  assert {mi.Estimator.parse(text).ceiling(64) for text in ('dv', 'nwj', 'tuba', 'smile', 'js', 'mine')} == {math.inf}


def test_a_step_goes_up_the_estimate():
  x, y = (jnp.asarray(array, jnp.float32) for array in pairs(32, 0.9))
  for name in ('smile', 'alpha_tuba'):
    estimator, sgd = mi.Estimator.parse(name), optax.sgd(1e-2)
    fit = mi.init(jax.random.key(0), x, y, estimator, SMALL, sgd)
    advance = jax.jit(lambda fit, e=estimator, sgd=sgd: mi.step(fit, x, y, (e, mi.Estimator('info_nce')), SMALL, sgd))
    value = lambda fit, e=estimator: float(e.objective(*mi.scores(fit.params, x, y, SMALL), 0.0))
    new, estimates = advance(fit)
    assert value(new) > value(fit), name
    expected = losses.mutual_information.info_nce(SMALL.apply(fit.params['critic'], x, y))
    np.testing.assert_allclose(estimates[1], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize('change, message', [
    ({'y': np.zeros((99, 2))}, 'x and y must be pairs, of one length, got 100 and 99'),
    ({'x': np.where(np.arange(200).reshape(100, 2) == 7, np.nan, 0)},
     'x must be finite, got nan or infinity in 1 of 100 rows, the first of them row 3'),
    ({'x': np.full(100, 'a')}, 'x must hold real numbers, got <U1'),
    ({'y': np.ones(100, complex)}, 'y must hold real numbers, got complex128'),
    ({'x': np.zeros((100, 0))}, r'x must have shape \[n, ...\], none of it 0, got \[100, 0\]'),
    ({'x': 3.0}, r'x must have shape \[n, ...\], none of it 0, got \[\]'),
    ({'estimators': ('kl',)}, "estimators must be of info_nce, .*, got 'kl'"),
    ({'estimators': ('nwj:3',)}, "nwj has no parameter, got 'nwj:3'"),
    ({'estimators': ('smile:x',)}, "the parameter of smile must be positive, got 'smile:x'"),
    ({'estimators': ('alpha_tuba:2',)}, r"the parameter of alpha_tuba must be in \(0, 1\], got 'alpha_tuba:2'"),
    ({'estimators': ('ml_cpc:8',)}, 'the parameter of ml_cpc must lie below the batch size, 8, got ml_cpc:8'),
    ({'estimators': ()}, 'estimators must name at least one'),
    ({'critic': 'bilinear'}, "critic must be separable, concatenated or a module, got 'bilinear'"),
    ({'batch_size': 64}, 'too few pairs: batches of 64 with held_out=0.2 need at least 320, got 100'),
    ({'batch_size': 1}, 'batch_size must be at least 2, got 1'),
    ({'held_out': 0.5}, 'held_out must be above 0 and below 0.5, got 0.5'),
    ({'steps': 0}, 'steps and learning_rate must be positive, got 0')])
def test_wrong_arguments(change, message):
  x, y = pairs(100, 0.5)
  with pytest.raises(ValueError, match=message):
    mi.estimate(**{'x': x, 'y': y, 'batch_size': 8, **change})


def test_too_few_pairs():
  with pytest.raises(ValueError, match='too few pairs: batches of 8 with held_out=0.2 need at least 40, got 39'):
    mi.estimate(*pairs(39, 0.5))


def test_table_and_rows():
  found = [of_gaussians()[name] for name in ('info_nce', 'smile')]
  lines = mi.format(found).splitlines()
  assert lines[0].split() == ['estimator', 'nats', 'bits', 'ceiling,', 'nats', 'lower', 'bound']
  assert lines[2].split()[0] == 'info_nce' and lines[2].split()[-2:] == ['4.85', 'yes']
  assert lines[3].split()[-2:] == ['none', 'no'] and lines[4] == 'smile:5: no lower bound, may exceed the truth.'
  nats, _, error, bits = lines[2].split()[1:5]
  assert float(bits) == pytest.approx(float(nats) / math.log(2), abs=0.02) and float(error) > 0
  rows = json.loads(json.dumps(mi.rows(found), allow_nan=False))
  assert rows[0]['value'] == found[0].nats and rows[1]['ceiling'] is None and not rows[1]['is_bound']


def test_pictures(tmp_path):
  broken = of_gaussians()['nwj']._replace(curve=np.full(mi.EVALUATIONS, np.nan), nats=math.nan, error=math.nan)
  plots.held_out_curves([*of_gaussians().values(), broken], tmp_path / 'curves.png')
  curve = np.arange(50.0)
  plots.staircase({'info_nce': curve}, curve, tmp_path / 'staircase.png', ceilings={'info_nce': 4.0})
  assert all((tmp_path / name).stat().st_size > 5000 for name in ('curves.png', 'staircase.png'))


def test_moving_average():
  values = np.random.default_rng(0).normal(size=40)
  weights = (1 - 2 / 11) ** np.arange(40)[::-1]
  assert plots.moving_average(values, span=10)[-1] == pytest.approx(np.sum(weights * values) / np.sum(weights))


def test_offsets_and_scales_do_not_matter():
  from jaxssl.evaluation.mutual_information import _standardised
  z = np.random.default_rng(0).normal(size=(200, 1))
  train = np.arange(150)
  plain = _standardised(z, train)
  for moved in (z * 100 + 1.7e9, z * 1e300, z * 1e-200):
    np.testing.assert_allclose(_standardised(moved, train), plain, atol=1e-4)
  stamps = (z * 1e11 + 1.7e18).astype(np.int64)
  np.testing.assert_allclose(_standardised(stamps, train), plain, atol=1e-2)
  assert np.all(_standardised(np.full((200, 1), 0.1), train) == 0)
