"""Devices: the one file that speaks of them.

Methods are written for the global batch. The trainer puts the state and the batch on a mesh with the axes 'data' and
'model': the batch is split over both, large parameters and what the optimizer keeps of them over 'model' (fully sharded
data parallelism in groups of devices), and `jax.jit` inserts the communication.
"""

import contextlib
import os
import re
import socket
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

PATIENCE = 300  # Seconds in which all processes of a run have to be there.
_joined = False


def joined() -> bool:
  """Returns whether this process has joined the others of its run."""
  return _joined


def initialize_distributed(
    coordinator: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    auto: bool | None = None,
) -> None:
  """Joins the processes of a run on several hosts; call once, before anything touches a device.

  Args:
    coordinator: 'host:port' of process 0; with `num_processes` and `process_id`, all that a bare cluster needs.
    num_processes: how many processes take part.
    process_id: the number of this one, from 0.
    auto: True lets JAX read what is not given from the environment (Cloud TPU, Slurm, Open MPI, Kubernetes); False
      never does; None does where `launched` says so. A single process needs no call.

  Raises:
    ValueError: if the arguments do not suffice, or the processes do not find each other.
  """
  given = [value is not None for value in (coordinator, num_processes, process_id)]
  if auto is None:
    auto = launched()
  if any(given) and not all(given) and not auto:
    raise ValueError(
        '--coordinator, --num_processes and --process_id go together: '
        f'got coordinator={coordinator!r}, num_processes={num_processes!r}, process_id={process_id!r}')
  if not (auto or all(given)):
    return
  if coordinator is not None:
    _check_coordinator(coordinator, process_id == 0)
  # JAX would catch SIGTERM from here on; `training.hosts.Stop` says how a run stops.
  jax.config.update('jax_enable_preemption_service', False)
  # Slurm and Open MPI still say which device of its host is a process's own.
  detection = 'deactivate' if all(given) and _in_kubernetes_job() else None
  global _joined
  try:
    with _waiting():
      jax.distributed.initialize(
          coordinator, num_processes, process_id, cluster_detection_method=detection,
          initialization_timeout=2 * PATIENCE)
    _joined = True
  except (RuntimeError, ValueError) as error:
    raise ValueError(
        f'the processes of the run do not find each other: {" ".join(str(error).split()).rstrip(".")}. '
        'Tell each of them --coordinator HOST:PORT --num_processes N --process_id I, or --nodistributed to train alone'
    ) from error


def _check_coordinator(coordinator: str, is_first: bool) -> None:
  """Raises ValueError for an address that JAX would crash on; process 0, which listens there, needs it to be free."""
  host, colon, port = coordinator.rpartition(':')
  if not (host and colon and re.fullmatch('[0-9]+', port) and 0 < int(port) < 2**16):
    raise ValueError(f'--coordinator must be HOST:PORT, with a port from 1 to 65535, got {coordinator!r}')
  if not is_first:
    return
  try:
    # Not `has_ipv6`, which is true of a machine whose IPv6 is switched off.
    with socket.socket(socket.AF_INET6 if socket.has_dualstack_ipv6() else socket.AF_INET) as probe:
      probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
      probe.bind(('', int(port)))
  except OSError as error:
    raise ValueError(f'--coordinator={coordinator}: process 0 cannot listen at port {port}: '
                     f'{os.strerror(error.errno or 0)}; choose another port for all processes') from error


@contextlib.contextmanager
def _waiting() -> Iterator[None]:
  """Says after a while that the others are missing, and ends the process when it has waited long enough."""

  def end():
    print(f'error: the processes of the run do not find each other within {PATIENCE} seconds: are all of them started, '
          'with the same --coordinator and --num_processes and each its own --process_id?', file=sys.stderr, flush=True)
    os._exit(1)  # JAX waits in C++, and would end in an abort.

  tell = lambda: print('Waiting for the other processes of the run …', file=sys.stderr, flush=True)
  timers = [threading.Timer(10, tell), threading.Timer(PATIENCE, end)]
  for timer in timers:
    timer.daemon = True
    timer.start()
  try:
    yield
  finally:
    for timer in timers:
      timer.cancel()


