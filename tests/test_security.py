"""Nothing that a user loads is run: no pickles, no evaluated text, no path that leads out of the work directory."""

import ast
import html.parser
import json
import os
import pathlib
import shutil
import sys

import jax
import matplotlib
import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, os.path.join(os.path.dirname(__file__), 'cli'))
from tiny_config import get_config

from jaxssl.cli import workdir
from jaxssl.cli.eval import evaluate
from jaxssl.cli.train import train

ROOT = pathlib.Path(__file__).parents[1]
FOLDERS = ('jaxssl', 'configs', 'examples', 'benchmarks', 'scripts')
CODE = [ROOT / 'train.py', ROOT / 'eval.py', *sorted(path for each in FOLDERS for path in (ROOT / each).rglob('*.py'))]
# What runs what it reads.
MODULES = {'pickle', 'cPickle', '_pickle', 'cloudpickle', 'dill', 'joblib', 'marshal', 'shelve', 'code'}
CALLS = {'eval', 'exec', '__import__', 'yaml.load', 'yaml.unsafe_load', 'torch.load', 'os.system', 'os.popen',
         'pd.read_pickle', 'pandas.read_pickle', 'tempfile.mktemp'}
NAME = '<script>alert(1)<script>"\'&'


def dangers(source):
  """Yields what in a program could run what it reads."""
  for node in ast.walk(ast.parse(source)):
    if isinstance(node, ast.Import | ast.ImportFrom):
      names = [node.module] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
      yield from (name for name in names if (name or '').split('.')[0] in MODULES)
    elif isinstance(node, ast.Call):
      name = ast.unparse(node.func)
      keywords = {each.arg: ast.unparse(each.value) for each in node.keywords}
      if name in CALLS or keywords.get('shell', 'False') != 'False':
        yield name
      if name in ('np.load', 'numpy.load') and keywords.get('allow_pickle') != 'False':
        yield f'{name} without allow_pickle=False'
      if keywords.get('allow_pickle', 'False') != 'False':
        yield f'{name}(allow_pickle={keywords["allow_pickle"]})'


