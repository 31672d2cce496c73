"""CMC on your own paired views: Tian, Krishnan, Isola 2020, https://arxiv.org/abs/1906.05849.

  python train.py --config configs/cmc_views.py --config.data.path=FILE.npz
  python train.py --config configs/cmc_views.py --config.data.source=folder --config.data.path=DIRECTORY

FILE.npz holds view_0, view_1, … of the same examples, row by row, and if you like labels: images, uint8 or floats in
[0, 1], [n, h, w, c], or vectors, waveforms and the like, [n, ...]; or all with train_ and test_ before their names.
DIRECTORY holds the folders view_0, view_1, … of images with the same names. For more views than two set
--config.method.views to their number. Images become squares of 32 pixels (--config.data.recipe.size); in training they
get crops and flips, each its own, or where their pixels show the same place the same
(--config.data.recipe.aligned=True); all others Gaussian noise, if any (--config.data.recipe.noise=0.1). Each view has
an encoder of its own, a small ResNet for images and a multilayer perceptron for all others; change them in a copy of
this file. --config.evaluation.representation=h_view0 evaluates the first view's features alone.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 2000,
      'batch_size': 128,
      'init_from': '',
      'data': {
          'source': 'npz',
          'name': '',
          'path': '',
          'engine': 'device',
          'recipe': {'name': 'paired', 'size': 32, 'area': (0.2, 1.0), 'flip': 0.5, 'aligned': False, 'noise': 0.0},
      },
      'method': {
          'name': 'cmc',
          'views': 2,
          'shared': False,  # One encoder, with the same parameters, for all views.
          'graph': 'full',  # Of three views and more: every pair; or 'core': the first with each other one.
          'contrast': 'batch',  # 'batch'; or with a memory of all examples, 'memory' or 'memory_nce'.
          'temperature': 0.1,
          'num_negatives': 4096,  # Of a memory.
          'momentum': 0.5,  # Of a memory.
          'encoder': {
              'name': 'by_shape',
              'images': {'name': 'resnet', 'stage_sizes': (1, 1, 1), 'block': 'basic', 'widths': (32, 64, 128),
                         'stem': 'strided', 'average_pool_shortcut': True},
              'vectors': {'name': 'mlp', 'features': (256, 256), 'output_bn': False, 'output_bias': True},
          },
          'head': {'name': 'mlp', 'features': (128,), 'output_bn': False, 'output_bias': True},
          'optimizer': {
              'name': 'sgd', 'momentum': 0.9, 'weight_decay': 1e-4,
              'learning_rate': {'name': 'warmup_cosine', 'base': 0.06, 'scaling': 'linear', 'warmup_epochs': 1.0},
          },
      },
      'checkpoint': {'every': 200, 'keep_last': 3, 'keep_every': 1000},
      'logging': {'every': 20},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # 'h', of all views; or of one, 'h_view0'; 'z', 'stage3', ….
          'batch_size': 512,
          'knn': {'k': 20, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 0.1},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 0.05},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
