"""Which implementation computes a loss."""

import jax

from jaxssl.losses._collectives import Devices

# Scores that a device may store before the memory they take, and the time to pass through it, outweigh the tiles' cost.
DENSE_SCORES = {'cpu': 1024**2}
DENSE_SCORES_OF_ACCELERATOR = 8192**2
KERNELS = ('pallas_tpu', 'mosaic_gpu')


def choose(name: str | None, rows: int, candidates: int, devices: Devices, kernel: bool = True) -> str:
  """Returns the implementation: `name`, or for None by size and platform.

  Args:
    name: 'dense', 'tiled', 'ring', 'pallas_tpu', 'mosaic_gpu' or None.
    rows: of this device.
    candidates: that this device's rows are compared with.
    devices: those that share the batch.
    kernel: whether there are kernels of Pallas for this loss.

  Raises:
    ValueError: for a ring without an axis to pass along, or a kernel that does not exist or fit the device.
  """
  if name == 'ring' and not devices.names:
    raise ValueError(
        "implementation='ring' passes embeddings from device to device: it needs an axis_name, or a mesh with an axis "
        "'data' set by jax.set_mesh, got neither")
  if name in KERNELS and not kernel:
    raise ValueError(f"implementation={name!r} is not there for this loss: choose 'dense', 'tiled' or 'ring'")
  if name == 'mosaic_gpu' and jax.default_backend() == 'gpu' and not _is_hopper(device := jax.devices()[0]):
    raise ValueError(
        "implementation='mosaic_gpu' needs a Hopper GPU (H100, H200), of compute capability 9.0, got "
        f"{device.device_kind}: choose 'dense', 'tiled' or 'ring'")
  if name is not None:
    return name
  if _few(rows, candidates):
    return 'dense'
  return 'ring' if devices.count > 1 else 'tiled'


def dense_or_tiled(name: str | None, rows: int, candidates: int) -> str:
  """Returns the implementation, where there are these two only: `name`, or for None by size and platform."""
  return name or ('dense' if _few(rows, candidates) else 'tiled')


def _few(rows: int, candidates: int) -> bool:
  return rows * candidates <= DENSE_SCORES.get(jax.default_backend(), DENSE_SCORES_OF_ACCELERATOR)


def _is_hopper(device: jax.Device) -> bool:
  return getattr(device, 'compute_capability', '') == '9.0'
