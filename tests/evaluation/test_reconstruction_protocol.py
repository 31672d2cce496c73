import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxssl.evaluation import pca, reconstruction, report, table

X = np.random.default_rng(0).random((23, 4, 3, 1)).astype(np.float32)


def score(state, inputs, key, samples=1):
  """Figures that depend on the key, of a linear method whose state is a scale."""
  x = inputs.reshape(len(inputs), -1)
  noise = jax.random.normal(key, (samples, *x.shape))
  error = jnp.mean(jnp.square(state * x[None] + noise - x[None]), axis=(0, 2))
  return {'squared_error': error, 'masked_error': error / 2, 'masked_error_of_mean_patch': jnp.full(len(x), 0.25)}


def average(batch_size, images=X, seed=3, samples=1):
  per_example = reconstruction.per_example(lambda *args: score(*args, samples=samples))
  batched = jax.jit(lambda images, keys: per_example(jnp.float32(0.5), images, keys))
  return reconstruction.average(batched, images, seed=seed, batch_size=batch_size)


def test_mean_over_examples_each_with_the_key_of_its_position():
  errors = []
  for i, x in enumerate(X):
    noise = np.asarray(jax.random.normal(jax.random.fold_in(jax.random.key(3), i), (2, 1, 12)), np.float64)
    errors.append(np.mean((noise - 0.5 * x.reshape(12)) ** 2))
  found = average(8, samples=2)
  np.testing.assert_allclose(found['squared_error'], np.mean(errors), rtol=1e-6)
  assert average(8, seed=4, samples=2)['squared_error'] != found['squared_error']


@pytest.mark.parametrize('batch_size', [5, 64])
def test_the_batch_size_does_not_matter(batch_size):
  expected = average(8)
  found = average(batch_size)
  assert found.keys() == expected.keys()
  for name in expected:
    np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


def test_stored_images_are_scaled_and_a_tuple_of_one_passes():
  stored = (255 * X).round().astype(np.uint8)
  error = reconstruction.squared_error(lambda x: jnp.zeros_like(x), lambda images: images)
  found = reconstruction.average(error, stored, batch_size=10)['squared_error']
  np.testing.assert_allclose(found, np.mean((stored / 255.0) ** 2), rtol=1e-6)

  class Paired:
    def __len__(self):
      return len(X)

    def __getitem__(self, index):
      return (X[index],)

  np.testing.assert_allclose(
      reconstruction.average(error, Paired(), batch_size=10)['squared_error'],
      np.mean(np.square(X, dtype=np.float64)), rtol=1e-6)


def test_baselines_are_the_training_mean_and_the_best_linear_map():
  flat = X.reshape(23, 12)
  made = reconstruction.baselines(pca.fit(flat, 4))
  adapt = lambda images: images
  found = {name: reconstruction.average(reconstruction.squared_error(each, adapt), X)['squared_error']
           for name, each in made.items()}
  centred = flat - flat.mean(axis=0, dtype=np.float64)
  singular = np.linalg.svd(centred, compute_uv=False)
  np.testing.assert_allclose(found['mean'], np.mean(centred**2), rtol=1e-5)
  np.testing.assert_allclose(found['pca'], np.sum(singular[4:] ** 2) / centred.size, rtol=1e-5)


def test_usage_counts_every_example_once():
  codes = np.random.default_rng(0).integers(0, 5, (23, 2, 3))
  found = reconstruction.usage(lambda index: jnp.asarray(codes)[index[:, 0].astype(int)],
                               np.arange(23, dtype=np.float32)[:, None], 8, batch_size=10)
  np.testing.assert_array_equal(found, np.bincount(codes.ravel(), minlength=8))


def test_figures_of_a_codebook():
  found = reconstruction.of_codebook(np.array([6, 6, 6, 6, 0, 0, 0, 0]))
  assert found['codebook_use'] == 0.5
  np.testing.assert_allclose(found['codebook_perplexity'], 4, rtol=1e-5)
  p = np.array([1, 2, 3]) / 6
  np.testing.assert_allclose(
      reconstruction.of_codebook(np.array([10, 20, 0, 30]))['codebook_perplexity'], np.exp(-np.sum(p * np.log(p))),
      rtol=1e-5)


def test_active_units_vary_by_more_than_a_hundredth():
  signs = np.where(np.arange(40) % 2, 1, -1)[:, None]
  means = 100 + signs * np.sqrt([[0.0, 0.009, 0.011, 2.0]])
  np.testing.assert_array_equal(reconstruction.active_units(means.astype(np.float32)), [False, False, True, True])


