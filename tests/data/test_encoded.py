"""Images in files, decoded: upright, in the mode that is asked for, cut to a square."""

import io
import os
import sys

import numpy as np
from PIL import Image

sys.path.insert(0, os.path.dirname(__file__))
from bad_files import encode, picture

from jaxssl.data import encoded


def test_decode_turns_by_exif():
  image = picture(0)
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned clockwise.
  turned = encode(image, 'PNG', exif=exif)
  np.testing.assert_array_equal(encoded.decode(turned), np.rot90(np.asarray(image), -1))
  assert not encoded.is_plain(turned) and encoded.is_plain(encode(image, 'JPEG'))


def test_decode_other_modes():
  image, grey = picture(1), picture(1).convert('L')
  white = np.full((20, 30, 3), 255)
  rgba = image.copy()
  rgba.putalpha(0)
  palette = image.convert('P', palette=Image.Palette.ADAPTIVE)
  cases = [
    (grey, 'PNG', grey.convert('RGB'), 0),
    (palette, 'PNG', palette.convert('RGB'), 0),
    (image.convert('CMYK'), 'JPEG', image, 12),
    (rgba, 'PNG', white, 0),
    (rgba, 'WEBP', white, 0),
    (Image.fromarray(np.asarray(grey).astype(np.uint16) * 257), 'PNG', grey.convert('RGB'), 0),
    (Image.fromarray(np.asarray(grey) > 128), 'PNG', np.repeat((np.asarray(grey) > 128)[..., None] * 255, 3, -1), 0),
    (image, 'BMP', image, 0),
  ]
  for given, form, expected, tolerance in cases:
    pixels = encoded.decode(encode(given, form))
    assert pixels.dtype == np.uint8 and pixels.shape == (20, 30, 3)
    np.testing.assert_allclose(pixels.astype(int), np.asarray(expected).astype(int), atol=tolerance)


def test_decode_palette_with_a_transparent_colour():
  image = Image.fromarray(np.array([[0, 1]], np.uint8), 'P')
  image.putpalette([10, 20, 30, 40, 50, 60])
  pixels = encoded.decode(encode(image, 'PNG', transparency=0))
  assert pixels.tolist() == [[[255, 255, 255], [40, 50, 60]]]


def test_decode_to_a_square_takes_the_centre():
  image = picture(2, 40, 80)
  expected = np.asarray(image.resize((20, 10), Image.Resampling.BICUBIC))[:, 5:15]
  np.testing.assert_array_equal(encoded.decode(encode(image, 'PNG'), size=10), expected)
  wide = encode(picture(2, 304, 912), 'JPEG', quality=95)  # Large enough to be decoded at a fraction of its size.
  with Image.open(io.BytesIO(wide)) as image:
    expected = image.resize((48, 16), Image.Resampling.BICUBIC).crop((16, 0, 32, 16))
  difference = encoded.decode(wide, size=16).astype(int) - np.asarray(expected).astype(int)
  assert abs(difference).mean() < 1
  assert encoded.decode(wide, channels=1, size=16).shape == (16, 16, 1)
