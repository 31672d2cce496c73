"""The commands on generative methods: table, pictures, another number of samples, vectors, what is refused."""

import dataclasses
import os
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from jaxssl import core
from jaxssl.build import Experiment, Source, build, load_source, views
from jaxssl.cli import evaluation_options, measure, measure_generative, pictures_generative, runs, workdir
from jaxssl.cli.eval import evaluate
from jaxssl.cli.train import train

sys.path.insert(0, os.path.dirname(__file__))
from processes import rows_of
from tiny_config import get_config

PAIRED = {'name': 'paired', 'size': 12}
VAE = {'name': 'vae', 'latent_size': 5}
AUTOENCODER = {'name': 'autoencoder', 'code_size': 3}


def config(method, data=None, **overrides):
  made = get_config()
  made.mesh.data = 8
  with made.unlocked():
    if data:
      made.data = {'source': 'npz', 'name': '', 'path': str(data), 'engine': 'device', 'recipe': PAIRED}
    else:
      made.data.recipe.views = 1
    made.method = {
        **method, 'encoder': {'name': 'mlp_encoder', 'features': (8,)},
        'decoder': {'name': 'mlp_decoder', 'features': (8,)},
        'optimizer': {'name': 'adamw', 'learning_rate': {'name': 'step_decay', 'base': 0.01, 'scaling': 'none'}}}
    made.evaluation.update({'protocols': ('knn', 'reconstruction'), 'pictures': True, 'reconstruction': {'samples': 1}})
    made.update_from_flattened_dict(overrides)
  return made


def values(path, protocol='reconstruction'):
  return {(row['metric'], row['features']): row['value'] for row in rows_of(path) if row['protocol'] == protocol}


@pytest.fixture(scope='module')
def drawings(tmp_path_factory):
  path = tmp_path_factory.mktemp('drawings') / 'run'
  with jax.numpy_rank_promotion('raise'):
    train(config(VAE), str(path))
  return path


@pytest.fixture(scope='module')
def vectors(tmp_path_factory):
  """200 vectors of 6 numbers near a plane, and a run on them with labels."""
  path = tmp_path_factory.mktemp('vectors')
  rng = np.random.default_rng(0)
  labels = np.arange(200) % 4
  x = 3 * rng.normal(size=(4, 2))[labels] @ rng.normal(size=(2, 6)) + 0.3 * rng.normal(size=(200, 6)) + 5
  np.savez(path / 'labelled.npz', view_0=x, labels=labels)
  np.savez(path / 'alone.npz', view_0=x)
  made = config(AUTOENCODER, path / 'labelled.npz', **{
      'evaluation.protocols': ('knn', 'linear', 'finetune', 'reconstruction')})
  made.evaluation.finetune.batch_size = 32
  with jax.numpy_rank_promotion('raise'):
    train(made, str(path / 'run'))
  return path


def test_every_figure_has_its_row(drawings):
  found = values(drawings)
  both = lambda *names: {(name, features) for name in names for features in ('random', 'trained')}
  assert set(found) == {*both('squared_error', 'elbo', 'iwae', 'kl', 'active_units'), ('squared_error', 'mean'),
                        ('squared_error', 'pca')}
  assert found['squared_error', 'pca'] < found['squared_error', 'mean'] < found['squared_error', 'random']
  assert found['elbo', 'trained'] > found['elbo', 'random']
  pca = [row for row in rows_of(drawings) if row['features'] == 'pca']
  assert {row['protocol'] for row in pca} == {'knn', 'reconstruction'}
  assert all(row['dimensions'] == 5 for row in pca)
  assert all(row['num_test'] == 1210 and row['data'] == 'omniglot' for row in rows_of(drawings))


