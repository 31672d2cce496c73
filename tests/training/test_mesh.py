"""Meshes: N devices equal one, sharded parameters equal whole ones, and two processes equal one."""

import errno
import importlib.util
import pathlib
import socket
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import PartitionSpec

from jaxssl.core import State
from jaxssl.training import mesh as meshes

ROOT = pathlib.Path(__file__).parents[2]


def toy_state(optimizer):
  rng = np.random.default_rng(0)
  params = {
      'a': {'kernel': jnp.asarray(rng.normal(size=(6, 32)) / 3), 'bias': jnp.zeros(32)},
      'b': {'kernel': jnp.asarray(rng.normal(size=(32, 5)) / 6)},
  }
  return State(jnp.int32(0), jnp.int32(-1), params, {'mean': jnp.zeros(5)}, optimizer.init(params))


def toy_step(optimizer, state, batch):
  """A step that mixes the examples of the global batch, as batch norm and contrastive losses do."""

  def loss_fn(params):
    hidden = jnp.tanh(batch['x'] @ params['a']['kernel'] + params['a']['bias'][None])
    z = hidden @ params['b']['kernel']
    mean = z.mean(0)
    z = (z - mean[None]) / jnp.sqrt(z.var(0) + 1e-5)[None]
    return -jax.nn.log_softmax(z @ z.T).diagonal().mean(), mean

  (loss, mean), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  params = optax.apply_updates(state.params, updates)
  return state._replace(step=state.step + 1, params=params, stats={'mean': mean}, opt_state=opt_state), loss


def run(mesh, steps=3, min_size=2**16):
  optimizer = optax.adam(1e-2)
  shardings = meshes.state_shardings(mesh, jax.eval_shape(lambda: toy_state(optimizer)), min_size)
  state = jax.device_put(toy_state(optimizer), shardings)
  step = jax.jit(lambda s, b: toy_step(optimizer, s, b), out_shardings=(shardings, None), donate_argnums=0)
  rng = np.random.default_rng(1)
  for _ in range(steps):
    state, loss = step(state, meshes.shard_batch(mesh, {'x': rng.normal(size=(16, 6))}))
  return state, loss


