"""Files as they are found in the wild, and as someone might make them: images, recordings and archives."""

import io
import os
import struct
import warnings
import zipfile
import zlib

import numpy as np
from PIL import Image

RATE = 8000


def picture(seed=0, height=20, width=30):
  """A smooth image, which every format keeps about as it is."""
  corners = np.random.default_rng(seed).integers(0, 256, (3, 3, 3)).astype(np.uint8)
  return Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC)


def encode(image, form, **options):
  file = io.BytesIO()
  image.save(file, form, **options)
  return file.getvalue()


def png(width, height, depth, colour, rows):
  """The bytes of a PNG whose header says what it is told to; `rows` are the uncompressed rows with their filters."""
  chunks = ((b'IHDR', struct.pack('>IIBBBBB', width, height, depth, colour, 0, 0, 0)),
            (b'IDAT', zlib.compress(rows)), (b'IEND', b''))
  return b'\x89PNG\r\n\x1a\n' + b''.join(
    struct.pack('>I', len(body)) + kind + body + struct.pack('>I', zlib.crc32(kind + body)) for kind, body in chunks)


def _bmp_of_size(width, height):
  content = bytearray(encode(picture(), 'BMP'))
  content[18:26] = struct.pack('<ii', width, height)
  return bytes(content)


def _webp_of_size(side):
  """An extended WebP whose canvas is `side` pixels wide and high, with one small frame."""
  frame = encode(picture(), 'WEBP')[12:]
  canvas = b'VP8X' + struct.pack('<I', 10) + bytes([0, 0, 0, 0]) + struct.pack('<I', side - 1)[:3] * 2
  return b'RIFF' + struct.pack('<I', 4 + len(canvas) + len(frame)) + b'WEBP' + canvas + frame


def fine_images():
  """Name -> the bytes of images that are to be read."""
  image, others = picture(), [picture(seed) for seed in range(1, 4)]
  alpha = image.copy()
  alpha.putalpha(100)
  return {
    'cmyk.jpg': encode(image.convert('CMYK'), 'JPEG'),
    'grey16.png': encode(Image.fromarray(np.asarray(image.convert('L')).astype(np.uint16) * 257), 'PNG'),
    'rgb16.png': png(2, 2, 16, 2, (b'\0' + bytes(range(12))) * 2),
    'animated.webp': encode(image, 'WEBP', save_all=True, append_images=others),
    'animated.png': encode(image, 'PNG', save_all=True, append_images=others),
    'pixel.png': encode(picture(height=1, width=1), 'PNG'),
    'line.png': encode(picture(height=1, width=5000), 'PNG'),
    'column.jpg': encode(picture(height=5000, width=1), 'JPEG'),
    'palette.png': encode(image.convert('P'), 'PNG'),
    'alpha.png': encode(alpha, 'PNG'),
    'bits.png': encode(image.convert('1'), 'PNG'),
    'png_called.jpg': encode(image, 'PNG'),
    'new\nline.png': encode(image, 'PNG'),
    'ünï 😀 \x1b[31m.png': encode(image, 'PNG'),
    '<script>alert(1)<script>"\'&.png': encode(image, 'PNG'),
    os.fsdecode(b'no text \xff.png'): encode(image, 'PNG'),
  }


