"""Random and mutated inputs: whatever a file or a config holds, it is used, or refused by an error of our own.

The same strategies run a few hundred times by default and 10,000 times with -m slow; derandomized, so that one run is
like another. What they have found is kept as a test of its own.
"""

import contextlib
import copy
import io
import json
import logging as python_logging
import os
import pathlib
import shutil
import sys
import tempfile
import warnings

import hypothesis
import jax
import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'data'))
sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'cli'))
import bad_files
import tiny_config

from jaxssl import build, data
from jaxssl.cli import conclusion, workdir
from jaxssl.cli.train import check
from jaxssl.data import audio
from jaxssl.training import logging, mesh

COUNTS = {  # Inputs: by default, and with -m slow.
  'images': (80, 3000), 'sounds': (60, 1500), 'archives': (100, 2000), 'arrays': (40, 1000), 'metrics': (30, 600),
  'results': (100, 500), 'configs in files': (40, 300), 'environments': (50, 200), 'configs': (100, 800),
  'traced configs': (2, 100)}


@pytest.fixture(scope='module')
def place():
  """A folder for everything, made anew by each check; and silence about files that are left out."""
  root = pathlib.Path(tempfile.mkdtemp())
  python_logging.getLogger('jaxssl').setLevel(python_logging.ERROR)
  with jax.numpy_rank_promotion('raise'):
    yield root
  python_logging.getLogger('jaxssl').setLevel(python_logging.NOTSET)
  shutil.rmtree(root)


def mutated(valid):
  """Bytes of `valid` with a few changes, and bytes of nothing at all."""
  edit = st.tuples(st.sampled_from(['set', 'insert', 'delete', 'cut', 'double']), st.integers(0, 2**16 - 1),
                   st.binary(min_size=1, max_size=6))

  def change(content, edits):
    content = bytearray(content)
    for kind, place, piece in edits:
      at = place * len(content) >> 16
      if kind == 'set':
        content[at : at + len(piece)] = piece
      elif kind == 'insert':
        content[at:at] = piece
      elif kind == 'delete':
        del content[at : at + piece[0]]
      elif kind == 'cut':
        del content[at:]
      else:
        content[at:at] = content[at : at + 4 * piece[0]]
    return bytes(content)

  return st.one_of(
    st.builds(change, st.sampled_from(valid), st.lists(edit, min_size=1, max_size=4)), st.binary(max_size=200))


def plain_values():
  """JSON, and what Python has beside it."""
  leaves = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 9), st.sampled_from([2**31, 2**63, -(2**40), 10**25, 10**400]),
    st.floats(), st.text(max_size=8), st.sampled_from(['resnet', 'sgd', 'knn', 'host', '../x', '\ud800', '$x$', "a'b"]))
  return st.recursive(
    leaves, lambda inner: st.one_of(
      st.lists(inner, max_size=3), st.lists(inner, max_size=3).map(tuple),
      st.dictionaries(st.one_of(st.sampled_from(['name', 'base', 'every', 'step', 'rows']), st.text(max_size=4)), inner,
                      max_size=3)), max_leaves=5)


def paths(section, above=()):
  """All keys of a nested dict, sections included."""
  for key, value in section.items():
    yield (*above, key)
    if isinstance(value, dict):
      yield from paths(value, (*above, key))


def changed(valid, values):
  """Copies of a nested dict in which a few keys hold other values, or are gone."""
  def change(edits):
    made = copy.deepcopy(valid)
    for path, value, gone in edits:
      section = made
      for key in path[:-1]:
        section = section.get(key) if isinstance(section, dict) else None
      if isinstance(section, dict):
        if gone:
          section.pop(path[-1], None)
        else:
          section[path[-1]] = value
    return made

  edit = st.tuples(st.sampled_from(list(paths(valid))), values, st.sampled_from([False, False, False, True]))
  return st.lists(edit, min_size=1, max_size=2).map(change)


