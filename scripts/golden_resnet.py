"""Writes tests/models/golden_resnet.npz: outputs of torchvision's and timm's ResNets for known weights.

The weights come from a recipe in NumPy (`random_weights`), so that the tests need neither torch nor a download:

  python -m venv torch && torch/bin/pip install torch torchvision timm && torch/bin/python scripts/golden_resnet.py
"""

import pathlib
import zlib

import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / 'tests' / 'models' / 'golden_resnet.npz'
TORCHVISION = ('resnet18', 'resnet50')
TIMM = ('resnet18d', 'resnet50d')


def random_weights(name: str, shape: tuple[int, ...]) -> np.ndarray:
  """Returns the float32 tensor `name` of a torch state dict, drawn from a generator seeded by the name's crc32."""
  rng = np.random.default_rng(zlib.crc32(name.encode()))
  if len(shape) == 4:
    return rng.normal(0, np.prod(shape[1:]) ** -0.5, shape).astype(np.float32)
  if name.endswith(('weight', 'running_var')):
    return rng.uniform(0.5, 1.5, shape).astype(np.float32)
  return rng.normal(0, 0.1, shape).astype(np.float32)


def random_images(size: int = 48) -> np.ndarray:
  """Returns two float32 images [2, size, size, 3] in [0, 1]."""
  return np.random.default_rng(0).random((2, size, size, 3), np.float32)


def torch_model(name: str):
  """Returns torchvision's or timm's model `name`, without its classifier, with `random_weights`."""
  import torch

  model = _create(name)
  model.fc = torch.nn.Identity()
  state = {k: v if k.endswith('num_batches_tracked') else torch.from_numpy(random_weights(k, tuple(v.shape)))
           for k, v in model.state_dict().items()}
  model.load_state_dict(state)
  return model


def _create(name: str):
  import torch

  try:
    import torchvision
  except RuntimeError:  # Its compiled operators, of which these models need none, were built for another torch.
    for operator in ('nms', 'qnms'):
      torch.library.define(f'torchvision::{operator}', '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor')
    import torchvision
  if name in TIMM:
    import timm
    return timm.create_model(name)
  return getattr(torchvision.models, name)()


def torch_features(name: str, train: bool = False) -> tuple[np.ndarray, dict[str, np.ndarray]]:
  """Returns the features [2, d] of `random_images`, and the state dict after that forward pass.

  In training torch averages unbiased variances, Flax biased ones: the returned averages are converted to the latter.
  """
  import torch

  model = torch_model(name).train(train)
  counts = {}
  for path, module in model.named_modules():
    if isinstance(module, torch.nn.BatchNorm2d):
      module.register_forward_hook(
          lambda _, inputs, __, path=path: counts.update({path: inputs[0].numel() // inputs[0].shape[1]}))
  with torch.no_grad():
    features = model(torch.from_numpy(random_images()).permute(0, 3, 1, 2)).numpy()
  state = {k: v.numpy() for k, v in model.state_dict().items()}
  if train:
    for path, n in counts.items():
      key = f'{path}.running_var'
      before = 0.9 * random_weights(key, state[key].shape)
      state[key] = before + (state[key] - before) * (n - 1) / n
  return features, state


def main() -> None:
  # Every fourth feature keeps the file small.
  golden = {name: torch_features(name)[0][:, ::4] for name in TORCHVISION + TIMM}
  features, state = torch_features('resnet18', train=True)
  golden['resnet18/train'] = features[:, ::4]
  # Five channels of every batch norm tell whether its averages are right.
  golden.update({f'resnet18/train/{k}': v[:5] for k, v in state.items() if 'running' in k})
  np.savez_compressed(GOLDEN, **golden)
  print(f'{GOLDEN}: {GOLDEN.stat().st_size} bytes')


if __name__ == '__main__':
  main()