def broken_images():
  """Name -> the bytes of files that are no images, or only a part of one, or say that they are too large."""
  forms = {'jpg': 'JPEG', 'png': 'PNG', 'webp': 'WEBP', 'bmp': 'BMP'}
  whole = {suffix: encode(picture(height=200, width=300), form) for suffix, form in forms.items()}
  return {
    **{f'truncated.{suffix}': content[: len(content) // 2] for suffix, content in whole.items()},
    'empty.png': b'',
    'gif_called.png': encode(picture(), 'GIF', save_all=True, append_images=[picture(1)]),
    'text.jpg': b'no image',
    'bomb.png': png(60_000, 60_000, 8, 2, b'\0' * 1000),
    'bomb.bmp': _bmp_of_size(60_000, 60_000),
    'bomb.webp': _webp_of_size(16_384),
  }


def broken_places(folder, suffix):
  """Makes what is called like a file and is none, in a folder: {its name: a word of the reason}."""
  (folder / f'directory{suffix}').mkdir()
  os.mkfifo(folder / f'pipe{suffix}')
  (folder / f'loop{suffix}').symlink_to(folder / f'loop{suffix}')
  (folder / f'dangling{suffix}').symlink_to(folder / 'nowhere')
  (folder / f'endless{suffix}').symlink_to('/dev/zero')
  return {f'pipe{suffix}': 'no regular file', f'loop{suffix}': 'symbolic links',
          f'dangling{suffix}': 'No such file', f'endless{suffix}': 'no regular file'}


def sine(samples=4000, frequency=440.0):
  return (0.5 * np.sin(2 * np.pi * frequency * np.arange(samples) / RATE)).astype(np.float32)


def sound(wave, rate=RATE, form='WAV', subtype='PCM_16'):
  import soundfile

  file = io.BytesIO()
  soundfile.write(file, wave, rate, format=form, subtype=subtype)
  return file.getvalue()


def wav(samples, rate=RATE, size=None):
  """The bytes of a wav file of 16 bits whose header gives any rate, and says that the data take `size` bytes."""
  data = np.asarray(samples, np.int16).tobytes()
  size = len(data) if size is None else size
  form = struct.pack('<HHIIHH', 1, 1, rate, 2 * rate & 0xFFFFFFFF, 2, 16)
  return (b'RIFF' + struct.pack('<I', (36 + size) & 0xFFFFFFFF) + b'WAVEfmt ' + struct.pack('<I', len(form)) + form
          + b'data' + struct.pack('<I', size) + data)


def fine_sounds():
  """Name -> the bytes of recordings that are to be read."""
  wave = sine()
  return {
    **{f'{subtype.lower()}.wav': sound(wave, subtype=subtype)
       for subtype in ('PCM_U8', 'PCM_16', 'PCM_24', 'PCM_32', 'FLOAT', 'DOUBLE', 'ALAW')},
    'six_channels.wav': sound(np.repeat(wave[:, None], 6, axis=1)),
    'fast.flac': sound(wave, 44_100, 'FLAC'),
    'new\nline.wav': sound(wave),
    os.fsdecode(b'no text \xff.wav'): sound(wave),
    'flac_called.wav': sound(wave, form='FLAC'),
    'piped.wav': wav(np.round(wave * 32767), size=0xFFFFFFFF),  # As ffmpeg writes where it cannot go back.
  }


def broken_sounds():
  """Name -> the bytes of files that are no recordings, or only a part of one, or say what cannot be."""
  wave = sine()
  samples = np.round(wave * 32767).astype(np.int16)
  flac = sound(wave, form='FLAC')
  lying = bytearray(flac)  # The lowest 36 bits of bytes 18 to 25 count the samples.
  lying[21:26] = bytes([flac[21] | 0x0F, 255, 255, 255, 255])
  return {
    'truncated.flac': flac[: len(flac) // 2],
    'truncated.wav': wav(samples)[:4044],
    'empty.wav': b'',
    'silent.wav': sound(wave[:0]),
    'text.flac': b'no sound',
    'nan.wav': sound(np.where(np.arange(4000) == 7, np.nan, wave), subtype='FLOAT'),
    'infinite.wav': sound(np.where(np.arange(4000) == 7, np.inf, wave), subtype='DOUBLE'),
    'slow.wav': wav(samples, rate=1),
    'too_fast.wav': wav(samples, rate=2_000_000_000),
    'no_rate.wav': wav(samples, rate=0),
    'lying.wav': wav(samples, size=4_000_000),
    'lying.flac': bytes(lying),
  }


def npz(**arrays):
  file = io.BytesIO()
  np.savez(file, **arrays)
  return file.getvalue()


def compressed(**arrays):
  file = io.BytesIO()
  np.savez_compressed(file, **arrays)
  return file.getvalue()


def npy(shape, dtype='|u1', content=b''):
  """The bytes of an array whose header says any shape and type."""
  header = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
  header += b' ' * (-(len(header) + 11) % 64) + b'\n'
  return b'\x93NUMPY\x01\x00' + struct.pack('<H', len(header)) + header + content


def archive(members, compression=zipfile.ZIP_STORED):
  """The bytes of a zip archive of (name, bytes), in that order, names as often as they come."""
  file = io.BytesIO()
  with warnings.catch_warnings(), zipfile.ZipFile(file, 'w', compression) as opened:
    warnings.simplefilter('ignore')  # Of a name that comes twice.
    for name, content in members:
      opened.writestr(name, content)
  return file.getvalue()


def with_declared_size(content, size):
  """A zip archive whose last member says that it takes `size` bytes."""
  content = bytearray(content)
  entry = content.rindex(b'PK\x01\x02')
  content[entry + 24 : entry + 28] = struct.pack('<I', size)
  return bytes(content)
