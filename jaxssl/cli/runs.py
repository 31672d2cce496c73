"""A run's state: made, restored from its work directory, started from another run's encoder."""

import contextlib
import hashlib
import os
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from jaxssl import export
from jaxssl.build import Experiment, Source, build
from jaxssl.cli import workdir
from jaxssl.evaluation import sequences
from jaxssl.training import mesh
from jaxssl.training.checkpoints import Checkpoints

Batch = dict[str, Any]


class Run(NamedTuple):
  """A pretrained method, as its work directory holds it."""

  config: ConfigDict
  experiment: Experiment
  state: Any
  initial: Any  # The state before training: the random encoder to compare with.
  meta: dict[str, Any]

  def whole(self) -> 'Run':
    """Returns the run with its states whole on every device, as evaluation wants them; all processes call it."""
    return self._replace(state=mesh.whole(self.state), initial=mesh.whole(self.initial))

  def own(self) -> 'Run':
    """Returns a `whole` run on the devices of this process, for what it computes alone."""
    return self._replace(state=mesh.own(self.state), initial=mesh.own(self.initial))

  @property
  def hears(self) -> bool:
    """Whether the data are audio, not images."""
    return self.experiment.hears

  @property
  def examples(self) -> str:
    """What to call the examples."""
    if isinstance(self.meta['batch']['inputs'], list):
      return 'examples'
    return 'clips' if self.hears else 'images'

  @property
  def channels(self) -> int:
    """The channels of the images that the encoder was trained on; of paired views, those of the first."""
    inputs = self.meta['batch']['inputs']
    return (inputs[0] if isinstance(inputs, list) else inputs)['shape'][-1]

  @property
  def representations(self) -> tuple[str, ...]:
    """The representations to evaluate: the config's; without any the method's first, of audio all of whole clips."""
    known = self.experiment.method.representations
    return representations(self.config.evaluation) or (sequences.of_whole(known) if self.hears else known[:1])


def representations(options: ConfigDict) -> tuple[str, ...]:
  """Returns the names that config.evaluation.representation lists, with commas between them; it may list none."""
  names = (name.strip() for name in options.representation.split(','))
  return tuple(dict.fromkeys(name for name in names if name))


def initial_state(experiment: Experiment, config: ConfigDict, devices: Mesh, batch: Batch) -> Any:
  """Returns the state at step 0, laid out on the mesh; `batch` is a host batch, or its shapes."""
  init = initializer(experiment)
  key = jax.random.key(config.seed)
  shardings = mesh.state_shardings(devices, jax.eval_shape(init, key, batch))
  zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), batch)
  return jax.jit(init, out_shardings=shardings)(key, zeros)


def initializer(experiment: Experiment) -> Callable:
  """Returns (key, host batch) -> initial state."""

  def init(key, batch):
    prepare_key, init_key = jax.random.split(key)
    return experiment.method.init(init_key, experiment.prepare(batch, prepare_key))

  return init


def describe_batch(batch: Batch, batch_size: int) -> dict[str, Any]:
  """Returns the shapes and types of a host batch, as JSON, so that the state can be rebuilt without the data.

  They are those of the whole batch, `batch_size`, also where this process has a part of it.
  """
  describe = lambda leaf: {'shape': [batch_size, *leaf.shape[1:]], 'dtype': str(leaf.dtype)}
  return {key: [describe(v) for v in value] if isinstance(value, tuple) else describe(value)
          for key, value in batch.items()}


def batch_like(description: dict[str, Any]) -> Batch:
  """The inverse of `describe_batch`: a batch of `jax.ShapeDtypeStruct`."""
  struct = lambda leaf: jax.ShapeDtypeStruct(tuple(leaf['shape']), leaf['dtype'])
  return {key: tuple(map(struct, value)) if isinstance(value, list) else struct(value)
          for key, value in description.items()}


