"""Pack the Omniglot background images into jaxssl/data/omniglot.npz.

  python scripts/pack_omniglot.py omniglot_background_small1.zip omniglot_background_small2.zip

Lake, Salakhutdinov and Tenenbaum (2015), "Human-level concept learning through probabilistic program induction";
https://github.com/brendenlake/omniglot, MIT licence (jaxssl/data/OMNIGLOT_LICENSE.txt). The two small background sets
hold five alphabets each; Greek and Latin stand in both and are packed once: 8 alphabets, 242 characters, 20 drawers.

Drawings are 105x105 strokes of about three pixels, dark on light. They are inverted, resized whole (nothing is cropped)
and written as uint8, ink 255 on ground 0. A Hamming window neither rings, as Lanczos does, nor moves strokes by part of
a pixel, as Pillow's box does when the ratio is no integer. With the same Pillow, NumPy and zlib the file is the same
byte for byte.
"""

import argparse
import io
import pathlib
import re
import zipfile
from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageOps

OUT = pathlib.Path(__file__).resolve().parents[1] / 'jaxssl' / 'data' / 'omniglot.npz'
# .../Balinese/character01/0108_01.png: the alphabet, its character, the character's number in all Omniglot, the drawer.
DRAWING = re.compile(r'([^/]+)/character(\d+)/(\d+)_(\d+)\.png$')


def read(archives: Iterable[pathlib.Path]) -> dict[tuple[str, int, int], bytes]:
  """PNG bytes by (alphabet, character, drawer), each drawing once, sorted by that key."""
  drawings: dict[tuple[str, int, int], bytes] = {}
  for archive in archives:
    with zipfile.ZipFile(archive) as opened:
      for name in opened.namelist():
        if found := DRAWING.search(name):
          key = (found[1], int(found[2]), int(found[4]))
          content = opened.read(name)
          if drawings.setdefault(key, content) != content:
            raise ValueError(f'{name} in {archive} differs from the drawing of the same name in another archive')
  return dict(sorted(drawings.items()))


def shrink(png: bytes, size: int) -> np.ndarray:
  """One drawing as uint8 [size, size], ink bright, each pixel a weighted mean over the area that it covers."""
  with Image.open(io.BytesIO(png)) as image:
    ink = ImageOps.invert(image.convert('L'))
  return np.asarray(ink.resize((size, size), Image.Resampling.HAMMING))


def pack(archives: Iterable[pathlib.Path], size: int) -> dict[str, np.ndarray]:
  """The arrays of the bundled file.

  `images` uint8 [n, size, size, 1]; `drawer` uint8 [n], 1 to 20; `character` int16 [n], a row of `character_names`;
  `alphabet` uint8 [n], a row of `alphabet_names`.
  """
  drawings = read(archives)
  alphabets = sorted({alphabet for alphabet, _, _ in drawings})
  characters = sorted({(alphabet, number) for alphabet, number, _ in drawings})
  row = {character: i for i, character in enumerate(characters)}
  return {
    'images': np.stack([shrink(png, size) for png in drawings.values()])[..., None],
    'character': np.array([row[key[:2]] for key in drawings], np.int16),
    'alphabet': np.array([alphabets.index(key[0]) for key in drawings], np.uint8),
    'drawer': np.array([key[2] for key in drawings], np.uint8),
    'character_names': np.array([f'{alphabet}/character{number:02d}' for alphabet, number in characters]),
    'alphabet_names': np.array(alphabets),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
  parser.add_argument('archives', nargs='+', type=pathlib.Path, metavar='ZIP')
  parser.add_argument('--out', type=pathlib.Path, default=OUT)
  parser.add_argument('--size', type=int, default=28, help='side of the packed images in pixels (default: 28)')
  args = parser.parse_args()
  arrays = pack(args.archives, args.size)
  # NumPy stamps the members of an .npz with the fixed date 1980-01-01: equal arrays make equal files.
  np.savez_compressed(args.out, **arrays)  # type: ignore[arg-type]
  print(f'{args.out}: {len(arrays["images"])} drawings, {args.out.stat().st_size} bytes')


if __name__ == '__main__':
  main()