def launched() -> bool:
  """Returns whether a launcher started this process as one of several, as far as the environment tells.

  That is: a step of Slurm or a run of Open MPI of more than one process, several hosts or slices of TPUs on GKE, or a
  pod of an indexed Kubernetes Job, whose number of pods JAX asks the cluster for (`pip install "jax[k8s]"`).
  """
  hosts = os.environ.get('TPU_PROCESS_ADDRESSES', os.environ.get('TPU_WORKER_HOSTNAMES', '')).split(',')
  counters = ('SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE', 'MEGASCALE_NUM_SLICES')
  return len(hosts) > 1 or any(int(os.environ.get(name, 1)) > 1 for name in counters) or _in_kubernetes_job()


def _in_kubernetes_job() -> bool:
  return {'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX'} <= set(os.environ)


def make_mesh(data: int = -1, model: int = 1, devices: Sequence[jax.Device] | None = None) -> Mesh:
  """Returns a mesh of `data` x `model` devices.

  Args:
    data: groups of devices that hold a copy of the parameters each; -1: as many as `model` leaves.
    model: devices of a group, which split every large parameter; all devices of all groups split the batch.
    devices: those to use, by default all of all hosts.
  """
  devices = jax.devices() if devices is None else list(devices)
  if model < 1 or (data < 1 and data != -1):
    raise ValueError(f'mesh.data must be positive or -1 and mesh.model positive: got data={data}, model={model}')
  count = len(devices)
  if count % model:
    raise ValueError(f'mesh.model={model} does not divide the {count} devices: choose one of {divisors(count)}')
  data = count // model if data == -1 else data
  if data * model != count:
    raise ValueError(
        f'mesh.data={data} times mesh.model={model} is {data * model}, but there are {count} devices: '
        f'data=-1 takes all ({count // model})')
  return jax.make_mesh((data, model), ('data', 'model'), axis_types=(AxisType.Auto,) * 2, devices=devices)


def divisors(n: int) -> list[int]:
  """Returns the divisors of `n`."""
  return [k for k in range(1, n + 1) if n % k == 0]


def local_rows(mesh: Mesh, batch_size: int) -> slice:
  """Returns which rows of the global batch this process has to supply to `shard_batch`."""
  shards = mesh.size
  if batch_size < 1 or batch_size % shards:
    raise ValueError(
        f'batch_size={batch_size} cannot be split over {shards} devices: choose a positive multiple of {shards}')
  indices = rows_sharding(mesh).devices_indices_map((batch_size,))
  rows = {indices[device][0].indices(batch_size)[:2] for device in mesh.local_devices}
  start, stop = min(rows)[0], max(rows)[1]
  if sum(high - low for low, high in rows) != stop - start:
    raise ValueError('the devices of this process do not stand side by side on the mesh: give make_mesh `devices` '
                     'sorted by process')
  return slice(start, stop)


def rows_sharding(mesh: Mesh) -> NamedSharding:
  """Returns the sharding of an array [b, ...] whose rows are split over all devices of the mesh."""
  return NamedSharding(mesh, PartitionSpec(mesh.axis_names))


def local_share(mesh: Mesh, batch_size: int) -> tuple[int, int]:
  """Returns (host, hosts): the rows of this process are the part number `host` of `hosts` equal parts of the batch."""
  rows = local_rows(mesh, batch_size)
  size = rows.stop - rows.start
  if batch_size % size or rows.start % size:
    raise ValueError(f'every process must have as many devices as the others: this one has {size} of the {batch_size} '
                     f'rows of a batch, from row {rows.start} on')
  return rows.start // size, batch_size // size