def test_every_picture_is_in_the_report(drawings):
  made = {'reconstructions', 'samples', 'interpolations', 'traversals', 'latent_kl'}
  assert made <= {each.stem for each in (drawings / 'pictures').iterdir()}
  page = (drawings / 'report.html').read_text()
  assert all(caption in page for caption in ('Reconstructions of test', 'Samples from the prior', 'From one test image',
                                             'one latent dimension varied', 'KL of each latent dimension'))
  sizes = {each.stem: Image.open(each).size for each in (drawings / 'pictures').iterdir()}
  assert sizes['reconstructions'][0] > 700 and sizes['samples'] == (732, 372)


def test_eval_with_more_samples(drawings, capsys):
  before = values(drawings)
  made = config(VAE, **{'evaluation.reconstruction.samples': 7, 'evaluation.protocols': ('reconstruction',),
                        'evaluation.pictures': False, 'evaluation.batch_size': 512})
  evaluate(made, str(drawings), embed=str(drawings / 'features.npz'))
  after, out = values(drawings), capsys.readouterr().out
  assert 'reconstruction: iwae, k = 7, nats' in out and '1,210 test examples.' in out
  assert after['iwae', 'trained'] > after['elbo', 'trained']
  np.testing.assert_allclose(before['iwae', 'trained'], before['elbo', 'trained'], rtol=1e-5)
  for name in ('squared_error', 'kl'):  # Which nothing is drawn for.
    np.testing.assert_allclose(after[name, 'trained'], before[name, 'trained'], rtol=1e-5)
  with np.load(drawings / 'features.npz') as features:
    assert features['test_features'].shape == (1210, 5)


def test_vectors_from_training_to_the_table(vectors):
  found, knn = values(vectors / 'run'), values(vectors / 'run', 'knn')
  assert set(found) == {('squared_error', features) for features in ('mean', 'pca', 'random', 'trained')}
  assert found['squared_error', 'pca'] < 0.2 < found['squared_error', 'mean']
  assert knn['accuracy', 'pca'] > 0.7 and set(knn) == {
      ('accuracy', features) for features in ('raw', 'pca', 'random', 'trained')}
  assert {row['features'] for row in rows_of(vectors / 'run') if row['protocol'] == 'finetune'} == {'random', 'trained'}
  names = {each.stem for each in (vectors / 'run' / 'pictures').iterdir()}
  assert 'reconstructions' in names and not {'interpolations', 'traversals', 'neighbours'} & names


def test_cutmix_of_vectors_is_refused_before_the_run(vectors, tmp_path):
  made = config(AUTOENCODER, vectors / 'labelled.npz', **{'evaluation.protocols': ('finetune',)})
  with made.unlocked():
    made.evaluation.finetune.cutmix = 1.0
  with pytest.raises(ValueError, match=r'config.evaluation.finetune.cutmix must be 0 for what is not images .* got 1'):
    train(made, str(tmp_path / 'refused'))
  assert not (tmp_path / 'refused').exists()


def test_cutmix_of_vectors_is_refused_before_anything_is_measured(vectors):
  stored = workdir.read_config(str(vectors / 'run'))
  evaluation_options.complete(stored.evaluation)
  stored.update_from_flattened_dict({'evaluation.protocols': ('knn', 'finetune'), 'evaluation.finetune.cutmix': 1.0})
  with pytest.raises(ValueError, match=r'config.evaluation.finetune.cutmix must be 0 for what is not images .* got 1'):
    evaluate(stored, str(vectors / 'run'))


@pytest.mark.parametrize('method', [AUTOENCODER, VAE], ids=lambda method: method['name'])
def test_bernoulli_refuses_vectors_outside_0_and_1(vectors, tmp_path, method):
  made = config({**method, 'likelihood': 'bernoulli'}, vectors / 'labelled.npz')
  with pytest.raises(ValueError, match=r"likelihood = 'bernoulli' is for inputs in \[0, 1\]; those of labelled lie in"):
    train(made, str(tmp_path / 'refused'))
  assert not (tmp_path / 'refused').exists()


