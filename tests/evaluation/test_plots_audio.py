"""The pictures of audio: what they show, and that they are written."""

import numpy as np
import pytest
from PIL import Image

from jaxssl.evaluation import plots_audio


def test_colours_are_the_principal_components_of_all_sequences():
  rng = np.random.default_rng(0)
  line = np.linspace(-1, 1, 50)[:, None] * np.array([[3.0, 0.0, 0.0, 4.0]]) + rng.normal(size=(50, 4)) * 1e-3
  first, second = plots_audio.colours([line[:20], line[20:]])
  assert first.shape == (20, 3) and second.shape == (30, 3)
  red = np.concatenate([first, second])[:, 0]
  assert red.min() == 0 and red.max() == 1 and np.all(np.diff(red) >= 0)


def test_colours_of_narrow_steps():
  assert plots_audio.colours([np.zeros((4, 1))])[0].shape == (4, 3)


def test_sheets_are_written(tmp_path):
  rng = np.random.default_rng(0)
  spectra = [rng.normal(size=(t, 10)) for t in (20, 35, 5, 12)]
  steps = {name: [rng.normal(size=(len(each), d)) for each in spectra] for name, d in (('z', 6), ('c', 2))}
  plots_audio.sequences_sheet(spectra, steps, list('abcd'), 0.01, tmp_path / 'a.png')
  assert np.asarray(Image.open(tmp_path / 'a.png').convert('RGB')).std() > 10
  with pytest.raises(ValueError, match='spectra is empty'):
    plots_audio.sequences_sheet([], {}, [], 0.01, tmp_path / 'c.png')
