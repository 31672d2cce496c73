"""CMC on ImageNet, L and ab: Tian, Krishnan, Isola 2020, https://arxiv.org/abs/1906.05849, section 4.1.

  python train.py --config configs/cmc_imagenet.py --config.data.path=TFDS_DIRECTORY

The paper's settings: a ResNet-50 for each view, crops of (0.08, 1), a memory of all 1.28 million images (2 x 0.65 GB)
with momentum 0.5 and NCE against 16,384 of it, which are drawn once for the batch here and for each image there;
temperature 0.07; SGD at 0.03, a tenth of it from one half, two thirds and five sixths of 240 epochs of batch 128 on.
Its linear probe: 66.2 %, and 70.6 % with twice the width (--config.method.encoder.width_multiplier=2). The authors'
code reports that softmax ('memory') does better than NCE, and YCbCr better than Lab by 0.5 to 1 %. TFDS prepares
ImageNet from the archives you download; prepare it with file_format='array_record'. Not measured here.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  return ConfigDict({
      'seed': 0,
      'steps': 240 * 1_281_167 // 128,
      'batch_size': 128,
      'init_from': '',
      'data': {
          'source': 'tfds',
          'name': 'imagenet2012',
          'path': '',
          'engine': 'split',
          'recipe': {'name': 'multiview', 'size': 224, 'modalities': ('L', 'ab'), 'area': (0.08, 1.0), 'flip': 0.5,
                     'same_crop': True, 'strength': 0.0, 'grey': 0.0, 'blur': 0.0},
      },
      'method': {
          'name': 'cmc',
          'views': 2,
          'shared': False,  # One encoder, with the same parameters, for all views.
          'graph': 'full',  # Of three views and more: every pair; or 'core': the first with each other one.
          'contrast': 'memory_nce',  # 'batch'; or with a memory of all examples, 'memory' or 'memory_nce'.
          'temperature': 0.07,
          'num_negatives': 16_384,  # Of a memory.
          'momentum': 0.5,  # Of a memory.
          'encoder': {'name': 'resnet50', 'width_multiplier': 1, 'dtype': 'bfloat16'},
          'head': {'name': 'mlp', 'features': (128,), 'output_bn': False, 'output_bias': True, 'dtype': 'bfloat16'},
          'optimizer': {
              'name': 'sgd', 'momentum': 0.9, 'weight_decay': 1e-4,
              'learning_rate': {'name': 'step_decay', 'base': 0.03, 'scaling': 'none'},
          },
      },
      'checkpoint': {'every': 500, 'keep_last': 3, 'keep_every': 5000},
      'logging': {'every': 50},
      'evaluation': {
          'protocols': ('knn', 'linear'),  # And 'sgd', 'finetune'.
          'representation': '',  # 'h', of all views; or of one, 'h_view0'; 'z', 'stage3', ….
          'batch_size': 512,
          'knn': {'k': 200, 'temperature': 0.1},
          # L2 strengths; the share of the training labels that chooses among them.
          'linear': {'grid': (1e-1, 1e-2, 1e-3, 1e-4, 1e-5), 'validation': 0.2},
          'sgd': {'epochs': 90, 'batch_size': 256, 'learning_rate': 0.1},
          'finetune': {'epochs': 60, 'batch_size': 256, 'learning_rate': 0.05},
          'fractions': (),  # Shares of the labels, such as (0.01, 0.1).
          'pictures': True,
      },
      'mesh': {'data': -1, 'model': 1},
  })
