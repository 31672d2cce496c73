"""Audio from .npz files and folders: what they hold, how they are split, and what happens when they are wrong."""

import subprocess
import sys

import numpy as np
import pytest

from jaxssl import data
from jaxssl.data import audio, encoded

RATE = 8000
LENGTHS = (900, 1500, 700, 4000, 1234, 801, 2000, 3000, 1000, 555)
OFFSETS = np.concatenate([[0], np.cumsum(LENGTHS)])


def noise(total=OFFSETS[-1], seed=0):
  return np.random.default_rng(seed).integers(-20000, 20000, total).astype(np.int16)


def sine(frequency, samples, rate, amplitude=0.5):
  return (amplitude * np.sin(2 * np.pi * frequency * np.arange(samples) / rate)).astype(np.float32)


def save(tmp_path, **arrays):
  path = tmp_path / 'set.npz'
  np.savez(path, **arrays)
  return str(path)


def npz(tmp_path, **changes):
  arrays = {'audio': noise(), 'offsets': OFFSETS, 'rate': RATE} | changes
  return save(tmp_path, **{key: value for key, value in arrays.items() if value is not None})


def waves(source):
  return [source.inputs.wave(i) for i in range(len(source))]


def assert_same_waves(ones, others):
  assert len(ones) == len(others)
  for one, other in zip(ones, others, strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.fixture
def write():
  """Writes a sound file; needs soundfile."""
  soundfile = pytest.importorskip('soundfile')

  def write(path, wave, rate=RATE, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, wave, rate, **options)

  return write


# Clips.


def test_windows_are_slices_and_zeros_beyond_the_end():
  waves = noise()
  clips = audio.in_memory(waves, OFFSETS, RATE)
  assert len(clips) == 10 and clips.lengths.tolist() == list(LENGTHS)
  indices, starts = np.array([3, 0, 9, 0]), np.array([100, 850, 0, 900])
  inputs, mask = clips.windows(indices, starts, 600)
  assert inputs.dtype == np.int16 and mask.dtype == bool and inputs.shape == mask.shape == (4, 600)
  for slot, (i, start) in enumerate(zip(indices, starts, strict=True)):
    expected = waves[OFFSETS[i] + start : min(OFFSETS[i] + start + 600, OFFSETS[i + 1])]
    np.testing.assert_array_equal(inputs[slot, : len(expected)], expected)
    assert mask[slot].sum() == len(expected) and mask[slot, : len(expected)].all()
    assert not inputs[slot, len(expected) :].any()


def test_padded_cuts_and_pads():
  clips = audio.in_memory(noise(), OFFSETS, RATE)
  inputs, mask = data.padded(clips.take(np.array([9, 3])), [1, 0, 1], 800)
  assert inputs.dtype == np.float32 and mask.sum(1).tolist() == [800, 555, 800]
  np.testing.assert_array_equal(inputs[1, :555] * 32768, noise()[-555:])
  np.testing.assert_array_equal(inputs[0], clips.wave(3)[:800])


def test_int16_and_float_are_one_another():
  wave = noise(1000)
  np.testing.assert_array_equal(audio.to_int16(audio.to_float(wave)), wave)
  assert audio.to_int16(np.array([1.5, -1.5, 1.0])).tolist() == [32767, -32768, 32767]


# Arguments.


@pytest.mark.parametrize('arguments, message', [
  (('bundled', None, None, 'train', RATE), "source='bundled' is unknown.*'tfds', 'folder', 'npz'"),
  (('npz', None, None, 'training', RATE), "split='training' is unknown; did you mean 'train'"),
  (('folder', None, None, 'train', RATE), "path=None: source='folder' needs"),
  (('npz', None, '', 'train', RATE), "path=None: source='npz' needs"),
  (('tfds', None, None, 'train', RATE), "name=None: source='tfds'"),
  (('npz', None, 'x', 'train', 0), 'rate=0 must be at least 1'),
])
def test_wrong_arguments(arguments, message):
  if arguments[0] == 'tfds':
    pytest.importorskip('tensorflow_datasets')
  with pytest.raises(ValueError, match=message):
    data.load_audio(*arguments)


# .npz files.


def test_npz_with_splits(tmp_path):
  path = save(
    tmp_path, rate=RATE, train_audio=noise(), train_offsets=OFFSETS, train_labels=np.arange(10) % 3 + 4,
    train_speakers=np.array(list('bbbbbaaaaa')), test_audio=noise(30, 1), test_offsets=np.array([0, 10, 30]),
    test_labels=np.array([9, 4]), test_speakers=np.array(['zoe', 'a']))
  for split in ('pretrain', 'train'):
    source = data.load_audio('npz', None, path, split, RATE)
    assert_same_waves(waves(source), [wave / np.float32(32768) for wave in np.split(noise(), OFFSETS[1:-1])])
    assert source.name == 'set' and source.labels.tolist() == [0, 1, 2] * 3 + [0]
    assert source.groups.tolist() == [1] * 5 + [0] * 5 and source.groups.dtype == source.labels.dtype == np.int64
  source = data.load_audio('npz', 'ignored', path, 'test', RATE)
  assert source.inputs.lengths.tolist() == [10, 20] and source.labels.tolist() == [3, 0]
  assert source.class_names == ('4', '5', '6', '9') and source.group_names == ('a', 'b', 'zoe')
  assert source.groups.tolist() == [2, 0]


def test_npz_without_a_test_split_holds_out_a_fifth(tmp_path):
  path = npz(tmp_path, labels=np.repeat([0, 1], 5), speakers=np.arange(10) + 100, takes=np.arange(10))
  pretrain, train, test = (data.load_audio('npz', None, path, split, RATE) for split in data.SPLITS)
  assert_same_waves(waves(pretrain), waves(train))
  assert np.bincount(train.labels).tolist() == [4, 4] and np.bincount(test.labels).tolist() == [1, 1]
  assert sorted([*train.inputs.lengths, *test.inputs.lengths]) == sorted(LENGTHS)
  for source in (train, test):
    assert [LENGTHS[group] for group in source.groups] == source.inputs.lengths.tolist()
    assert source.group_names[0] == '100'


def test_npz_of_speakers_alone_holds_out_a_fifth_of_each(tmp_path):
  path = npz(tmp_path, speakers=np.array(list('ab' * 5)))
  test = data.load_audio('npz', None, path, 'test', RATE)
  assert test.labels is None and test.class_names == () and np.bincount(test.groups).tolist() == [1, 1]


def test_npz_float_and_resampling(tmp_path):
  pytest.importorskip('soxr')
  wave = np.concatenate([sine(440, 16000, 16000), sine(1000, 8000, 16000)]).astype(np.float64)
  offsets = np.array([0, 16000, 24000])
  path = save(
    tmp_path, train_audio=wave, train_offsets=offsets, test_audio=wave[:9], test_offsets=np.array([0, 9]), rate=16000.0)
  same = data.load_audio('npz', None, path, 'train', 16000)
  np.testing.assert_array_equal(same.inputs.wave(1), wave[16000:].astype(np.float32))
  source = data.load_audio('npz', None, path, 'train', RATE)
  assert source.inputs.lengths.tolist() == [8000, 4000] and source.inputs.rate == RATE
  np.testing.assert_allclose(source.inputs.wave(0)[200:-200], sine(440, 8000, RATE)[200:-200], atol=1e-3)
  np.testing.assert_allclose(source.inputs.wave(1)[200:-200], sine(1000, 4000, RATE)[200:-200], atol=1e-3)


@pytest.mark.parametrize('changes, message', [
  ({'audio': None}, "holds 'offsets', 'rate'; an .npz file of audio holds"),
  ({'train_audio': noise()}, "holds .*'train_audio'; an .npz file of audio"),
  ({'audio': noise().astype(np.int32)}, "'audio' is int32; audio is int16, or float"),
  ({'audio': noise().astype(np.float32)}, r'float32 in \[-\d+.0, \d+.0\]; float audio is in \[-1, 1\]'),
  ({'audio': np.full(OFFSETS[-1], np.nan)}, r'float audio is in \[-1, 1\]'),
  ({'audio': noise().reshape(-1, 2)}, r"'audio' has shape \(\d+, 2\)"),
  ({'audio': noise(0)}, r'shape \(0,\)'),
  ({'audio': np.array([noise(3), None], object)}, 'pickled objects are refused'),
  ({'offsets': None}, "'offsets' is missing"),
  ({'offsets': OFFSETS.astype(float)}, "'offsets' is float64"),
  ({'offsets': OFFSETS[:1]}, r'shape \(1,\); offsets are integers'),
  ({'offsets': OFFSETS[:-1]}, 'goes from 0 to .*offsets rise from 0'),
  ({'offsets': OFFSETS + 1}, 'goes from 1'),
  ({'offsets': OFFSETS[[0, 2, 1, *range(3, len(OFFSETS))]]}, r"'offsets' falls from \d+ to \d+ at clip 1"),
  ({'rate': np.inf}, "'rate' is inf; a rate is a whole number"),
  ({'rate': np.nan}, "'rate' is nan; a rate is a whole number"),
  ({'offsets': OFFSETS[[0, 1, 1, *range(2, 11)]]}, 'makes 1 empty clips, the first of them clip 1'),
  ({'rate': None}, "'rate' is missing"),
  ({'rate': 0}, "'rate' is 0; a rate is a whole number"),
  ({'rate': 8000.5}, "'rate' is 8000.5"),
  ({'rate': np.array([8000, 16000])}, r"'rate' is of shape \(2,\); a rate is"),
  ({'rate': 'fast'}, "'rate' is fast"),
  ({'labels': np.arange(9)}, '10 clips but 9 labels'),
  ({'labels': np.arange(10) - 1}, 'labels are integers'),
  ({'speakers': np.arange(3)}, '10 clips but 3 speakers'),
  ({'speakers': np.ones(10)}, "'speakers' is float64 of shape .*strings or integers"),
  ({'speakers': np.array(['a', None], object)}, 'pickled objects are refused'),
])
def test_npz_errors(tmp_path, changes, message):
  with pytest.raises(ValueError, match=message):
    data.load_audio('npz', None, npz(tmp_path, **changes), 'train', RATE)


def test_npz_file_errors(tmp_path):
  with pytest.raises(FileNotFoundError, match='no such file'):
    data.load_audio('npz', None, str(tmp_path / 'none.npz'), 'train', RATE)
  (tmp_path / 'text.npz').write_text('nothing')
  with pytest.raises(ValueError, match='not an .npz file; an .npz file of audio'):
    data.load_audio('npz', None, str(tmp_path / 'text.npz'), 'train', RATE)
  np.save(tmp_path / 'array.npy', noise(3))
  with pytest.raises(ValueError, match='a single array'):
    data.load_audio('npz', None, str(tmp_path / 'array.npy'), 'train', RATE)


# Files.


def test_a_file_of_another_rate_is_resampled(tmp_path, write):
  pytest.importorskip('soxr')
  write(tmp_path / 'a.wav', sine(440, 16000, 16000), 16000, subtype='FLOAT')
  wave = audio.to_float(audio.decode(str(tmp_path / 'a.wav'), RATE))
  assert len(wave) == 8000
  np.testing.assert_allclose(wave[200:-200], sine(440, 8000, RATE)[200:-200], atol=1e-3)
  write(tmp_path / 'b.wav', sine(6000, 16000, 16000), 16000)  # Above half the new rate: nothing may be left of it.
  assert np.abs(audio.decode(str(tmp_path / 'b.wav'), RATE)[200:-200]).max() < 10


def test_channels_are_averaged(tmp_path, write):
  left, right = noise(1000), noise(1000, 1)
  write(tmp_path / 'a.flac', np.stack([left, right], 1))
  expected = (left.astype(int) + right) / 2
  np.testing.assert_allclose(audio.decode(str(tmp_path / 'a.flac'), RATE), expected, atol=0.5)


@pytest.mark.parametrize('form, tolerance', [('wav', 0), ('flac', 0), ('ogg', 1500), ('mp3', 1500)])
def test_formats(tmp_path, write, form, tolerance):
  soundfile = pytest.importorskip('soundfile')
  if form.upper() not in soundfile.available_formats():
    pytest.skip(f'this soundfile has no {form}')
  wave = audio.to_int16(sine(440, 8000, RATE))
  write(tmp_path / f'a.{form}', wave)
  decoded = audio.decode(str(tmp_path / f'a.{form}'), RATE).astype(int)
  assert abs(len(decoded) - 8000) <= tolerance
  np.testing.assert_allclose(decoded[2000:6000], wave[2000:6000], atol=tolerance)


@pytest.mark.parametrize('form, rate', [('wav', RATE), ('flac', RATE), ('ogg', RATE), ('wav', 11025)])
def test_a_part_of_a_file_is_a_part_of_the_whole(tmp_path, write, form, rate):
  pytest.importorskip('soxr')
  path = str(tmp_path / f'a.{form}')
  write(tmp_path / f'a.{form}', noise(5000), rate)
  whole = audio.decode(path, RATE)
  np.testing.assert_array_equal(audio.decode(path, RATE, 1000, 2500), whole[1000:2500])
  np.testing.assert_array_equal(audio.decode(path, RATE, 3000), whole[3000:])


# Folders.


@pytest.fixture
def classes(tmp_path, write):
  """Two classes of ten, nested, in several formats and rates, among things that are not of the set."""
  pytest.importorskip('soxr')
  root = tmp_path / 'classes'
  for i in range(10):
    write(root / 'no' / 'deep' / f'{i}.{("wav", "flac")[i % 2]}', noise(1000 + 100 * i, i))
    write(root / 'yes' / f'{i}.{("WAV", "ogg")[i % 2]}', noise(2000 + 100 * i, i), (RATE, 16000)[i % 3 == 0])
  write(root / '.hidden' / 'a.wav', noise(1000))
  write(root / 'yes' / '._0.wav', noise(1000))
  (root / 'yes' / 'notes.txt').write_text('none')
  return root


def test_folder_of_classes(classes):
  pretrain, train, test = (data.load_audio('folder', None, str(classes), split, RATE) for split in data.SPLITS)
  assert train.class_names == ('no', 'yes') and train.name == 'classes' and train.groups is None
  assert pretrain.files == train.files and not set(train.files) & set(test.files)
  assert len(train) == 16 and np.bincount(test.labels).tolist() == [2, 2] and not train.skipped
  for i, (label, file) in enumerate(zip(train.labels, train.files, strict=True)):
    assert file.startswith(train.class_names[label] + '/')
    expected = audio.decode(str(classes / file), RATE)
    np.testing.assert_array_equal(train.inputs.window(i, 0, len(expected)), expected)
    assert train.inputs.lengths[i] == len(expected)


def test_folder_beyond_the_memory_is_decoded_when_used(classes, monkeypatch):
  held = data.load_audio('folder', None, str(classes), 'train', RATE)
  monkeypatch.setattr(encoded, 'MEMORY', 10_000)
  source = data.load_audio('folder', None, str(classes), 'train', RATE)
  assert source.inputs.decoded and not held.inputs.decoded and source.files == held.files
  np.testing.assert_array_equal(source.inputs.lengths, held.inputs.lengths)
  chosen = np.array([5, 0, 15, 5]), np.array([100, 0, 900, 0]), 1200
  for one, other in zip(source.inputs.windows(*chosen), held.inputs.windows(*chosen), strict=True):
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize('test', ['test', 'val'])
def test_folder_with_splits(tmp_path, write, test):
  for part, count in (('train', 3), (test, 2)):
    for label in 'ba':
      for i in range(count):
        write(tmp_path / part / label / f'{i}.wav', noise(1000, i))
  train, held = (data.load_audio('folder', None, str(tmp_path), split, RATE) for split in ('train', 'test'))
  assert train.files == tuple(f'train/{label}/{i}.wav' for label in 'ab' for i in range(3))
  assert train.labels.tolist() == [0, 0, 0, 1, 1, 1] and held.labels.tolist() == [0, 0, 1, 1]


def test_folder_unlabelled(tmp_path, write):
  for i in range(10):
    write(tmp_path / ('more' if i % 2 else '.') / f'{i}.wav', noise(1000, i))
  train, test = (data.load_audio('folder', None, str(tmp_path), split, RATE) for split in ('train', 'test'))
  assert (len(train), len(test)) == (8, 2) and train.labels is None


def test_folder_follows_no_links_to_directories(tmp_path, write):
  for i in range(5):
    write(tmp_path / 'set' / 'a' / f'{i}.wav', noise(1000, i))
  write(tmp_path / 'elsewhere' / 'x.wav', noise(1000))
  (tmp_path / 'set' / 'a' / 'loop').symlink_to(tmp_path / 'set', target_is_directory=True)
  (tmp_path / 'set' / 'b').symlink_to(tmp_path / 'elsewhere', target_is_directory=True)
  train, test = (data.load_audio('folder', None, str(tmp_path / 'set'), split, RATE) for split in ('train', 'test'))
  assert sorted(train.files + test.files) == [f'a/{i}.wav' for i in range(5)] and train.labels is None


def test_folder_reports_and_skips_what_it_cannot_use(tmp_path, write, caplog):
  for i in range(8):
    write(tmp_path / 'train' / f'{i}.flac', noise(8000, i))
  write(tmp_path / 'test' / '0.wav', noise(1000))
  whole = (tmp_path / 'train' / '1.flac').read_bytes()
  (tmp_path / 'train' / '1.flac').write_bytes(whole[:40])
  (tmp_path / 'train' / '2.flac').write_text('no sound')
  (tmp_path / 'train' / '3.flac').write_bytes(b'')
  write(tmp_path / 'train' / '4.flac', noise(399))
  write(tmp_path / 'train' / '5.wav', np.full(1000, np.nan), subtype='FLOAT')
  write(tmp_path / 'train' / '6.wav', noise(0))
  source = data.load_audio('folder', None, str(tmp_path), 'train', RATE)
  bad = ['train/1.flac', 'train/2.flac', 'train/3.flac', 'train/4.flac', 'train/5.wav', 'train/6.wav']
  assert [file for file, _ in source.skipped] == bad
  reasons = dict(source.skipped)
  assert reasons['train/4.flac'] == 'is too short: 0.050 s, less than 0.05 s' and 'NaN' in reasons['train/5.wav']
  assert source.files == ('train/0.flac', 'train/5.flac', 'train/6.flac', 'train/7.flac')
  assert "6 of the 10 recordings of the split 'train' left out:" in caplog.text
  assert all(file in caplog.text and reason in caplog.text for file, reason in source.skipped)
  np.testing.assert_array_equal(source.inputs.window(3, 0, 8000), noise(8000, 7))


def test_silent_and_clipped_files_are_read(tmp_path, write):
  write(tmp_path / 'train' / 'silent.wav', np.zeros(1000, np.int16))
  write(tmp_path / 'train' / 'loud.wav', sine(440, 1000, RATE, 3.0), subtype='FLOAT')
  write(tmp_path / 'test' / 'a.wav', noise(1000))
  loud, silent = waves(data.load_audio('folder', None, str(tmp_path), 'train', RATE))
  assert not silent.any()
  np.testing.assert_allclose(loud, np.clip(sine(440, 1000, RATE, 3.0), -1, 1), atol=4e-5)


def test_folder_errors(tmp_path):
  pytest.importorskip('soundfile')
  with pytest.raises(FileNotFoundError, match='no such folder'):
    data.load_audio('folder', None, str(tmp_path / 'none'), 'train', RATE)
  with pytest.raises(ValueError, match=r'holds no recording \(.wav, .flac, .ogg, .mp3\)'):
    data.load_audio('folder', None, str(tmp_path), 'train', RATE)
  (tmp_path / 'a.wav').write_text('none')
  with pytest.raises(ValueError, match='none of 1 recordings can be read; a.wav: '):
    data.load_audio('folder', None, str(tmp_path), 'train', RATE)
  with pytest.raises(ValueError, match='too few recordings'):
    data.load_audio('folder', None, str(tmp_path), 'test', RATE)


@pytest.mark.parametrize('missing', ['soundfile', 'soxr'])
def test_a_missing_package_names_the_extra(tmp_path, write, monkeypatch, missing):
  write(tmp_path / 'a.wav', noise(8000), 16000)
  monkeypatch.setitem(sys.modules, missing, None)
  with pytest.raises(ImportError, match=rf'need {missing}: pip install "jaxssl\[audio\]"'):
    data.load_audio('folder', None, str(tmp_path), 'train', RATE)


def test_npz_needs_no_further_package(tmp_path):
  script = f"""
import sys
from jaxssl import data
print(len(data.load_audio('npz', None, {npz(tmp_path)!r}, 'train', {RATE})))
print(sorted({{'tensorflow', 'tensorflow_datasets', 'soundfile', 'soxr', 'PIL'}} & set(sys.modules)))
"""
  run = subprocess.run([sys.executable, '-c', script], capture_output=True, text=True, check=True)
  assert run.stdout.split('\n')[:2] == ['8', '[]']