def test_bernoulli_refuses_a_single_test_vector_outside_0_and_1(vectors, tmp_path):
  x = np.full((8, 6), 0.5)
  np.savez(tmp_path / 'late.npz', train_view_0=x, test_view_0=np.concatenate([x, x + 6.5]))
  made = config({**AUTOENCODER, 'likelihood': 'bernoulli'}, tmp_path / 'late.npz', batch_size=8)
  with pytest.raises(ValueError, match=r"those of late lie in \[0.5, 7\]"):
    train(made, str(tmp_path / 'refused'))
  with pytest.raises(ValueError, match=r"those of late lie in \[0.5, 7\]"):
    measure.measure(runs.Run(made, build(made.to_dict(), 8), None, None, {}), *(
        load_source(made.to_dict(), split) for split in ('train', 'test')))


def test_what_a_run_stored_as_none_can_be_set_afterwards(vectors):
  stored = workdir.read_config(str(vectors / 'run'))
  evaluation_options.complete(stored.evaluation)
  again = ConfigDict(stored.evaluation.to_dict())  # As results of train.py are stored.
  evaluation_options.complete(again)
  again.finetune.layer_decay = 0.5
  assert again.finetune.layer_decay == 0.5 and again.finetune.drop_path is None


def test_examples_that_are_all_alike_have_no_pca(vectors, tmp_path):
  np.savez(tmp_path / 'alike.npz', view_0=np.ones((40, 6)), labels=np.arange(40) % 2)
  made = config(AUTOENCODER, tmp_path / 'alike.npz', **{'steps': 1, 'evaluation.pictures': False})
  train(made, str(tmp_path / 'run'))
  assert 'pca' not in {features for _, features in values(tmp_path / 'run', 'knn')}
  assert values(tmp_path / 'run')['squared_error', 'mean'] < 1e-10


def test_without_labels_the_rows_are_there(vectors):
  train(config(AUTOENCODER, vectors / 'alone.npz', **{'steps': 1, 'evaluation.pictures': False}),
        str(vectors / 'alone'))
  assert {row['protocol'] for row in rows_of(vectors / 'alone')} == {'geometry', 'reconstruction'}
  assert ('squared_error', 'pca') in values(vectors / 'alone')


@pytest.mark.parametrize('overrides, message', [
    ({'evaluation.reconstruction.samples': 0},
     'config.evaluation.reconstruction.samples must be an integer from 1 on, got 0'),
    ({'evaluation.reconstruction': {'draws': 2}}, "config.evaluation.reconstruction has samples alone; got 'draws'"),
    ({'method': get_config().method}, "'reconstruction' is for methods that reconstruct their inputs; SimCLR does not"),
])
def test_what_does_not_fit_is_refused_before_the_run(tmp_path, overrides, message):
  made = config(AUTOENCODER)
  with made.unlocked():
    for key, value in overrides.items():
      section, _, last = key.rpartition('.')
      (made if not section else made[section] if '.' not in section else made.evaluation.reconstruction)[last] = value
  with pytest.raises(ValueError, match=message):
    train(made, str(tmp_path / 'refused'))
  assert not (tmp_path / 'refused').exists()