def images():
  forms = {'JPEG': {}, 'PNG': {}, 'WEBP': {}, 'BMP': {}}
  valid = [bad_files.encode(bad_files.picture(0, 24, 40), form, **options) for form, options in forms.items()]
  return mutated(valid + list(bad_files.fine_images().values()))


def check_image(root, content):
  fresh(root)
  good = bad_files.encode(bad_files.picture(), 'PNG')
  for part, name, each in (('train', 'good.png', good), ('test', 'good.png', good), ('train', 'fuzz.png', content)):
    (root / part).mkdir(exist_ok=True)
    (root / part / name).write_bytes(each)
  for size in (8, None):
    source = data.load('folder', None, str(root), 'pretrain', size=size)
    assert len(source) + len(source.skipped) == 2 and all(why for _, why in source.skipped)
    if not source.skipped and size:
      assert source.inputs.shape == (2, 8, 8, 3)
    elif not source.skipped:
      i = source.files.index('train/fuzz.png')
      height, width, channels = source.inputs.original(i).shape
      assert height * width > 0 and channels == 3
      if 'tensorflow' in sys.modules and source.inputs.plain[i]:  # As the engine 'host' will.
        decoded = sys.modules['tensorflow'].io.decode_jpeg(content, channels=3, try_recover_truncated=True)
        assert decoded.shape == (height, width, 3)


def sounds():
  wave = bad_files.sine(2000)
  valid = [bad_files.sound(wave), bad_files.sound(wave, form='FLAC'), bad_files.sound(wave, subtype='FLOAT'),
           bad_files.sound(np.stack([wave] * 2, 1), 16_000, 'FLAC'),
           bad_files.sound(wave, form='OGG', subtype='VORBIS')]
  return st.tuples(mutated(valid), st.sampled_from(['wav', 'flac', 'ogg', 'mp3']))


def check_sound(root, value):
  content, suffix = value
  fresh(root)
  good = bad_files.sound(bad_files.sine(1000))
  for part, name, each in (('train', 'good.wav', good), ('train', f'f.{suffix}', content), ('test', 'good.wav', good)):
    (root / part).mkdir(exist_ok=True)
    (root / part / name).write_bytes(each)
  source = data.load_audio('folder', None, str(root), 'pretrain', 8000)
  assert len(source) + len(source.skipped) == 2 and all(why for _, why in source.skipped)
  if not source.skipped:
    i = source.files.index(f'train/f.{suffix}')
    wave = source.inputs.wave(i)
    assert np.isfinite(wave).all() and len(wave) == source.inputs.lengths[i]
    window = audio.decode(str(root / 'train' / f'f.{suffix}'), 8000, 100, 300)  # As of what is read when it is used.
    np.testing.assert_array_equal(window, source.inputs.window(i, 100, 200))


VALID = {
  'images': np.zeros((6, 4, 4, 3), np.uint8), 'labels': np.arange(6) % 2, 'view_0': np.ones((6, 4), np.float32),
  'view_1': np.zeros((6, 4, 4, 3), np.uint8), 'audio': np.zeros(600, np.int16), 'offsets': np.arange(0, 601, 100),
  'rate': np.array(8000), 'speakers': np.array(list('aabbcc'))}
SETS = (('images', 'labels'), ('view_0', 'view_1', 'labels'), ('audio', 'offsets', 'rate', 'labels', 'speakers'))


def archives():
  kept = [{name: VALID[name] for name in names} for names in SETS]
  return mutated([make(**each) for each in kept for make in (bad_files.npz, bad_files.compressed)])


