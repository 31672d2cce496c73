"""The bundled set: Omniglot's background drawings, 28x28, ink bright on black, 242 characters by 20 drawers.

Lake, Salakhutdinov and Tenenbaum (2015); scripts/pack_omniglot.py makes the file.
"""

import pathlib

import numpy as np

from jaxssl.data._source import Source, check_choice

PATH = pathlib.Path(__file__).with_name('omniglot.npz')
UNSEEN = ('Balinese', 'Tagalog')  # Alphabets of 'omniglot_unseen' that pretraining never sees.

# Drawers of the part that pretraining and the support set see, and of the test part: first and last, both included.
DRAWERS = {
  'omniglot': {'train': (1, 15), 'test': (16, 20)},
  'omniglot_unseen': {'train': (1, 15), 'test': (16, 20)},
  'omniglot_validation': {'train': (1, 12), 'test': (13, 15)},
}
NAMES = tuple(DRAWERS)


def load(name: str | None, path: str | None, split: str, size: int | None = None) -> Source:
  """One split of a bundled set, in memory; `size` is not read.

  'omniglot': pretrain and train are drawers 1-15 of all characters, test drawers 16-20.
  'omniglot_unseen': pretrain is six alphabets whole; train and test are drawers 1-15 and 16-20 of Balinese and Tagalog.
  'omniglot_validation': drawers 1-12 and 13-15, for choosing hyper-parameters without a look at the test set.
  """
  del size
  check_choice('name', name, NAMES, "; data sets of TFDS have source='tfds'")
  if path is not None:
    raise ValueError(f"path={path!r} is not read by source='bundled'; did you mean source='folder' or source='npz'?")
  assert name is not None
  with np.load(PATH, allow_pickle=False) as opened:
    data = dict(opened)
  keep = np.flatnonzero(_selection(name, split, data))
  characters, labels = np.unique(data['character'][keep], return_inverse=True)
  names = tuple(str(data['character_names'][character]) for character in characters)
  return Source(name, data['images'][keep], labels.astype(np.int64), names)


def _selection(name: str, split: str, data: dict[str, np.ndarray]) -> np.ndarray:
  """bool [4840]: the drawings of a split."""
  unseen = np.isin(data['alphabet_names'], UNSEEN)[data['alphabet']]
  if name == 'omniglot_unseen' and split == 'pretrain':
    return ~unseen
  first, last = DRAWERS[name]['test' if split == 'test' else 'train']
  drawers = (data['drawer'] >= first) & (data['drawer'] <= last)
  return drawers & unseen if name == 'omniglot_unseen' else drawers