def fingerprint(source: Source) -> str:
  """Returns the SHA-256 of 64 examples spread over the data, or of all, so that other data are noticed."""
  inputs, digest = source.inputs, hashlib.sha256()
  chosen = np.unique(np.linspace(0, len(source) - 1, 64).astype(int))
  if hasattr(inputs, 'content'):  # Files: their bytes, which no decoder changes.
    parts = [inputs.content(i) for i in chosen]
  elif hasattr(inputs, 'window'):  # Audio: the first second.
    parts = [inputs.window(i, 0, inputs.rate) for i in chosen]
  else:
    parts = jax.tree.leaves(inputs[chosen])
  for part in parts:
    digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
  return digest.hexdigest()


def prints(source: Source, test: Source) -> dict[str, str]:
  """Returns the fingerprints of what a run trains on and is tested on, for several processes to compare."""
  if jax.process_count() == 1:
    return {}
  return {'the content of the examples (SHA-256)': fingerprint(source),
          'the content of the test examples (SHA-256)': fingerprint(test)}


def restore(path: str, step: int | None = None, devices: Mesh | None = None) -> Run:
  """Reads a run back from its work directory, also while it is still training.

  By default all devices get the whole state, whatever those that it was trained on.
  """
  config = workdir.read_config(path)
  with Checkpoints(os.path.join(path, 'checkpoints'), read_only=True) as checkpoints:
    meta = checkpoints.meta()  # Of any step: the data are the same throughout.
    experiment = build(config.to_dict(), meta['num_examples'])
    initial = initial_state(experiment, config, devices or mesh.make_mesh(), batch_like(meta['batch']))
    state, meta = checkpoints.restore(initial, step)
  return Run(config, experiment, state, initial, meta)


def refuse_other(path: str, config: ConfigDict) -> None:
  """Raises ValueError if the run in the work directory `path` is another config's."""
  stored = _stored_config(path)
  if stored is not None:
    workdir.refuse_other(path, stored, config)


def _stored_config(path: str) -> Mapping[str, Any] | None:
  """Returns the config of the checkpoints in `path`, or without any that of config.json; None where there is none."""
  directory = os.path.join(path, 'checkpoints')
  if os.path.isdir(directory):
    with Checkpoints(directory, read_only=True) as checkpoints:
      if checkpoints.latest_step() is not None:
        return checkpoints.meta()['config']
  with contextlib.suppress(ValueError):  # Absent, or damaged: then `workdir.enter` tells.
    return workdir.read_config(path)
  return None


def start_from(state: Any, path: str, experiment: Experiment) -> Any:
  """Returns `state` with the encoder, and its batch-norm averages, of another run or of a file.

  A copy of the encoder in the state, such as MoCo's, starts from there too. Of I-JEPA it is the moving average that is
  taken, as in evaluation.

  Args:
    state: of `experiment`.
    path: a work directory, or a .safetensors file with the names of torchvision or timm.
    experiment: what is to be trained.

  Raises:
    ValueError: if there is no encoder, or another one.
  """
  has_encoder = lambda tree: isinstance(tree, dict) and 'encoder' in tree
  try:
    if path.endswith('.safetensors'):
      encoder: Any = getattr(experiment.method, 'encoder', None)
      donors = list(export.load(path, encoder, getattr(experiment.recipe, 'input_size', 224)).values())
    else:
      other = restore(os.path.abspath(path))
      _, evaluated = other.experiment.method.backbone(other.state)  # First, for where it is not what is trained.
      trees = (other.state.params, *other.state.stats.values())
      donors = [*evaluated.values(), *(tree['encoder'] for tree in trees if has_encoder(tree))]
  except (ValueError, OSError) as error:
    raise ValueError(f'config.init_from = {path!r}: {error}') from error
  shapes = lambda tree: jax.tree.map(jnp.shape, tree)

  def transplant(tree):
    if not has_encoder(tree):
      return tree
    ours = tree['encoder']
    theirs = next((donor for donor in donors if shapes(donor) == shapes(ours)), None)
    if theirs is None:
      raise ValueError(f'config.init_from = {path!r}: its encoder differs in shape from that of config.method')
    # Copies, since each buffer of a state is donated by itself.
    placed = lambda new, old: jnp.copy(jax.device_put(new, old.sharding))
    return {**tree, 'encoder': jax.tree.map(placed, theirs, ours)}

  params, stats = jax.tree.map(transplant, (state.params, state.stats), is_leaf=has_encoder)
  return state._replace(params=params, stats=stats)