def arrays():
  """Archives that are whole, of arrays of any type and shape."""
  some = st.one_of(
    arrays_of.arrays(st.one_of(arrays_of.scalar_dtypes(), st.just(np.dtype('uint8')), st.just(np.dtype('float32'))),
                     arrays_of.array_shapes(min_dims=0, max_dims=4, max_side=6)), st.sampled_from(list(VALID.values())))
  prefixes = st.sampled_from(['', '', 'train_', 'test_'])
  return st.builds(
    lambda names, other: bad_files.npz(**{name: VALID[name] for name in names} | other), st.sampled_from(SETS),
    st.dictionaries(st.builds(str.__add__, prefixes, st.sampled_from(list(VALID))), some, min_size=1, max_size=3))


def check_archive(root, content):
  path = root / 'set.npz'
  path.write_bytes(content)
  loaders = (data.load, data.load_paired, lambda *arguments: data.load_audio(*arguments, rate=8000))
  for load in loaders:
    for split in ('pretrain', 'test'):
      try:
        source = load('npz', None, str(path), split)
      except ValueError as error:
        assert str(error).startswith((f'path={str(path)!r}', 'set has too few examples')) and '\n' not in str(error)
        continue
      first = source.inputs.wave(0) if hasattr(source.inputs, 'wave') else source.inputs[np.arange(1)]
      assert len(source) and all(np.isfinite(each).all() for each in jax.tree.leaves(first))
      assert source.labels is None or len(source.labels) == len(source) and source.labels.min() >= 0


def lines():
  row = {'step': 3, 'loss': 1.5, 'learning_rate': None}
  text = ''.join(json.dumps({**row, 'step': step}) + '\n' for step in range(1, 5)).encode()
  return st.one_of(mutated([text]), st.lists(st.one_of(plain_values(), changed(row, plain_values())), max_size=4).map(
    lambda rows: ''.join(f'{as_json(each)}\n' for each in rows).encode()))


def as_json(value):
  return json.dumps(value, default=str, skipkeys=True)


def check_metrics(root, content):
  fresh(root)
  (root / 'metrics.jsonl').write_bytes(content)
  rows = logging.read(root)
  assert all(isinstance(value, int | float) for row in rows for value in row.values())
  with logging.MetricLogger(root, start=3) as logger:
    logger.write(4, {'loss': 1.0})
  assert logging.read(root)[-1] == {'step': 4, 'loss': 1.0}
  assert [row['step'] for row in logging.read(root)[:-1]] == [row['step'] for row in rows if row['step'] <= 3]


def refused_or(function, *arguments):
  """Calls a function that may refuse its arguments in words of our own."""
  with contextlib.suppress(ValueError), contextlib.redirect_stdout(io.StringIO()):
    return function(*arguments)
  return None


def results():
  row = {'protocol': 'knn', 'label': 'class', 'split': 'test', 'representation': 'h', 'features': 'raw', 'seed': 0,
         'metric': 'accuracy', 'value': 0.5, 'k': 5, 'temperature': 0.1, 'data': 'omniglot', 'step': 3}
  valid = {'rows': [row, {**row, 'features': 'trained'}], 'seconds': 3.0, 'images_per_second': 4.0}
  rows = changed(row, plain_values()).map(lambda each: {**valid, 'rows': [row, each]})
  return st.one_of(mutated([json.dumps(valid).encode()]), st.one_of(rows, changed(valid, plain_values()), plain_values()
                                                                    ).map(lambda each: as_json(each).encode()))


def check_results(root, content):
  (root / 'results.json').write_bytes(content)
  refused_or(conclusion.show, str(root))
  config = tiny_config.get_config()
  config.steps = 3
  assert conclusion.is_done(str(root), 'omniglot', config) in (True, False)


def stored_configs():
  valid = tiny_config.get_config().to_dict()
  made = st.one_of(changed(valid, plain_values()), plain_values()).map(lambda each: as_json(each).encode())
  return st.one_of(mutated([json.dumps(valid).encode()]), made)


def check_stored_config(root, content):
  (root / 'config.json').write_bytes(content)
  stored = refused_or(workdir.read_config, str(root))
  if stored is not None:
    list(workdir.differences(stored, tiny_config.get_config()))
    refused_or(build.build, stored.to_dict(), 3630)