@pytest.mark.parametrize('path', CODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_our_code_runs_nothing_that_it_reads(path):
  assert list(dangers(path.read_text(encoding='utf-8'))) == []


@pytest.mark.parametrize('source', [
  'import pickle', 'from marshal import loads', 'np.load(file)', 'np.load(file, allow_pickle=True)', 'eval(text)',
  'yaml.load(text)', 'subprocess.run(text, shell=True)', 'np.savez(file, allow_pickle=True)', 'import os, dill.source',
])
def test_the_test_sees_what_would(source):
  assert list(dangers(source))


CHANGES = ('open', 'os.rename', 'os.remove', 'os.mkdir', 'shutil.rmtree')
WATCHED = (*CHANGES, 'pickle.find_class', 'os.system', 'os.exec', 'os.posix_spawn', 'subprocess.Popen',
           'socket.connect', 'socket.getaddrinfo')
EVENTS: list[tuple] = []
WATCHING: list[bool] = []


def watch(event, arguments):
  if WATCHING and event in WATCHED:
    EVENTS.append((event, *arguments))


sys.addaudithook(watch)  # For good, since hooks cannot be taken off: so it looks only while it is told to.


@pytest.fixture
def events():
  """What the interpreter tells of pickles, processes, connections and files that are opened."""
  EVENTS.clear()
  WATCHING.append(True)
  yield EVENTS
  WATCHING.clear()


def written(events):
  """The paths of all files that were written, removed or renamed."""
  found = []
  for event, path, *rest in events:
    if event in CHANGES[1:]:
      found += [path, *rest[:1]] if event == 'os.rename' else [path]
    elif event == 'open' and isinstance(path, str | bytes | os.PathLike):
      mode, flags = (*rest, None, 0)[:2]
      writes = any(letter in mode for letter in 'wax+') if isinstance(mode, str) else flags & (os.O_WRONLY | os.O_RDWR)
      found += [path] if writes else []
  return [os.path.realpath(os.fsdecode(path)) for path in found]


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  path = tmp_path_factory.mktemp('run')
  config = get_config()
  config.mesh.data, config.steps = 8, 2
  with jax.numpy_rank_promotion('raise'):
    train(config, str(path))
  return path


def hostile(run, path, images):
  """A copy of a run whose maker means no good: text that would do harm if it were run or shown as it is."""
  shutil.copytree(run, path)
  harm = f"__import__('os').system('touch {path}/harm')"
  config = json.loads((path / 'config.json').read_text())
  config |= {'init_from': harm, '<img src=x onerror=alert(1)>': '</td><script src="https://example.org/x.js"></script>'}
  config['data'] |= {'source': 'folder', 'path': str(images), 'name': f'$({harm})'}
  config['evaluation'] |= {'protocols': ['knn', 'linear'], 'pictures': True}
  config['evaluation']['knn']['k'] = 2
  (path / 'config.json').write_text(json.dumps(config))
  (path / 'environment.json').write_text(json.dumps([{'seed': NAME, 'versions': {NAME: harm, 'cos\nsystem': NAME}}]))
  (path / 'results.json').write_text('cos\nsystem\n(S"touch harm"\ntR.')
  (path / 'metrics.jsonl').write_text('{"step": 1, "loss": 2.0, "<script>": 1.0, "$x^{$": 2.0, "../../harm": 3.0}\n')
  return path


@pytest.fixture(scope='module')
def images(tmp_path_factory):
  """Images in classes of names that mean something to a browser, a legend, a terminal or a file system."""
  root = tmp_path_factory.mktemp('set') / NAME
  for i, name in enumerate((NAME, '_hidden', '$\\frac{', 'new\nline', os.fsdecode(b'\xff'), 'x' * 200)):
    (root / name).mkdir(parents=True)
    for j in range(4):
      pixels = np.random.default_rng(4 * i + j).integers(0, 256, (16, 16, 3), np.uint8)
      Image.fromarray(pixels).save(root / name / f'{j}{NAME}.png')
  return root


class Page(html.parser.HTMLParser):
  """Collects the tags of a page, its addresses, and the names of all attributes."""

  def __init__(self, text):
    super().__init__()
    self.tags, self.addresses, self.attributes, self.text = set(), [], set(), []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.tags.add(tag)
    self.attributes |= {name for name, _ in attrs}
    self.addresses += [value for name, value in attrs if name in ('src', 'href', 'data', 'action')]

  def handle_data(self, data):
    self.text.append(data)


def test_evaluating_a_hostile_run_runs_nothing_and_writes_into_its_directory_alone(
    run, images, tmp_path, events, monkeypatch):
  path = hostile(run, tmp_path / NAME, images)
  monkeypatch.chdir(tmp_path)
  evaluate(workdir.read_config(str(path)), str(path), embed=str(path / 'features.npz'))
  WATCHING.clear()
  assert not list(tmp_path.rglob('harm'))
  assert {event for event, *_ in events} <= {*CHANGES}
  caches = os.environ['JAX_COMPILATION_CACHE_DIR'], matplotlib.get_cachedir(), matplotlib.get_configdir()
  allowed = (str(path), os.devnull, *caches)
  assert not [each for each in written(events) if not each.startswith(allowed) and '__pycache__' not in each]
  page = Page((path / 'report.html').read_text(encoding='utf-8'))
  assert 'script' not in page.tags and page.attributes <= {
    'lang', 'charset', 'name', 'content', 'class', 'alt', 'src'}
  assert page.addresses and all(each.startswith('data:image/') for each in page.addresses)
  harmless = {'<img src=x onerror=alert(1)>', '</td><script src="https://example.org/x.js"></script>', NAME}
  assert harmless <= set(page.text)
  with np.load(path / 'features.npz', allow_pickle=False) as features:
    assert NAME in features['class_names'] and len(features['class_names']) == 6


def test_a_checkpoint_holds_no_pickle(run, events):
  from jaxssl.cli import runs

  runs.restore(str(run))
  WATCHING.clear()
  assert not [each for each in events if each[0] in ('pickle.find_class', 'subprocess.Popen', 'os.system')]
  files = [path for path in (run / 'checkpoints').rglob('*') if path.is_file()]
  assert files and not [path for path in files if path.suffix in ('.pkl', '.pickle', '.pt', '.joblib', '.npy', '.npz')]
  for path in files:
    content = path.read_bytes()
    assert not (content[:1] == b'\x80' and content[1:2] in (b'\x02', b'\x03', b'\x04', b'\x05')), path


@pytest.mark.parametrize('name', [
  'results.json', 'evaluations.jsonl', 'report.html', 'pictures', 'pictures/loss.png', 'metrics.jsonl',
  'config.json.tmp', '.lock', 'tensorboard', 'checkpoints/7'])
def test_links_out_of_the_work_directory_are_refused(run, tmp_path, name):
  copy, target = tmp_path / 'copy', tmp_path / 'precious'
  shutil.copytree(run, copy)
  target.write_text('precious')
  link = copy / name
  if link.is_dir():
    shutil.rmtree(link)
  link.unlink(missing_ok=True)
  link.parent.mkdir(exist_ok=True)
  link.symlink_to(target)
  config = workdir.read_config(str(copy))
  for command in (evaluate, train):
    with pytest.raises(ValueError, match=rf"--workdir .*copy holds the symbolic link '.*{name}': a run would write"):
      command(config, str(copy))
  assert target.read_text() == 'precious'


def test_the_work_directory_itself_may_be_a_link(run, tmp_path):
  (tmp_path / 'link').symlink_to(run)
  workdir.refuse_links(str(tmp_path / 'link'))
