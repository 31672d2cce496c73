"""Data sets by name: wrong arguments, and what is held out."""

import numpy as np
import pytest

from jaxssl import data
from jaxssl.data import _source


@pytest.mark.parametrize(
  'arguments, message',
  [
    (('bundeld', 'omniglot', None, 'train'), "source='bundeld' is unknown; did you mean 'bundled'"),
    (('bundled', 'omniglot', None, 'training'), "split='training' is unknown; did you mean 'train'"),
    (('folder', None, None, 'train'), "path=None: source='folder' needs"),
    (('npz', None, '', 'train'), "path=None: source='npz' needs"),
    (('tfds', None, None, 'train'), "name=None: source='tfds'"),
    (('bundled', 'omniglot', None, 'train', 0), 'size=0'),
  ],
)
def test_wrong_arguments(arguments, message):
  with pytest.raises(ValueError, match=message):
    data.load(*arguments)


def test_hold_out_is_stratified_and_fixed():
  labels = np.repeat(np.arange(4), (50, 10, 2, 1))
  test = _source.hold_out(len(labels), labels)
  assert np.bincount(labels[test], minlength=4).tolist() == [10, 2, 1, 0]
  np.testing.assert_array_equal(test, _source.hold_out(len(labels), labels))
  assert _source.hold_out(100, None).sum() == 20