def environments():
  valid = [{'seed': 1, 'devices': 8, 'versions': {'jax': '0.10'}}]
  return st.one_of(mutated([json.dumps(valid).encode()]), plain_values().map(lambda each: as_json(each).encode()))


def check_environment(root, content):
  (root / 'environment.json').write_bytes(content)
  assert isinstance(workdir.last_start(str(root)), dict)


def configs():
  return changed(tiny_config.get_config().to_dict(), plain_values())


def check_config(root, config):
  try:
    build.build(config, 3630)
  except ValueError as error:
    assert 'config.' in str(error)


def check_traced_config(root, config):
  from ml_collections import ConfigDict

  try:
    experiment = build.build(config, 3630)
    source = build.load_source(config, 'pretrain')
    check(ConfigDict(config), experiment, source, mesh.make_mesh(1, 1, jax.devices()[:1]))
  except ValueError as error:
    assert 'config.' in str(error)


def fresh(root):
  shutil.rmtree(root)
  root.mkdir()


TARGETS = {
  'images': (images, check_image), 'sounds': (sounds, check_sound), 'archives': (archives, check_archive),
  'arrays': (arrays, check_archive), 'metrics': (lines, check_metrics), 'results': (results, check_results),
  'configs in files': (stored_configs, check_stored_config), 'environments': (environments, check_environment),
  'configs': (configs, check_config), 'traced configs': (configs, check_traced_config)}


def fuzz(root, name, count):
  strategy, check_one = TARGETS[name]
  tried = []

  @hypothesis.settings(
    max_examples=count, derandomize=True, database=None, deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck))
  @hypothesis.given(strategy())
  def run(value):
    tried.append(0)
    with warnings.catch_warnings():
      warnings.simplefilter('ignore')
      check_one(root, value)

  run()
  assert len(tried) >= count


@pytest.fixture(autouse=True)
def no_events(monkeypatch):
  """TensorBoard's files, a thread each, take longer than all else."""
  monkeypatch.setattr(logging, '_tensorboard', lambda *arguments: None)


@pytest.mark.parametrize('content', ['[]', '3', 'null', '{"steps": [[]]}', '{"a.b": 1}', '[' * 100_000])
def test_what_is_no_config_is_told(tmp_path, content):
  (tmp_path / 'config.json').write_text(content)
  with pytest.raises(ValueError, match='config.json does not hold the config of a run: '):
    workdir.read_config(str(tmp_path))


@pytest.mark.parametrize('line', [
  '{"step": 2, "loss": NaN}', '{"step": 2, "loss": 1e999}', '{"step": 2, "loss": "1"}', '{"step": true}', '[' * 100_000,
  '{"step": -1}', '{"step": 2, "\\ud800": 1}', f'{{"step": 2, "loss": {10**400}}}', '3', '{"step": 2, "loss": 1'])
def test_a_line_of_metrics_that_a_run_has_not_written_is_left_out(tmp_path, line):
  (tmp_path / 'metrics.jsonl').write_text(f'{{"step": 1, "loss": null}}\n{line}\n')
  with logging.MetricLogger(tmp_path, start=3) as logger:
    logger.write(4, {'loss': 1.0})
  assert [row['step'] for row in logging.read(tmp_path)] == [1, 4]


@pytest.mark.parametrize('name', TARGETS)
def test_a_few_inputs(place, name):
  if name == 'sounds':
    pytest.importorskip('soundfile')
  fuzz(place, name, COUNTS[name][0])


@pytest.mark.slow
@pytest.mark.parametrize('name', TARGETS)
def test_ten_thousand_inputs(place, name):
  assert sum(count for _, count in COUNTS.values()) == 10_000
  if name == 'images':
    pytest.importorskip('tensorflow')
  fuzz(place, name, COUNTS[name][1])
