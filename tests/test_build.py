"""Configs become objects, and a wrong key gets a message that names it."""

import importlib.util
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl import augment, build, models, recipes

DEFAULT = pathlib.Path(__file__).parents[1] / 'configs' / 'default.py'


def load(path):
  spec = importlib.util.spec_from_file_location(path.stem, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module.get_config().to_dict()


def config(**changes):
  made = load(DEFAULT)
  for path, value in changes.items():
    *sections, key = path.split('__')
    section = made
    for name in sections:
      section = section[name]
    section[key] = value
  return made


def test_simclr_with_multi_label_cpc_and_its_schedule():
  schedule = {'name': 'geometric_alpha', 'high': 10.0, 'low': 0.1}
  made = config(method__objective='ml_cpc', method__alpha=schedule, steps=200)
  method = build.build(made, 1000).method
  assert method.objective == 'ml_cpc'
  np.testing.assert_allclose([method.alpha(step) for step in (0, 100, 200)], [10, 1, 0.1], rtol=1e-6)
  with pytest.raises(ValueError, match="config.method: objective must be one of 'nt_xent', .*'supervised', got 'cpc'"):
    build.build(config(method__objective='cpc'), 1000)


def test_names_become_things_with_their_arguments():
  experiment = build.build(config(
      method__encoder={'name': 'resnet50', 'stem': 'd', 'dtype': 'bfloat16'}, method__temperature=0.7,
      data__recipe={'name': 'multi_crop', 'size': 32, 'small_size': 16, 'small_views': 2}), 1000)
  assert experiment.method.encoder == models.resnet50(stem='d', dtype='bfloat16')
  assert experiment.method.temperature == 0.7
  assert [view.size for view in experiment.recipe.views] == [32, 32, 16, 16]
  batch = {'inputs': jax.ShapeDtypeStruct((4, 40, 40, 3), jnp.uint8)}
  views = jax.eval_shape(experiment.prepare, batch, jax.random.key(0))['views']
  assert [view.shape for view in views] == [(4, 32, 32, 3)] * 2 + [(4, 16, 16, 3)] * 2


def test_presets_take_the_fields_of_their_own_network():
  build_encoder = lambda **section: build.construct('method.encoder', section, {})
  assert build_encoder(name='vit_small', patch=(8, 4), registers=4) == models.vit_small((8, 4), registers=4)
  for field in ('width', 'stem'):
    with pytest.raises(ValueError, match=rf"config.method.encoder \(vit_small\) cannot be '{field}'"):
      build_encoder(name='vit_small', **{field: 1})


@pytest.mark.parametrize('section, message', [
    ({'name': 'conv_discriminator', 'widths': 4}, r"widths must be tuple\[int, ...\], got 4"),
    ({'name': 'conv_discriminator', 'widths': (4, 4.5)}, r"widths must be tuple\[int, ...\], got \(4, 4.5\)"),
    ({'name': 'conv_discriminator', 'widths': (True,)}, r"widths must be tuple\[int, ...\], got \(True,\)"),
    ({'name': 'conv_discriminator', 'spectral_norm': 'no'}, "spectral_norm must be bool, got 'no'"),
    ({'name': 'conv_discriminator', 'norm': 1}, r"norm must be str \| None, got 1"),
    ({'name': 'vit_small', 'patch': (8, 4, 2)}, r'patch must be .*tuple\[int, int\].*, got \(8, 4, 2\)'),
    ({'name': 'vit_small', 'drop_path': '0.1'}, "drop_path must be float, got '0.1'"),
])
def test_an_argument_of_a_wrong_type_is_named(section, message):
  with pytest.raises(ValueError, match='config.method.encoder.' + message):
    build.construct('method.encoder', section, {})


def test_an_integer_is_a_number_and_what_is_no_plain_type_is_left_to_the_constructor():
  assert build.construct('method.encoder', {'name': 'vit_small', 'patch': 4, 'drop_path': 0}, {}).drop_path == 0
  assert build.construct('method.encoder', {'name': 'resnet18', 'dtype': 'bfloat16'}, {}).dtype == 'bfloat16'


@pytest.mark.parametrize('schedule, message', [
    ({'name': 'linear', 'start': 0.5, 'end': 20.0}, r'momentum must lie in \[0, 1\], .* got 10.25 at step 5 of 10'),
    ({'name': 'linear_warmup', 'base': 5.0}, r'momentum must lie in \[0, 1\]'),
])
def test_a_schedule_may_take_no_value_that_a_number_may_not(schedule, message):
  made = load(DEFAULT.with_name('byol_omniglot.py'))
  made['steps'], made['method']['momentum'] = 10, schedule
  with pytest.raises(ValueError, match='config.method: ' + message):
    build.build(made, 1000)


def test_learning_rate_scales_with_the_batch_and_its_accumulation():
  rate = {'name': 'constant', 'base': 0.3, 'scaling': 'linear'}
  section = {'name': 'sgd', 'learning_rate': rate}
  run = {'batch_size': 512, 'steps': 10, 'steps_per_epoch': 2}
  assert build.construct('method.optimizer.learning_rate', rate, run)(0) == pytest.approx(0.6)
  experiment = build.build(config(method__optimizer={**section, 'accumulate_steps': 4}, batch_size=512), 1000)
  assert experiment.schedules['learning_rate'](0) == pytest.approx(2.4)


@pytest.mark.parametrize('changes,message', [
    ({'method__encoder': {'name': 'resnet19'}}, r"method.encoder.name cannot be 'resnet19'; did you mean 'resnet18"),
    ({'method__encoder': {'name': 'resnet18', 'widht': 2}}, r"method.encoder \(resnet18\) cannot be 'widht'.*'widt"),
    ({'method__encoder__name': 'resnet18'}, r"\(resnet18\) cannot be '(stage_sizes|block)'.*copy of the config file"),
    ({'method__temperature': -1.0}, 'config.method: temperature must be positive and finite, got -1.0'),
    ({'method__optimizer': {'name': 'adam'}}, r"config.method.optimizer.name cannot be 'adam'; did you mean 'adamw'"),
    ({'data__recipe': {'name': 'simclr', 'strenght': 1.0}}, r"'strenght'; did you mean 'strength'"),
    ({'data__recipe': {'name': 'simclr', 'area': (2.0, 1.0)}}, r'config.data.recipe: .*area'),
    ({'method__optimizer__learning_rate': {'name': 'warmup_cosine', 'base': 1.0, 'steps': 3}}, r"cannot be 'steps'"),
    ({'method__optimizer__learning_rate': {'name': 'constant', 'base': -1.0}}, 'learning_rate: base must be finite'),
    ({'method__alpha': {'name': 'warmup_cosine', 'base': 1.0}},
     r"config.method.alpha.name cannot be 'warmup_cosine'.*are: cosine, geometric_alpha, linear, linear_warmup"),
    ({'data__engine': 'gpu'}, r"engine .*'gpu'"),
    ({'batch_size': 0}, 'config.batch_size must be at least 2, got 0'),
    ({'batch_size': 4000}, r'config.batch_size = 4000 is more than the 3000 examples'),
])
def test_mistakes_are_named(changes, message):
  with pytest.raises(ValueError, match=message):
    build.build(config(**changes), 3000)


def test_missing_arguments_name_their_section():
  with pytest.raises(ValueError, match='config.method.head: .*features'):
    build.build(config(method__head={'name': 'mlp'}), 3000)


def test_evaluation_sees_the_recipe_size():
  source = build.load_source(config(data__source='bundled', data__name='omniglot_validation'), 'test')
  assert source.inputs.shape == (726, 28, 28, 1)
  assert augment.resize_inputs(source.inputs[:2], recipes.drawings(20)).shape == (2, 20, 20, 1)


def audio_config(tmp_path, **changes):
  lengths = np.array([900, 300, 2000, 700, 800, 1200, 1500, 400, 600, 500])
  waves = np.random.default_rng(0).integers(-9999, 9999, lengths.sum()).astype(np.int16)
  np.savez(tmp_path / 'set.npz', audio=waves, offsets=np.concatenate([[0], np.cumsum(lengths)]), rate=8000,
           speakers=np.arange(10) % 2)
  return config(data__source='npz', data__path=str(tmp_path / 'set.npz'), data__engine='device', batch_size=4,
                data__recipe={'name': 'speech', 'rate': 8000, 'window': 512}) | changes


def test_a_recipe_for_audio_reads_audio(tmp_path):
  made = audio_config(tmp_path)
  source = build.load_source(made, 'pretrain')
  assert len(source) == 8 and source.inputs.rate == 8000
  recipe, prepare = build.views(made)
  assert recipe == recipes.speech(8000, 512)
  stream = build.stream(made, source)
  batch = next(stream)
  stream.close()
  prepared = jax.jit(prepare)(batch, jax.random.key(0))
  assert prepared['views'][0].shape == prepared['mask'].shape == (4, 512) and prepared['group'].shape == (4,)


@pytest.mark.parametrize('changes, message', [
    ({'source': 'bundled'}, "config.data.source='bundled' is unknown"),
    ({'path': 'nowhere.npz'}, "config.data.path='nowhere.npz': there is no such file"),
    ({'recipe': {'name': 'speech', 'window': 0}}, 'config.data.recipe: window must be an integer of at least 1'),
    ({'recipe': {'name': 'audio', 'rate': 8000}}, "config.data.recipe: .*'window'"),
])
def test_mistakes_about_audio_are_named(tmp_path, changes, message):
  made = audio_config(tmp_path)
  with pytest.raises((ValueError, FileNotFoundError), match=message):
    build.load_source(made | {'data': made['data'] | changes}, 'pretrain')


def test_a_memory_covers_the_examples_and_its_size_is_no_key():
  made = load(DEFAULT.with_name('cmc_stl10.py'))
  assert build.build(made, 3000).method.num_examples == 3000
  made['method']['num_examples'] = 5
  with pytest.raises(ValueError, match=r"a key of config.method \(cmc\) cannot be 'num_examples'"):
    build.build(made, 3000)


def test_sections_in_a_tuple_are_built():
  made = load(DEFAULT.with_name('cmc_views.py'))
  made['method']['encoder'] = ({'name': 'resnet18'}, {'name': 'mlp', 'features': (4,)})
  assert build.build(made, 3000).method.encoder == (models.resnet18(), models.MLP((4,)))
  made['method']['encoder'][1]['name'] = 'mpl'
  with pytest.raises(ValueError, match="config.method.encoder.name cannot be 'mpl'; did you mean 'mlp'"):
    build.build(made, 3000)