def test_wrong_figures_are_named():
  keys = jax.random.split(jax.random.key(0), 23)
  with pytest.raises(ValueError, match=r'score must return \[b\] for b inputs, got elbo of shape \[\] for b = 1'):
    reconstruction.per_example(lambda state, x, key: {'elbo': jnp.mean(x)})(None, X, keys)
  broken = lambda images, keys: {'elbo': jnp.where(jnp.arange(len(images)) == 1, jnp.nan, 0.0)}
  with pytest.raises(FloatingPointError, match='elbo of the test set is not finite'):
    reconstruction.average(broken, X)
  with pytest.raises(ValueError, match='images is empty'):
    average(4, X[:0])


def rows():
  common = {'seed': 0, 'num_test': 1210, 'samples': 50, 'data': 'omniglot', 'step': 9}
  knn = {'protocol': 'knn', 'label': 'class', 'split': 'test', 'representation': 'z', 'features': 'trained', 'seed': 0,
         'metric': 'accuracy', 'value': 0.5, 'k': 5, 'temperature': 0.1, 'num_train': 3630, 'num_test': 1210,
         'num_classes': 242, 'data': 'omniglot', 'step': 9}
  figures = {'squared_error': 0.0341, 'elbo': -132.54, 'iwae': -12345.6, 'kl': 0.00001234,
             'masked_error': 0.5, 'masked_error_of_mean_patch': 0.75}
  return [knn, {**knn, 'features': 'pca', 'dimensions': 64},
          *reconstruction.rows({**figures, 'active_units': 12.0}, 'trained', **common),
          *reconstruction.rows({'squared_error': 0.05}, 'pca', dimensions=64, **common)]


def test_rows_say_what_they_are():
  found = {(row['metric'], row['features']): row for row in rows()}
  assert found['masked_error', 'mean_patch']['value'] == 0.75 and ('masked_error_of_mean_patch', 'trained') not in found
  assert {'protocol': 'reconstruction', 'label': 'none', 'split': 'test', 'samples': 50, 'num_test': 1210}.items() <= (
      found['squared_error', 'trained'].items())


def test_the_table_of_accuracies_and_reconstructions():
  lines = table.format(rows()).splitlines()
  cells = [line.split('  ') for line in lines]
  assert [[cell.strip() for cell in line if cell.strip()] for line in cells] == [
      ['mean patch', 'PCA', 'trained encoder'],
      [lines[1]],
      ['k-NN (cosine, k = 5, weights exp(cos/0.1)): accuracy', '-', '0.500', '0.500'],
      ['reconstruction: squared error', '-', '0.05000', '0.03410'],
      ['reconstruction: elbo, nats', '-', '-', '-132.5'],
      ['reconstruction: iwae, k = 50, nats', '-', '-', '-12346'],
      ['reconstruction: kl, nats', '-', '-', '1.234e-05'],
      ['reconstruction: masked error', '0.7500', '-', '0.5000'],
      ['reconstruction: active units', '-', '-', '12'],
      ['omniglot, step 9, representation z: 3,630 training and 1,210 test examples, 242 classes.'],
      ["Squared error: of an example's values, in [0, 1] where they are pixels, the mean; lower is better."],
      ['elbo, iwae: lower bounds on log p(x) of a whole example, in nats; higher is better. (A Bernoulli of grey '
       'pixels is no likelihood, unless they are binarized.)'],
      ['Masked error: of hidden patches, in the units of the target. Mean patch: each predicted to be the mean of the '
       'patches that are visible.'],
      ['Active units: latent dimensions whose posterior mean varies by more than .01 over the examples.'],
      ['PCA: of 64 dimensions, fitted on training examples.'],
  ]


def test_several_representations_leave_reconstructions_alone():
  other = [{**row, 'representation': 'h'} for row in rows()[:1]]
  text = table.format([*rows(), *other])
  assert text.count('accuracy, z') == text.count('accuracy, h') == 1 and text.count('reconstruction: elbo') == 1
  alone = table.format([row for row in rows() if row['protocol'] == 'reconstruction'])
  assert 'omniglot, step 9: 1,210 test examples.' in alone


@pytest.mark.parametrize('sizes, note', [
    ({'knn': 64, 'reconstruction': 64}, 'PCA: of 64 dimensions, fitted on training examples.'),
    ({'knn': 1024, 'reconstruction': 64}, 'PCA: of 1,024 dimensions; of 64 for reconstructions, fitted on training'),
    ({'reconstruction': 8}, 'PCA: of 8 dimensions, fitted on training examples.')])
def test_the_notes_tell_the_dimensions_of_pca(sizes, note):
  found = [{**row, 'dimensions': sizes[row['protocol']]} for row in rows()
           if row['features'] == 'pca' and row['protocol'] in sizes]
  assert note in table.format(found)


def test_the_report_marks_accuracies_alone():
  page = report.render(title='run', rows=rows(), config={}, pictures={})
  assert page.count('class="best"') == 2 and '<td class="best">0.500</td>' in page
