"""Images kept as JPEG, PNG, WebP or BMP bytes and decoded, with Pillow, when they are read."""

import concurrent.futures
import dataclasses
import io
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from jaxssl import extras

if TYPE_CHECKING:
  from PIL import Image

T = TypeVar('T')
MEMORY = 4 << 30  # Bytes: a data set that takes less, resized, is decoded once and held in memory.


@dataclasses.dataclass(frozen=True, eq=False)
class EncodedImages:
  """Random access to n encoded images.

  Attributes:
    read: The bytes of image i.
    rows: int64 [n]: image i of this split is `read(rows[i])`.
    size: Side in pixels of the squares that indexing returns; None where only `original` is wanted.
    channels: 1 or 3.
    plain: bool [n]: whether TensorFlow's decoder reads the image as `decode` does; see `is_plain`.
    name: What to call image i in an error.
  """

  read: Callable[[int], bytes]
  rows: np.ndarray
  size: int | None
  channels: int
  plain: np.ndarray
  name: Callable[[int], str] = 'image {}'.format

  def __len__(self) -> int:
    return len(self.rows)

  def content(self, index: int) -> bytes:
    """The encoded bytes of one image."""
    return self.read(int(self.rows[index]))

  def original(self, index: int) -> np.ndarray:
    """One image as it is, uint8 [h, w, c]."""
    return self._decoded(index, None)

  def square(self, index: int) -> np.ndarray:
    """One image as indexing returns it, uint8 [size, size, c]."""
    return self._decoded(index, self._side())

  def _decoded(self, index: int, size: int | None) -> np.ndarray:
    content = self.content(index)
    try:
      return decode(content, self.channels, size)
    except ImportError:
      raise
    except Exception as error:  # Broken files make Pillow raise errors of many kinds.
      raise OSError(f'{self.name(int(self.rows[index]))} cannot be decoded: {error or type(error).__name__}') from error

  def _side(self) -> int:
    if self.size is None:
      raise ValueError('size=None: images of many sizes make no array; load them with size=PIXELS')
    return self.size

  def __getitem__(self, indices: Any) -> np.ndarray:
    """uint8 [k, size, size, c] for an integer array [k] or a slice, decoded in threads."""
    side = self._side()
    indices = np.arange(len(self))[indices]
    squares = np.empty((len(indices), side, side, self.channels), np.uint8)

    def fill(slot: int) -> None:
      squares[slot] = self.square(int(indices[slot]))

    in_threads(fill, len(indices))
    return squares

  def take(self, keep: np.ndarray) -> 'EncodedImages':
    """The images `keep`, an integer array, in that order."""
    return dataclasses.replace(self, rows=self.rows[keep], plain=self.plain[keep])

  def fits(self) -> bool:
    """Whether all images, resized, may be held in memory."""
    return self.size is not None and len(self) * self.size**2 * self.channels <= MEMORY


def in_threads(function: Callable[[int], T], n: int) -> list[T]:
  """`[function(i) for i in range(n)]`, in threads: Pillow frees the interpreter while it decodes.

  Each task takes several i, without which small images spend more time on the queue than on decoding.
  """
  workers = os.cpu_count() or 1
  share = max(1, min(64, n // (4 * workers)))
  starts = range(0, n, share)
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    tasks = pool.map(lambda start: [function(i) for i in range(start, min(start + share, n))], starts)
    return [result for task in tasks for result in task]


def decode(content: bytes, channels: int = 3, size: int | None = None) -> np.ndarray:
  """uint8 [h, w, channels], upright; with `size`, short side to `size` pixels and the centre: [size, size, channels].

  EXIF rotation is applied; transparent pixels stand on white; 16-bit images keep their high byte.

  Raises:
    OSError: where the bytes are no image, or only a part of one (broken files make Pillow raise other errors, too).
    ImportError: where Pillow is not installed.
  """
  image = _open(content)
  if size is not None:
    # A JPEG is decoded at no more than 1/2, 1/4 or 1/8 of its size where twice the target remains.
    image.draft(None, (2 * size, 2 * size))
  image = _upright(image, 'L' if channels == 1 else 'RGB')
  if size is not None:
    image = _centre(image, size)
  return np.asarray(image).reshape(image.height, image.width, channels)


def is_plain(content: bytes) -> bool:
  """Whether TensorFlow's decoder reads the image as `decode` does: an upright JPEG, grey or RGB.

  Of a damaged JPEG both read the same, but of PNGs TensorFlow refuses some that Pillow reads. Raises an error of
  Pillow's where a checksum of a PNG is wrong, which `decode` does not look at.
  """
  _open(content).verify()
  image = _open(content)
  upright = image.getexif().get(0x0112, 1) == 1
  return image.format == 'JPEG' and image.mode in ('L', 'RGB') and upright


def require_pillow() -> None:
  """Raises ImportError, with the extra that brings it, where Pillow is not installed."""
  try:
    import PIL  # noqa: F401
  except ImportError as error:
    raise ImportError(f'images in files need Pillow: {extras.command("train")}') from error


def _open(content: bytes) -> 'Image.Image':
  require_pillow()
  from PIL import Image

  return Image.open(io.BytesIO(content), formats=('JPEG', 'PNG', 'WEBP', 'BMP'))


def _upright(image: 'Image.Image', mode: str) -> 'Image.Image':
  from PIL import Image, ImageOps

  image = ImageOps.exif_transpose(image)
  if image.mode.startswith('I'):  # 16-bit grey, in PNG.
    image = Image.fromarray((np.asarray(image).astype(np.int64) >> 8).astype(np.uint8))
  if image.mode in ('RGBA', 'LA', 'PA') or 'transparency' in image.info:
    image = image.convert('RGBA')
    image = Image.alpha_composite(Image.new('RGBA', image.size, 'white'), image)
  return image.convert(mode)


def _centre(image: 'Image.Image', size: int) -> 'Image.Image':
  """Short side to `size` pixels (bicubic, antialiased), then the central square."""
  from PIL import Image

  side = min(image.size)
  left, top = (image.width - side) / 2, (image.height - side) / 2
  box = (left, top, left + side, top + side)
  return image.resize((size, size), Image.Resampling.BICUBIC, box=box)
