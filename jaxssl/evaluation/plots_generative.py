"""Pictures of what a generative method makes: sheets of images, curves of vectors, the use of its code.

Needs matplotlib and Pillow (in the `train` extra); imported when first used.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxssl.evaluation.plots import ACCENT, DPI, FAINT, INK, Path, clean, drawn, figure_of, picture

GAP, WIDE = 4, 14  # Pixels between tiles, and where a sheet is divided.
SMALLEST, LARGEST = 56, 128  # Sides of tiles: small images are enlarged by a whole number, large ones reduced.
CAPTION = 16  # Pixels above a frame of an animation.
MOST_BARS = 64
LINES = ('#9aa7b2', ACCENT, '#d1495b', '#2e9e5b')


def tile_size(image: np.ndarray) -> tuple[int, int]:
  """Returns the height and width at which `image` [h, w, c] is drawn, its proportions kept."""
  longest = max(image.shape[:2])
  scale = max(1, round(SMALLEST / longest)) if longest < LARGEST else LARGEST / longest
  height, width = (max(1, round(side * scale)) for side in image.shape[:2])
  return height, width


def sheet(
    rows: Mapping[str, Sequence[np.ndarray]] | Sequence[Sequence[np.ndarray]],
    path: Path,
    *,
    heads: Sequence[str] = (),
    divided: Sequence[int] = (),
) -> None:
  """Draws images of one size in rows and columns.

  Args:
    rows: in each row as many images [h, w, c], uint8 or, clipped to it, in [0, 1]; a mapping's keys stand beside them.
    path: the PNG to write.
    heads: what stands above the columns.
    divided: columns before which there is a wider gap.

  Raises:
    ValueError: if there is nothing to draw, or the rows differ in length.
  """
  captions = list(rows) if isinstance(rows, Mapping) else [''] * len(rows)
  lines = [list(row) for row in (rows.values() if isinstance(rows, Mapping) else rows)]
  columns = len(lines[0]) if lines else 0
  if not columns or any(len(line) != columns for line in lines):
    raise ValueError(f'a sheet needs rows of as many images each, got {[len(line) for line in lines]}')
  height, width = tile_size(lines[0][0])
  left = 2 * GAP + (8 + max(map(_text_width, captions)) if any(captions) else 0)
  top = 2 * GAP + (18 if heads else 0)
  x = [left + j * (width + GAP) + (WIDE - GAP) * sum(j >= each for each in divided) for j in range(columns)]
  y = [top + i * (height + GAP) for i in range(len(lines))]
  canvas = np.full((y[-1] + height + 2 * GAP, x[-1] + width + 2 * GAP, 3), 255, np.uint8)
  frame = tuple(int(FAINT[i:i + 2], 16) for i in (1, 3, 5))
  for i, line in enumerate(lines):
    for j, image in enumerate(line):
      canvas[y[i] - 1:y[i] + height + 1, x[j] - 1:x[j] + width + 1] = frame
      canvas[y[i]:y[i] + height, x[j]:x[j] + width] = drawn(picture(image), height, width)
  texts = [*((2 * GAP, y[i] + height / 2, caption, 'left') for i, caption in enumerate(captions)),
           *((x[j] + width / 2, 2 * GAP + 7, head, 'center') for j, head in enumerate(heads))]
  _write(canvas, path, [text for text in texts if text[2]])


def _text_width(text: str) -> int:
  """Returns the width of `text` in pixels, as `_write` sets it."""
  from matplotlib.font_manager import FontProperties
  from matplotlib.textpath import TextPath
  if not text.strip():
    return 0
  return int(np.ceil(TextPath((0, 0), text, prop=FontProperties(size=8)).get_extents().x1 * DPI / 72)) + 1


def _write(canvas: np.ndarray, path: Path, texts: Sequence[tuple[float, float, str, str]]) -> None:
  """Writes the canvas with texts (x, y, text, alignment) on it, placed by pixels from the top left."""
  if not texts:  # Then it takes milliseconds, also while a run trains.
    from PIL import Image
    Image.fromarray(canvas).save(path)
    return
  height, width, _ = canvas.shape
  figure = figure_of(width / DPI, height / DPI)
  figure.set_layout_engine('none')
  figure.figimage(canvas)
  for x, y, text, alignment in texts:
    figure.text(x / width, 1 - y / height, text, fontsize=8, color=INK, ha=alignment, va='center')
  figure.savefig(path)


def animation(frames: Mapping[str, Path], path: Path, *, seconds: float = 0.2, last: float = 3.0) -> None:
  """Writes a GIF that shows pictures of one size one after the other, over and over, each below its caption.

  Args:
    frames: PNG files by caption, in order.
    path: the GIF to write.
    seconds: for which a frame is shown.
    last: seconds for which the last one is.

  Raises:
    ValueError: if there are no frames.
  """
  from PIL import Image, ImageDraw
  if not frames:
    raise ValueError('frames is empty: there is nothing to show')
  made = []
  for caption, file in frames.items():
    with Image.open(file) as picture:
      frame = Image.new('RGB', (picture.width, picture.height + CAPTION), 'white')
      frame.paste(picture, (0, CAPTION))
    ImageDraw.Draw(frame).text((2 * GAP, 2 * GAP), caption, fill=INK)
    made.append(frame.quantize(256))
  milliseconds = [round(1000 * seconds)] * (len(made) - 1) + [round(1000 * last)]
  made[0].save(path, format='GIF', save_all=True, append_images=made[1:], duration=milliseconds, loop=0)


def curves(rows: Mapping[str, np.ndarray], path: Path, columns: int = 4) -> None:
  """Draws vectors: in a panel an example, its values in order, the first kind as a pale line and the others over it.

  Args:
    rows: for each kind, such as 'original' and 'reconstruction', n vectors [n, ...].
    path: the PNG to write.
    columns: panels side by side, at most.
  """
  rows = {name: np.asarray(values).reshape(len(values), -1) for name, values in rows.items()}
  count = len(next(iter(rows.values())))
  columns = min(columns, count)
  lines = -(-count // columns)
  figure = figure_of(2.6 * columns, 1.5 * lines + 0.4)
  panels = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True).ravel()
  for i, axes in enumerate(panels):
    clean(axes, '')
    axes.set_visible(i < count)
    axes.tick_params(labelbottom=i + columns >= count)
    for j, (name, values) in enumerate(rows.items() if i < count else ()):
      axes.plot(values[i], color=LINES[j % len(LINES)], linewidth=1.2 if j else 2.4, label=name)
  figure.legend(*panels[0].get_legend_handles_labels(), loc='outside upper left', ncols=len(rows), fontsize=8,
                frameon=False, labelcolor=INK)
  figure.savefig(path)


def latent_kl(kl: np.ndarray, path: Path) -> None:
  """Draws the KL divergence of each latent dimension, [d] nats, the largest first."""
  title = f'KL of each latent dimension, in nats; {np.sum(kl):.1f} in all'
  _bars(np.sort(kl)[::-1], title, 'latent dimension, by its KL').figure.savefig(path)


def codebook(counts: np.ndarray, path: Path, title: str) -> None:
  """Draws the share of all codes that each entry has, of how often they are used, [k], the most used first."""
  share = np.sort(counts)[::-1] / max(counts.sum(), 1)
  axes = _bars(share, title, 'entry of the codebook, by its use')
  axes.axhline(1 / len(counts), color=INK, linewidth=0.9, linestyle=(0, (4, 3)))
  axes.annotate('even use', (1, 1 / len(counts)), xycoords=('axes fraction', 'data'), xytext=(-4, 3),
                   textcoords='offset points', ha='right', va='bottom', fontsize=8, color=INK)
  axes.set_ylabel('share of codes', fontsize=8, color=INK)
  axes.figure.savefig(path)


def _bars(values: np.ndarray, title: str, about: str):
  """Returns the axes of bars, or of one filled outline where they are too many to tell apart."""
  figure = figure_of(7, 2.8)
  axes = figure.subplots()
  clean(axes, title)
  axes.set_axisbelow(True)
  axes.grid(axis='x', visible=False)
  if len(values) <= MOST_BARS:
    axes.bar(np.arange(1, len(values) + 1), values, color=ACCENT)
  else:
    axes.stairs(values, np.arange(len(values) + 1) + 0.5, fill=True, color=ACCENT)
  axes.set_xlim(0.4 - len(values) / 200, len(values) + 0.6)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_xlabel(about, fontsize=8, color=INK)
  return axes