@pytest.mark.parametrize('data, model', [(2, 1), (8, 1), (4, 2), (1, 8)])
def test_any_mesh_equals_one_device(data, model):
  with jax.enable_x64(True):
    one, loss = run(meshes.make_mesh(1, 1, jax.devices()[:1]))
    many, loss_many = run(meshes.make_mesh(data, model, jax.devices()[:data * model]), min_size=64)
  kernel = many.params['a']['kernel']
  assert kernel.sharding.spec == (PartitionSpec(None, 'model') if model > 1 else PartitionSpec())
  assert many.opt_state[0].mu['a']['kernel'].sharding == kernel.sharding
  assert kernel.addressable_shards[0].data.shape == (6, 32 // model)
  np.testing.assert_allclose(loss_many, loss, rtol=1e-12)
  for got, want in zip(jax.tree.leaves(many), jax.tree.leaves(one), strict=True):
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_shard_batch_keeps_rows_in_order_and_splits_them():
  mesh = meshes.make_mesh(4, 2)
  batch = {'index': np.arange(8, dtype=np.int32), 'views': (np.arange(48, dtype=np.uint8).reshape(8, 2, 3),)}
  out = meshes.shard_batch(mesh, batch)
  assert out['index'].sharding.spec == PartitionSpec(('data', 'model'))
  assert {shard.data.shape for shard in out['views'][0].addressable_shards} == {(1, 2, 3)}
  assert out['views'][0].dtype == np.uint8
  np.testing.assert_array_equal(out['index'], batch['index'])
  np.testing.assert_array_equal(out['views'][0], batch['views'][0])
  assert meshes.local_rows(mesh, 8) == slice(0, 8)


def test_state_shardings_split_the_largest_divisible_axis_of_large_leaves():
  mesh = meshes.make_mesh(4, 2)
  leaves = {
      'kernel': jax.ShapeDtypeStruct((3, 3, 64, 128), jnp.float32),
      'square': jax.ShapeDtypeStruct((64, 64), jnp.float32),
      'odd': jax.ShapeDtypeStruct((6, 1001), jnp.float32),
      'prime': jax.ShapeDtypeStruct((101, 103), jnp.float32),
      'small': jax.ShapeDtypeStruct((2, 2), jnp.float32),
      'vector': jax.ShapeDtypeStruct((4096,), jnp.float32),
  }
  specs = {name: sharding.spec for name, sharding in meshes.state_shardings(mesh, leaves, 1000).items()}
  whole = PartitionSpec()
  assert specs == {
      'kernel': PartitionSpec(None, None, None, 'model'), 'square': PartitionSpec(None, 'model'),
      'odd': PartitionSpec('model', None), 'prime': whole, 'small': whole, 'vector': whole}
  assert all(s.is_fully_replicated for s in meshes.state_shardings(meshes.make_mesh(), leaves, 1).values())


def test_replicate_takes_typed_keys():
  tree = meshes.replicate(meshes.make_mesh(), {'key': jax.random.key(3), 'x': np.arange(3)})
  assert all(leaf.sharding.is_fully_replicated and len(leaf.devices()) == 8 for leaf in jax.tree.leaves(tree))
  assert jnp.array_equal(jax.random.key_data(tree['key']), jax.random.key_data(jax.random.key(3)))


@pytest.mark.parametrize('make, message', [
    (lambda: meshes.make_mesh(3), r'mesh.data=3 times mesh.model=1 is 3, but there are 8 devices'),
    (lambda: meshes.make_mesh(model=3), r'mesh.model=3 does not divide the 8 devices: choose one of \[1, 2, 4, 8\]'),
    (lambda: meshes.make_mesh(0), r'data=0'),
    (lambda: meshes.make_mesh(model=-1), r'model=-1'),
    (lambda: meshes.local_rows(meshes.make_mesh(), 12), r'batch_size=12 .* 8 devices: choose a positive multiple of 8'),
    (lambda: meshes.shard_batch(meshes.make_mesh(), {'views': (np.zeros((12, 3)),)}),
     r"batch\['views'\]\[0\].*\[12, 3\]"),
    (lambda: meshes.shard_batch(meshes.make_mesh(), {'x': np.float32(0)}), r"batch\['x'\] has shape \[\]"),
    (lambda: meshes.initialize_distributed('host:1', num_processes=2), r'process_id=None'),
])
def test_errors_name_the_value_and_the_choices(make, message):
  with pytest.raises(ValueError, match=message):
    make()


LAUNCHERS = (
    'SLURM_STEP_NUM_TASKS', 'OMPI_COMM_WORLD_SIZE', 'TPU_WORKER_HOSTNAMES', 'TPU_PROCESS_ADDRESSES',
    'MEGASCALE_NUM_SLICES', 'KUBERNETES_SERVICE_HOST', 'JOB_COMPLETION_INDEX')


@pytest.fixture
def joined(monkeypatch):
  """The arguments of every call that joins processes, in an environment without a launcher."""
  for name in LAUNCHERS:
    monkeypatch.delenv(name, raising=False)
  calls = []
  monkeypatch.setattr(jax.config, 'update', lambda *args: None)
  monkeypatch.setattr(meshes, '_joined', False)
  monkeypatch.setattr(jax.distributed, 'initialize', lambda *args, **options: calls.append((args, options)))
  return calls




def options(detection):
  return {'cluster_detection_method': detection, 'initialization_timeout': 2 * meshes.PATIENCE}


JAX_FINDS_ALL = ((None, None, None), options(None))


@pytest.mark.parametrize('environment, several', [
    ({}, False),
    ({'SLURM_STEP_NUM_TASKS': '4'}, True), ({'SLURM_STEP_NUM_TASKS': '1'}, False),
    ({'OMPI_COMM_WORLD_SIZE': '2'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'a,b'}, True), ({'TPU_WORKER_HOSTNAMES': 'a'}, False),
    ({'TPU_PROCESS_ADDRESSES': 'a:1,b:1', 'TPU_WORKER_HOSTNAMES': 'a'}, True),
    ({'TPU_WORKER_HOSTNAMES': 'a', 'MEGASCALE_NUM_SLICES': '2'}, True),
    ({'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'JOB_COMPLETION_INDEX': '0'}, True),
    ({'KUBERNETES_SERVICE_HOST': '10.0.0.1'}, False),
])
def test_the_environment_of_a_launcher_is_seen(joined, monkeypatch, environment, several):
  for name, value in environment.items():
    monkeypatch.setenv(name, value)
  meshes.initialize_distributed(auto=False)
  assert joined == []
  meshes.initialize_distributed()
  assert joined == ([JAX_FINDS_ALL] if several else []) and meshes.launched() == several


@pytest.mark.parametrize('address', ['host', 'host:', ':12', 'host:abc', 'host:0', 'host:99999', 'host:-1'])
def test_an_address_that_jax_would_crash_on_is_refused(joined, address):
  message = f'--coordinator must be HOST:PORT, with a port from 1 to 65535, got {address!r}'
  with pytest.raises(ValueError, match=message):
    meshes.initialize_distributed(address, 2, 0)
  assert joined == []


def test_a_port_that_is_taken_is_refused(joined):
  with socket.socket(socket.AF_INET6) as other:
    other.bind(('', 0))
    other.listen()
    port = other.getsockname()[1]
    with pytest.raises(ValueError, match=f'process 0 cannot listen at port {port}: Address already in use; choose'):
      meshes.initialize_distributed(f'localhost:{port}', 2, 0)
    meshes.initialize_distributed(f'localhost:{port}', 2, 1)  # Which only calls there.
  assert len(joined) == 1


def test_a_machine_whose_ipv6_is_switched_off_can_be_the_first(joined, monkeypatch):
  def without_ipv6(family=socket.AF_INET, *arguments, create=socket.socket):
    if family == socket.AF_INET6:
      raise OSError(errno.EAFNOSUPPORT, 'Address family not supported by protocol')
    return create(family, *arguments)

  with socket.socket() as other:
    other.bind(('', 0))
    port = other.getsockname()[1]
  monkeypatch.setattr(socket, 'socket', without_ipv6)
  meshes.initialize_distributed(f'localhost:{port}', 2, 0)
  assert len(joined) == 1


def test_explicit_arguments_win(joined, monkeypatch):
  meshes.initialize_distributed('host:1', 2, 1)
  monkeypatch.setenv('SLURM_STEP_NUM_TASKS', '4')
  meshes.initialize_distributed('host:1', 2, 1)
  meshes.initialize_distributed('host:1')  # The rest is Slurm's.
  monkeypatch.setenv('KUBERNETES_SERVICE_HOST', '10.0.0.1')
  monkeypatch.setenv('JOB_COMPLETION_INDEX', '0')
  meshes.initialize_distributed('host:1', 2, 1)
  detected, ignored = (options(each) for each in (None, 'deactivate'))
  assert joined == [(('host:1', 2, 1), detected), (('host:1', 2, 1), detected), (('host:1', None, None), detected),
                    (('host:1', 2, 1), ignored)]


# Stands for the package of that name, and for the cluster that it asks: a job of two pods, one of which this is.
KUBERNETES = """
  from types import SimpleNamespace as Some

  class ApiException(Exception):
    pass

  labels = {'job-name': 'pretrain'}
  pod = Some(metadata=Some(name='pretrain-0', labels=labels, owner_references=[Some(controller=True, kind='Job')]),
             spec=Some(subdomain='pods'))
  job = Some(metadata=Some(name='pretrain', labels={}), spec=Some(parallelism=2))
  config = Some(load_incluster_config=lambda: None)
  client = Some(CoreV1Api=lambda: Some(list_namespaced_pod=lambda **options: Some(items=[pod])),
                BatchV1Api=lambda: Some(read_namespaced_job=lambda **options: job),
                exceptions=Some(ApiException=ApiException))
"""
POD = """
  import socket
  import jax
  from jax._src import clusters
  from jaxssl.training import mesh
  clusters.K8sCluster._namespace = classmethod(lambda cls: 'default')
  socket.gethostbyname = lambda name: '127.0.0.1'
  jax._src.distributed.State.initialize = lambda self, *args, **options: print(
      *clusters.ClusterEnv.auto_detect_unset_distributed_params(*args[:4], None, 1)[:3])
  mesh.initialize_distributed()
"""


def test_the_pods_of_a_kubernetes_job_find_each_other_as_jax_has_it(tmp_path):
  (tmp_path / 'kubernetes.py').write_text(textwrap.dedent(KUBERNETES))
  env = {'JAX_PLATFORMS': 'cpu', 'PATH': '/usr/bin:/bin', 'HOSTNAME': 'pretrain-0', 'JOB_COMPLETION_INDEX': '1',
         'KUBERNETES_SERVICE_HOST': '10.0.0.1', 'PYTHONPATH': f'{tmp_path}:{ROOT}'}
  command = [sys.executable, '-c', textwrap.dedent(POD)]
  found = subprocess.run(command, env=env, capture_output=True, text=True)
  assert found.stdout == 'pretrain-0.pods:55527 2 1\n', found.stderr
  if importlib.util.find_spec('kubernetes') is None:
    env['PYTHONPATH'] = str(ROOT)
    alone = subprocess.run([sys.executable, '-W', 'ignore', '-c', 'from jaxssl.training import mesh; '
                            'mesh.initialize_distributed()'], env=env, capture_output=True, text=True)
    message = 'ValueError: the processes of the run do not find each other: coordinator_address should be defined. Tell'
    assert message in alone.stderr


PROCESS = textwrap.dedent("""
  import sys
  import jax, numpy as np
  from jaxssl.training import mesh as meshes
  meshes.initialize_distributed('127.0.0.1:' + sys.argv[2], 2, int(sys.argv[1]))
  mesh = meshes.make_mesh()
  assert mesh.shape['data'] == 4 and jax.process_count() == 2
  x = np.random.default_rng(0).normal(size=(12, 3)).astype(np.float32)
  rows = meshes.local_rows(mesh, 12)
  assert rows == slice(6 * jax.process_index(), 6 * jax.process_index() + 6), rows
  batch = meshes.shard_batch(mesh, {'x': x[rows]})
  tree = meshes.replicate(mesh, {'w': np.arange(3, dtype=np.float32), 'key': jax.random.key(7)})
  noise = jax.jit(jax.random.normal)(tree['key'])
  assert noise == jax.random.normal(jax.random.key(7)) and len(tree['key'].sharding.device_set) == 4
  total = jax.jit(lambda x, w: ((x @ w)[:, None] * x).mean(0))(batch['x'], tree['w'])
  np.testing.assert_allclose(total, ((x @ np.arange(3.0))[:, None] * x).mean(0), rtol=1e-5)
  print('same')
""")


def test_two_processes_share_one_batch():
  with socket.socket() as free:
    free.bind(('127.0.0.1', 0))
    port = str(free.getsockname()[1])
  env = {'JAX_PLATFORMS': 'cpu', 'XLA_FLAGS': '--xla_force_host_platform_device_count=2',
         'JAX_CPU_COLLECTIVES_IMPLEMENTATION': 'gloo', 'PATH': '/usr/bin:/bin', 'PYTHONPATH': str(ROOT)}
  command = [sys.executable, '-c', PROCESS]
  processes = [
      subprocess.Popen([*command, str(i), port], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
      for i in range(2)]
  try:
    outputs = [process.communicate(timeout=120)[0] for process in processes]
  finally:
    for process in processes:
      process.kill()
  assert all(output.endswith('same\n') for output in outputs), outputs