def shard_batch(mesh: Mesh, batch: Any) -> Any:
  """Returns the batch as global arrays whose first axis is split over all devices of the mesh.

  Args:
    mesh: from `make_mesh`.
    batch: a pytree of NumPy arrays [b, ...]: this process's rows (see `local_rows`), all of them on one host.
  """
  sharding, shards = rows_sharding(mesh), mesh.local_mesh.size

  def put(path, array):
    array = np.asarray(array)
    if array.ndim == 0 or array.shape[0] % shards:
      raise ValueError(
          f'batch{jax.tree_util.keystr(path)} has shape {list(array.shape)}: its first axis must be a multiple of the '
          f'{shards} devices of this process')
    return jax.make_array_from_process_local_data(sharding, array)

  return jax.tree_util.tree_map_with_path(put, batch)


def replicate(mesh: Mesh, tree: Any) -> Any:
  """Returns the pytree with every leaf copied to all devices; every process must give the same values."""
  sharding = NamedSharding(mesh, PartitionSpec())

  def put(leaf):
    if not jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
      return jax.device_put(leaf, sharding)
    # Across processes JAX places the words of a key, but not a key.
    return jax.random.wrap_key_data(jax.device_put(jax.random.key_data(leaf), sharding), impl=jax.random.key_impl(leaf))

  return jax.tree.map(put, tree)


def ambient() -> Mesh | None:
  """Returns the mesh of `jax.set_mesh` where it has several devices, which share batches; else None."""
  mesh = jax.sharding.get_mesh()
  return mesh if not mesh.empty and mesh.size > 1 else None


def alone() -> contextlib.AbstractContextManager[Any]:
  """Within it, a process of several computes on its own devices only, and so needs none of the others."""
  if jax.process_count() == 1:
    return contextlib.nullcontext()
  return jax.set_mesh(make_mesh(devices=jax.local_devices()))


def to_host(array: Any) -> np.ndarray:
  """Returns the whole of an array, also where other processes hold a part of it: then all of them have to call it."""
  if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
    array = jax.random.key_data(array)
  if getattr(array, 'is_fully_addressable', True) or array.is_fully_replicated:
    return np.asarray(array)
  return multihost_utils.process_allgather(array, tiled=True)


def whole(tree: Any) -> Any:
  """Returns the pytree, laid out on a mesh, with all of every leaf on every device; all processes have to call it."""
  if all(leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(tree)):
    return tree
  shardings = jax.tree.map(lambda leaf: NamedSharding(leaf.sharding.mesh, PartitionSpec()), tree)
  return jax.jit(lambda tree: tree, out_shardings=shardings)(tree)


def own(tree: Any) -> Any:
  """Returns a `whole` pytree on the devices of this process: what it computes with when it is `alone`."""
  if jax.process_count() == 1:
    return tree
  return replicate(make_mesh(devices=jax.local_devices()), jax.tree.map(lambda leaf: leaf.addressable_data(0), tree))


def state_shardings(mesh: Mesh, state: Any, min_size: int = 2**16) -> Any:
  """Returns the sharding of every leaf of a training state, for `jax.jit` and for restoring checkpoints.

  Without a model axis everything is replicated. With one, each leaf of two or more axes and at least `min_size`
  elements is split along its largest axis that the model axis divides. Only the shape decides, so the moments of an
  optimizer are split as their parameter is.

  Args:
    mesh: from `make_mesh`.
    state: a pytree of arrays or of `jax.ShapeDtypeStruct`.
    min_size: leaves with fewer elements stay whole.
  """
  shards = mesh.shape['model']

  def spec(leaf) -> PartitionSpec:
    axes = [axis for axis, length in enumerate(leaf.shape) if length % shards == 0]
    if shards == 1 or leaf.ndim < 2 or leaf.size < min_size or not axes:
      return PartitionSpec()
    largest = max(axes, key=lambda axis: (leaf.shape[axis], axis))
    return PartitionSpec(*('model' if axis == largest else None for axis in range(leaf.ndim)))

  return jax.tree.map(lambda leaf: NamedSharding(mesh, spec(leaf)), state)
