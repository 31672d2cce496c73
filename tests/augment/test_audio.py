"""Audio operations against NumPy and closed forms; whole recipes: one device equals eight, masks are right."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import augment, recipes
from jaxssl.augment import audio, audio_engine

RATE = 8000
RNG = np.random.default_rng(0)
KEYS = jax.random.split(jax.random.key(0), 4000)
FULL = recipes.Audio(
  RATE, 1000, views=2, tempo=0.1, speed=0.1, noise=0.5, time_mask=0.5, gain=(-6, 6), polarity=0.5)


def sine(frequency, samples, rate=RATE):
  return np.sin(2 * np.pi * frequency * np.arange(samples) / rate)


def frequency(wave):
  """Hz of the strongest sine in a waveform, to a fraction of a bin."""
  size = np.abs(np.fft.rfft(wave * np.hanning(len(wave)), 8 * len(wave)))
  return size.argmax() * RATE / (8 * len(wave))


def test_gain_is_in_decibels():
  wave = RNG.normal(size=100)
  np.testing.assert_allclose(audio.gain(jnp.asarray(wave), 20.0), 10 * wave, rtol=1e-5)
  np.testing.assert_allclose(audio.gain(jnp.asarray(wave), -6.0206), wave / 2, rtol=1e-4)


@pytest.mark.parametrize('snr', [-5.0, 0.0, 20.0])
def test_noise_has_its_signal_to_noise_ratio(snr):
  wave = jnp.asarray(np.where(np.arange(20000) < 15000, sine(300, 20000), 7.0), jnp.float32)
  mask = jnp.arange(20000) < 15000
  noise = np.asarray(audio.add_noise(jax.random.key(1), wave, snr, mask) - wave)
  assert not noise[15000:].any()
  assert 10 * np.log10(0.5 / np.mean(noise[:15000] ** 2)) == pytest.approx(snr, abs=0.15)
  assert np.abs(np.corrcoef(noise[:14999], noise[1:15000])[0, 1]) < 0.04  # White.


def test_noise_leaves_silence_silent():
  assert not audio.add_noise(jax.random.key(0), jnp.zeros(100), 10.0).any()
  assert not audio.add_noise(jax.random.key(0), jnp.zeros(100), 10.0, jnp.zeros(100, bool)).any()


def test_mask_time_silences_a_span():
  wave = np.arange(1.0, 11.0)
  assert audio.mask_time(jnp.asarray(wave), 3, 4).tolist() == [1, 2, 3, 0, 0, 0, 0, 8, 9, 10]
  np.testing.assert_array_equal(audio.mask_time(jnp.asarray(wave), 3, 0), wave)


@pytest.mark.parametrize('factor', [0.8, 1.0, 1.25])
def test_speed_changes_time_and_pitch_alike(factor):
  wave = jnp.asarray(sine(700, 6000), jnp.float32)
  changed = np.asarray(audio.change_speed(wave, factor, 4500))
  np.testing.assert_allclose(changed[20:-20], sine(700 * factor, 4500)[20:-20], atol=2e-3)


def test_speed_lets_nothing_alias_and_ends_in_zeros():
  high = jnp.asarray(sine(3700, 6000), jnp.float32)  # Twice as fast, it would be at 7,400 Hz, heard as 600 Hz.
  assert np.abs(audio.change_speed(high, 2.0, 2900)[20:]).max() < 0.03
  assert not audio.change_speed(jnp.ones(100), 1.0, 200)[110:].any()


@pytest.mark.parametrize('factor', [0.8, 1.0, 1.25])
def test_tempo_changes_time_and_keeps_the_pitch(factor):
  # 500 Hz, then from sample 4,000 on 1,100 Hz.
  wave = jnp.asarray(np.concatenate([sine(500, 4000), sine(1100, 4000)]), jnp.float32)
  length = round(8000 / factor)
  changed = np.asarray(audio.change_tempo(wave, factor, length, 256))
  change = round(4000 / factor)
  assert frequency(changed[300 : change - 300]) == pytest.approx(500, abs=2)
  assert frequency(changed[change + 300 : -300]) == pytest.approx(1100, abs=2)
  # The place of the change: the crossing of the two frequencies' energies, within half a frame.
  low, high = (np.abs(np.convolve(changed * np.exp(2j * np.pi * f * np.arange(length) / RATE), np.ones(160), 'same'))
               for f in (500, 1100))
  assert abs(np.argmax(high[200:-200] > low[200:-200]) + 200 - change) < 128
  assert changed[300 : change - 300].std() == pytest.approx(np.sqrt(0.5), rel=0.05)


def test_tempo_one_is_the_identity_and_zeros_follow():
  wave = RNG.normal(size=3000).astype(np.float32)
  np.testing.assert_allclose(audio.change_tempo(jnp.asarray(wave), 1.0, 3000, 256), wave, atol=2e-4)
  longer = np.asarray(audio.change_tempo(jnp.asarray(wave), 1.0, 4000, 256))
  np.testing.assert_allclose(longer[3000:], 0, atol=2e-4)


def test_tempo_is_a_phase_vocoder():
  """Frame by frame in NumPy: phases advance by what the input's do over the same hop."""
  wave, factor, length, frame = RNG.normal(size=1500), 1.2, 1000, 128
  hop, window = frame // 4, 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(frame) / frame)
  padded = np.pad(wave, (frame, 4 * frame))

  def spectrum(centre):
    return np.fft.rfft(window * padded[frame + centre - frame // 2 :][:frame])

  made, weight, phase = np.zeros(length + 3 * frame), np.zeros(length + 3 * frame), None
  for m in range(-(-length // hop) + 3):
    centre = int(np.round(np.float32(m) * np.float32(hop * np.float32(factor))))
    now = spectrum(centre)
    phase = np.angle(now) if m == 0 else phase + np.angle(now) - np.angle(spectrum(centre - hop))
    part = slice(m * hop, m * hop + frame)
    made[part] += window * np.fft.irfft(np.abs(now) * np.exp(1j * phase))
    weight[part] += window**2
  expected = made[frame // 2 :][:length] / weight[frame // 2 :][:length]
  np.testing.assert_allclose(
    audio.change_tempo(jnp.asarray(wave, jnp.float32), factor, length, frame), expected, atol=2e-3)


def test_tempo_wants_frames_of_four_hops():
  with pytest.raises(ValueError, match='frame must be a positive multiple of 4, got 30'):
    audio.change_tempo(jnp.zeros(100), 1.0, 100, 30)


# Random ones.


def test_random_gain_is_uniform_in_decibels():
  ones = jax.vmap(lambda key: audio.random_gain(key, jnp.ones(1), (-10.0, 4.0))[0])(KEYS)
  decibels = 20 * np.log10(np.asarray(ones))
  assert -10 <= decibels.min() < -9.9 and 3.9 < decibels.max() <= 4
  assert decibels.mean() == pytest.approx(-3, abs=0.3) and decibels.std() == pytest.approx(14 / np.sqrt(12), rel=0.05)


def test_random_polarity_flips_its_share():
  signs = jax.vmap(lambda key: audio.random_polarity(key, jnp.ones(1), 0.3)[0])(KEYS)
  assert set(np.unique(signs)) == {-1, 1} and np.mean(np.asarray(signs) < 0) == pytest.approx(0.3, abs=0.04)


def test_random_noise_has_its_probability_and_range():
  wave = jnp.asarray(sine(300, 2000), jnp.float32)
  noise = jax.vmap(lambda key: audio.random_noise(key, wave, (5.0, 15.0), 0.25) - wave)(KEYS[:1000])
  power = np.mean(np.asarray(noise) ** 2, axis=1)
  assert np.mean(power > 0) == pytest.approx(0.25, abs=0.07)
  snr = 10 * np.log10(0.5 / power[power > 0])
  assert 4.5 < snr.min() < 6 and 14 < snr.max() < 15.5 and snr.mean() == pytest.approx(10, abs=0.9)


def test_random_time_mask_has_its_width_and_place():
  masked = jax.vmap(lambda key: audio.random_time_mask(key, jnp.ones(200), 0.2, 1, 1.0))(KEYS)
  silent = np.asarray(masked) == 0
  widths = silent.sum(1)
  assert widths.min() == 0 and widths.max() == 40 and widths.mean() == pytest.approx(20, abs=1)
  edges = np.diff(silent.astype(int), axis=1, prepend=0, append=0)
  assert ((edges == 1).sum(1) <= 1).all() and silent[:, 0].any() and silent[:, -1].any()
  none = jax.vmap(lambda key: audio.random_time_mask(key, jnp.ones(200), 0.2, 1, 0.0))(KEYS[:50])
  assert np.asarray(none).all()
  two = jax.vmap(lambda key: audio.random_time_mask(key, jnp.ones(200), 0.2, 2, 1.0))(KEYS)
  assert (np.diff((np.asarray(two) == 0).astype(int), axis=1, prepend=0) == 1).sum(1).max() == 2


def test_random_factor_is_uniform_in_the_log():
  logs = np.log(np.asarray(jax.vmap(lambda key: audio.random_factor(key, 0.2))(KEYS)))
  assert -0.2 <= logs.min() < -0.19 and 0.19 < logs.max() <= 0.2 and abs(logs.mean()) < 0.01


# Whole recipes.


def batch(recipe, lengths=(99999,) * 8, dtype=np.int16):
  rng, span = np.random.default_rng(1), recipe.span
  mask = np.arange(span) < np.asarray(lengths)[:, None]
  waves = np.where(mask, rng.integers(-20000, 20000, (len(lengths), span)), 0).astype(np.int16)
  return {'inputs': waves if dtype == np.int16 else (waves / 32768).astype(dtype), 'mask': mask, 'index': np.arange(8)}


@pytest.fixture(scope='module')
def prepare():
  return jax.jit(augment.prepare(FULL))


def test_prepare_gives_views_inputs_and_mask(prepare):
  given = batch(FULL)
  made = prepare(given, jax.random.key(0))
  assert FULL.span > FULL.window and len(made['views']) == 2
  for array in (*made['views'], made['inputs']):
    assert array.shape == (8, 1000) and array.dtype == jnp.float32 and jnp.isfinite(array).all()
  np.testing.assert_array_equal(made['inputs'], given['inputs'][:, :1000] / np.float32(32768))
  assert made['mask'].shape == (8, 1000) and made['mask'].dtype == bool and made['mask'].all()
  np.testing.assert_array_equal(made['index'], np.arange(8))


def test_int16_and_float_are_the_same(prepare):
  one, other = (prepare(batch(FULL, dtype=dtype), jax.random.key(0)) for dtype in (np.int16, np.float32))
  jax.tree.map(np.testing.assert_array_equal, one, other)


def test_without_changes_views_are_the_inputs():
  recipe = recipes.speech(RATE, 1000, strength=0)
  given = batch(recipe, (50, 0, 1000, 2000, 7, 8, 9, 999))
  made = augment.prepare(recipe)(given, jax.random.key(0))
  assert recipe.span == 1000
  np.testing.assert_array_equal(made['views'][0], made['inputs'])
  np.testing.assert_array_equal(made['mask'], given['mask'])


def test_the_mask_is_real_in_every_view(prepare):
  lengths = np.array([300, 500, 900, 1100, 1, 0, 99999, 700])
  made = prepare(batch(FULL, lengths), jax.random.key(2))
  real = np.asarray(made['mask']).sum(1)
  np.testing.assert_array_equal(made['mask'], np.arange(1000) < real[:, None])  # Real samples come first.
  assert (real <= np.minimum(lengths, 1000)).all() and (real >= np.floor(np.minimum(lengths, 1000) / np.exp(0.2))).all()
  assert real[6] == 1000 and real[5] == 0 and (real[[0, 1, 2, 7]] < lengths[[0, 1, 2, 7]]).any()
  for view in made['views']:
    ends = [np.flatnonzero(wave).max(initial=-1) for wave in np.asarray(view)]
    assert all(end <= np.ceil(length * np.exp(0.2)) for end, length in zip(ends, lengths, strict=True))


def test_a_faster_view_ends_where_its_clip_does():
  recipe = recipes.Audio(RATE, 1000, speed=0.3)
  keys = jax.random.split(jax.random.key(0), 50)
  mask = jnp.arange(recipe.span) < 600
  wave = jnp.where(mask, 1.0, 0.0)
  _, real = jax.vmap(lambda key: audio_engine.view(key, wave, mask, recipe))(keys)
  factors = [audio.random_factor(jax.random.split(key, 6)[1], 0.3) for key in keys]
  np.testing.assert_allclose(np.asarray(real).sum(1), np.minimum(np.ceil(600 / np.array(factors)), 1000), atol=1)


def test_views_depend_on_the_key_alone_and_differ(prepare):
  given = batch(FULL)
  given['inputs'][:] = given['inputs'][:1]
  first, again, other = (np.concatenate(prepare(given, jax.random.key(seed))['views']) for seed in (0, 0, 1))
  np.testing.assert_array_equal(first, again)
  assert len(np.unique(np.concatenate([first, other]), axis=0)) == 32


@pytest.mark.parametrize('devices', [4, 8])
def test_a_split_batch_gives_the_same_views(prepare, devices):
  mesh = jax.make_mesh((devices,), ('data',), (jax.sharding.AxisType.Auto,), devices=jax.devices()[:devices])
  sharding = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec('data'))
  given = batch(FULL, (300, 500, 900, 1100, 1, 0, 99999, 700))
  key = jax.device_put(jax.random.key(0), jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec()))
  made = jax.jit(augment.prepare(FULL), out_shardings=sharding)(jax.device_put(given, sharding), key)
  for one, other in zip(jax.tree.leaves(made), jax.tree.leaves(prepare(given, jax.random.key(0))), strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_wrong_arguments():
  with pytest.raises(ValueError, match="engine must be 'device' for audio, got 'host'"):
    augment.prepare(FULL, 'host')
  given = batch(dataclasses.replace(FULL, tempo=0.0))
  with pytest.raises(ValueError, match=rf'must be \[b, {FULL.span}\], as the recipe says, got inputs \[8, 1106\]'):
    augment.prepare(FULL)(given, jax.random.key(0))