@dataclasses.dataclass(frozen=True)
class Quantizer:
  """A stand-in: the nearest of k greys for the left and for the right half of an image."""

  num_codes: int = 6
  representations = ('z',)
  wrong: str = ''

  def represent(self, state, inputs, name=None, mask=None):
    z = inputs.reshape(len(inputs), inputs.shape[1], 2, -1).mean(axis=(1, 3))
    return jnp.round(z * state.params) / state.params

  def codes(self, state, inputs):
    return jnp.round(self.represent(state, inputs) * state.params).astype(jnp.int32)

  def decode(self, state, z, shape):
    made = jnp.broadcast_to(z[:, None, :, None, None], (len(z), shape[0], 2, shape[1] // 2, shape[2]))
    return made.reshape(len(z), *shape)[:, :(2 if self.wrong == 'decode' else None)]

  def reconstruct(self, state, inputs, key):
    made = {'given': inputs / 2, 'reconstruction': self.decode(state, self.represent(state, inputs), inputs.shape[1:])}
    return {'reconstruction': made['reconstruction']} if self.wrong else made

  def score(self, state, inputs, key, samples=1):
    error = jnp.square(self.reconstruct(state, inputs, key)['reconstruction'] - inputs)
    return {'squared_error': jnp.mean(error) if self.wrong == 'score' else jnp.mean(error, axis=(1, 2, 3))}


@pytest.fixture
def quantized():
  """A run of the stand-in, whose grey levels are multiples of 1/5 (trained) or of 1/2, and its test images."""
  made = config(AUTOENCODER)
  recipe, prepare = views(made.to_dict())
  state = lambda levels: core.State(jnp.int32(3), jnp.int32(-1), jnp.float32(levels), {}, ())
  run = runs.Run(made, Experiment(Quantizer(), recipe, prepare, {}), state(5), state(2),
                 {'batch': {'inputs': {'shape': [16, 14, 14, 1]}}})
  greys = np.repeat(np.arange(40) % 4 / 5, 14 * 14).reshape(40, 14, 14, 1).astype(np.float32)
  return run, Source('greys', greys)


def test_figures_of_a_codebook_and_an_exact_reconstruction(quantized):
  run, test = quantized
  size = measure_generative.sizes(run, test, 'z')
  assert size == (14 * 14, 2, 0)  # PCA of as many numbers would be no match for codes.
  basis = measure_generative.fit_pca(run, test, size)
  assert basis.dimensions == 1  # All images are of one grey.
  rows = measure_generative.measure(run, test, basis, size)
  found = {(row['metric'], row['features']): row['value'] for row in rows}
  np.testing.assert_allclose(found['codebook_perplexity', 'trained'], 4, rtol=1e-5)
  np.testing.assert_allclose(found['codebook_use', 'trained'], 4 / 6, rtol=1e-6)
  assert found['codebook_use', 'random'] == 2 / 6
  np.testing.assert_allclose(found['squared_error', 'trained'], 0, atol=1e-12)
  assert ('squared_error', 'pca') not in found
  np.testing.assert_allclose(found['squared_error', 'mean'], np.var([0, 0.2, 0.4, 0.6]), rtol=1e-5)
  np.testing.assert_allclose(found['squared_error', 'random'], np.mean(np.square([0, 0.2, 0.1, 0.1])), rtol=1e-5)


def test_pictures_of_what_a_method_has(quantized, tmp_path):
  run, test = quantized
  found = pictures_generative.draw(run, test, lambda name: str(tmp_path / name))
  assert {os.path.basename(path) for path in found.values()} == {
      'reconstructions.png', 'interpolations.png', 'codebook.png'}
  lines = np.asarray(Image.open(tmp_path / 'reconstructions.png').convert('L')).astype(int)
  middle = lines[:, -30]  # The last test image, grey 3/5: given at half of that, reconstructed, and as it was.
  assert [np.abs(middle[y] - 255 * grey).max() <= 2 for y, grey in ((30, 0.3), (90, 0.6), (150, 0.6))] == [True] * 3


@pytest.mark.parametrize('wrong, message', [
    ('score', r'score must return \[b\] for b inputs, got squared_error of shape \[\]'),
    ('decode', r'(?s)decode must return inputs, \[16, 14, 14, 1\], got shape \[16, 2, 14, 1\]|shape'),
])
def test_wrong_shapes_show_in_the_trace(quantized, wrong, message):
  run, _ = quantized
  experiment = run.experiment._replace(method=Quantizer(wrong=wrong))
  with pytest.raises((ValueError, TypeError), match=message):
    measure_generative.trace(experiment, run.state, jax.ShapeDtypeStruct((16, 14, 14, 1), jnp.float32))
