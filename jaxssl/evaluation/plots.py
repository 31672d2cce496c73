"""Pictures of a run as PNG files: curves, a map of the embedding, nearest neighbours, views.

Needs matplotlib and Pillow, and openTSNE for t-SNE (all in the `train` extra); imported when first used.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxssl.evaluation.subsets import evenly_spread

Path = str | os.PathLike
Images = np.ndarray | Sequence[np.ndarray]

INK, FAINT, ACCENT = '#22303c', '#d5dbe0', '#1f6fb2'
RIGHT, WRONG, PLAIN = (46, 158, 91), (209, 73, 91), (255, 255, 255)
MAX_CLASSES = 18  # As many colours as matplotlib's tab20 has beside its two greys.
LONGEST_NAME = 40  # Characters of a class's name in a legend.
MAX_TSNE = 5000  # Points beyond which t-SNE takes minutes.
DPI = 120  # Pixels an inch. Sheets are written pixel by pixel.


def figure_of(width: float, height: float):
  """A figure of so many inches that belongs to no global state and needs no display."""
  from matplotlib.figure import Figure
  return Figure((width, height), dpi=DPI, facecolor='white', layout='constrained')


def panels(count: int, columns: int, width: float, height: float, **shared: bool):
  """Returns a figure of `count` panels of so many inches each, at most `columns` side by side, and their axes."""
  columns = min(columns, count)
  figure = figure_of(width * columns, height * -(-count // columns))
  axes = figure.subplots(-(-count // columns), columns, squeeze=False, **shared).ravel()
  for empty in axes[count:]:
    empty.set_visible(False)
  return figure, axes[:count]


def clean(axes, title: str) -> None:
  axes.set_title(title, loc='left', fontsize=11, color=INK, parse_math=False)
  axes.spines[['top', 'right']].set_visible(False)
  axes.spines[['left', 'bottom']].set_color(FAINT)
  axes.tick_params(colors=INK, labelsize=8, length=0)
  axes.grid(color=FAINT, linewidth=0.5)


def _smooth(values: np.ndarray, window: int) -> np.ndarray:
  """Centred moving average over `window` (odd) values, shorter at the ends."""
  kernel = np.ones(window)
  return np.convolve(values, kernel, 'same') / np.convolve(np.ones(len(values)), kernel, 'same')


def _curve(axes, rows: Sequence[Mapping[str, Any]], name: str) -> None:
  points = np.array([(row['step'], row[name]) for row in rows if isinstance(row.get(name), int | float)], np.float64)
  points = points.reshape(-1, 2)
  window = max(1, len(points) // 40) | 1
  clean(axes, name.replace('_', ' '))
  if window > 1:
    axes.plot(*points.T, color=ACCENT, linewidth=0.8, alpha=0.3)
    axes.plot(points[:, 0], _smooth(points[:, 1], window), color=ACCENT, linewidth=1.6)
  else:
    axes.plot(*points.T, color=ACCENT, linewidth=1.6, marker='o' if len(points) < 12 else None, markersize=3)
  axes.xaxis.get_major_locator().set_params(integer=True)
  axes.set_xlabel('step', fontsize=8, color=INK)


def metric_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
  """Returns the names of all numbers in the rows of metrics.jsonl but `step`, in order of appearance."""
  names = (name for row in rows for name, value in row.items() if isinstance(value, int | float))
  return [name for name in dict.fromkeys(names) if name != 'step']


def loss_curve(rows: Sequence[Mapping[str, Any]], path: Path, name: str = 'loss') -> None:
  """Draws one metric, by default the loss, over the steps; thin as logged, bold as a moving average.

  Raises:
    ValueError: if no row has it.
  """
  if name not in metric_names(rows):
    raise ValueError(f'no row has the metric {name!r}; there are {", ".join(metric_names(rows)) or "none"}')
  figure = figure_of(7, 3.5)
  _curve(figure.subplots(), rows, name)
  figure.savefig(path)


def metric_curves(rows: Sequence[Mapping[str, Any]], path: Path, columns: int = 3) -> None:
  """Draws every metric over the steps, each in a panel of its own.

  Raises:
    ValueError: if the rows hold no metric.
  """
  names = metric_names(rows)
  if not names:
    raise ValueError('rows hold no metric to draw')
  figure, places = panels(len(names), columns, 3.6, 2.3)
  for axes, name in zip(places, names, strict=True):
    _curve(axes, rows, name)
  figure.savefig(path)


def pca(features: np.ndarray, dimensions: int = 2) -> np.ndarray:
  """Returns the first principal components [n, dimensions] of features [n, d]; the largest loading is positive.

  Where d is less than `dimensions`, the others are 0.
  """
  centred = np.asarray(features, np.float64) - np.mean(features, axis=0, dtype=np.float64)
  _, axes = np.linalg.eigh(centred.T @ centred)
  axes = axes.T[::-1][:dimensions]
  largest = np.take_along_axis(axes, np.argmax(np.abs(axes), axis=1)[:, None], axis=1)
  components = centred @ (axes * np.where(largest < 0, -1, 1)).T
  return np.pad(components, ((0, 0), (0, dimensions - components.shape[1])))


def project(features: np.ndarray, seed: int = 0) -> tuple[np.ndarray, str]:
  """Returns points [n, 2] for a map of features [n, d], and how they came about: 't-SNE' or 'PCA'.

  t-SNE by cosine distance, where openTSNE is installed and there are from 50 to 5,000 points; otherwise PCA.
  """
  try:
    from openTSNE import TSNE
  except ImportError:
    return pca(features), 'PCA'
  if not 50 <= len(features) <= MAX_TSNE:
    return pca(features), 'PCA'
  made = TSNE(perplexity=min(30, (len(features) - 1) / 3), metric='cosine', neighbors='exact', n_jobs=1,
              random_state=seed)
  points = made.fit(np.asarray(features, np.float64))
  return np.asarray(points), 't-SNE'


def embedding_map(
    points: np.ndarray, labels: np.ndarray | None, path: Path, *, class_names: Sequence[str] = (), title: str = ''
) -> None:
  """Draws points [n, 2] coloured by class, with a legend.

  Of more than 18 classes, 18 spread evenly over the list have colours and the others are grey.

  Args:
    points: [n, 2], from `project`.
    labels: [n] integers, or None for a map without colours.
    path: the PNG to write.
    class_names: names by label; a label without one stands for itself.
    title: what the points are.
  """
  figure = figure_of(8, 6) if labels is not None else figure_of(6, 6)
  axes = figure.subplots()
  clean(axes, title)
  axes.grid(False)
  axes.set(xticks=[], yticks=[], aspect='equal')
  axes.spines[:].set_visible(False)
  axes.scatter(*points.T, s=10, color=FAINT if labels is not None else ACCENT, linewidths=0)
  if labels is not None:
    _colour_classes(axes, points, np.asarray(labels), class_names)
  figure.savefig(path, bbox_inches='tight')  # With the whole legend, however long its names.


def _colour_classes(axes, points: np.ndarray, labels: np.ndarray, class_names: Sequence[str]) -> None:
  from matplotlib import colormaps
  classes = np.unique(labels)
  shown = classes[evenly_spread(len(classes), MAX_CLASSES)]
  # The darker colour of each of tab20's pairs first; its greys (14, 15) would pass for the background.
  colours = [colormaps['tab20'](i) for i in (*range(0, 20, 2), *range(1, 20, 2)) if i not in (14, 15)]
  for i, label in enumerate(shown):
    axes.scatter(*points[labels == label].T, s=22, color=colours[i], linewidths=0.4, edgecolors='white', label=f'{i}')
  head = f'{len(shown)} of {len(classes)} classes' if len(shown) < len(classes) else None
  legend = axes.legend(
      loc='center left', bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False, title=head, title_fontsize=8)
  # Not as labels: those that begin with '_' are left out of a legend, and what stands between two '$' is a formula.
  for text, label in zip(legend.get_texts(), shown, strict=True):
    text.set_parse_math(False)
    text.set_text(_legible(class_names[label]) if 0 <= label < len(class_names) else f'{label}')


def _legible(name: str) -> str:
  """A name as it can be drawn: short, and of characters that can be shown, whatever a folder is called."""
  shown = ''.join(each if each.isprintable() else repr(each)[1:-1] for each in name)
  return shown if len(shown) <= LONGEST_NAME else f'{shown[:LONGEST_NAME]}…'


def drawn(image: np.ndarray, height: int, width: int) -> np.ndarray:
  """Returns `image` [h, w, c], uint8 or in [0, 1], as uint8 [height, width, 3]; enlarged, its pixels stay squares."""
  from PIL import Image
  image = np.asarray(image)
  if image.dtype != np.uint8:
    image = np.clip(np.nan_to_num(np.asarray(image, np.float32)) * 255 + 0.5, 0, 255).astype(np.uint8)
  image = image[..., :3] if image.shape[-1] >= 3 else np.repeat(image[..., :1], 3, axis=-1)
  larger = max(height, width) > max(image.shape[:2])
  method = Image.Resampling.NEAREST if larger else Image.Resampling.LANCZOS
  return np.asarray(Image.fromarray(image).resize((width, height), method))


def _tile(image: np.ndarray, size: int, frame: tuple[int, int, int]) -> np.ndarray:
  """Returns `image` [h, w, c], uint8 or in [0, 1], as uint8 [size, size, 3] within a frame of 4 pixels."""
  inner = size - 8
  scale = inner / max(np.shape(image)[:2])
  height, width = (max(1, round(side * scale)) for side in np.shape(image)[:2])
  tile = np.full((size, size, 3), frame, np.uint8)
  top, left = (size - height) // 2, (size - width) // 2
  tile[top:top + height, left:left + width] = drawn(image, height, width)
  return tile


def _sheet(tiles: Sequence[Sequence[np.ndarray]], path: Path, heads: Sequence[str], margin: int = 6) -> None:
  """Writes rows of equal tiles, the first column set apart, with `heads` over the first and the second column."""
  size = tiles[0][0].shape[0]
  step, left, top = size + margin, 3 * margin, 6 * margin
  height, width = top + step * len(tiles), 2 * margin + left + step * len(tiles[0])
  canvas = np.full((height, width, 3), 255, np.uint8)
  for i, row in enumerate(tiles):
    for j, tile in enumerate(row):
      y, x = top + i * step, margin + j * step + (left if j else 0)
      canvas[y:y + size, x:x + size] = tile
  figure = figure_of(width / DPI, height / DPI)
  figure.set_layout_engine('none')
  figure.figimage(canvas)
  for head, x in zip(heads, (margin + 4, margin + step + left + 4), strict=True):
    figure.text(x / width, 1 - 4 * margin / height, head, fontsize=9, color=INK, va='baseline')
  figure.savefig(path)


def neighbours_sheet(
    queries: Images,
    query_labels: np.ndarray | None,
    neighbours: Sequence[Images],
    neighbour_labels: np.ndarray | None,
    path: Path,
    *,
    size: int = 72,
) -> None:
  """Draws queries on the left and their nearest neighbours on the right, framed green (same class) or red (another).

  Args:
    queries: q images [h, w, c], uint8 or in [0, 1].
    query_labels: [q] integers, or None for sheets without frames.
    neighbours: for each query its images, most similar first.
    neighbour_labels: [q, k] integers, or None.
    path: the PNG to write.
    size: of a tile, in pixels.

  Raises:
    ValueError: if there are no queries.
  """
  if not len(queries):
    raise ValueError('queries is empty: there is nothing to draw')
  rows = []
  for i, (query, found) in enumerate(zip(queries, neighbours, strict=True)):
    frames = [PLAIN] * len(found)
    if query_labels is not None and neighbour_labels is not None:
      frames = [RIGHT if label == query_labels[i] else WRONG for label in neighbour_labels[i]]
    tiles = [_tile(image, size, frame) for image, frame in zip(found, frames, strict=True)]
    rows.append([_tile(query, size, PLAIN), *tiles])
  same = ': green the same class, red another' if query_labels is not None else ''
  _sheet(rows, path, ('query', f'nearest neighbours{same}'))


def mosaic(patches: np.ndarray) -> np.ndarray:
  """Joins patches [rows, columns, p, p, c] to one image, with white lines between them."""
  rows, columns, size, _, channels = patches.shape
  white = 255 if patches.dtype == np.uint8 else 1
  framed = np.pad(patches, ((0, 0), (0, 0), (0, 1), (0, 1), (0, 0)), constant_values=white)
  return framed.swapaxes(1, 2).reshape(rows * (size + 1), columns * (size + 1), channels)[:-1, :-1]


def picture(view: np.ndarray, signed: bool = False) -> np.ndarray:
  """Returns any one view as an image [h, w, c] in [0, 1].

  `signed` values, in [-1, 1], turn grey at 0; two channels become red and blue; a vector, a bar code of its range.
  """
  view = np.asarray(view)
  if view.ndim == 5:
    return mosaic(view)
  if view.ndim < 3:
    row = view.reshape(-1).astype(np.float32)
    low, high = row.min(), row.max()
    return np.tile((row - low) / ((high - low) or 1), (len(row), 1))[..., None]
  view = (np.clip(view, -1, 1) + 1) / 2 if signed else view
  return np.stack([view[..., 0], np.full_like(view[..., 0], 0.5), view[..., 1]], -1) if view.shape[-1] == 2 else view


def preview(
    images: Images, views: Sequence[Images], path: Path, *, size: int = 96, signed: Sequence[bool] = ()) -> None:
  """Draws a contact sheet: originals on the left, their views on the right.

  Args:
    images: n originals [h, w, c], uint8 or in [0, 1].
    views: for each view n of what `picture` takes: images of any size, their patches [rows, columns, p, p, c], vectors.
    path: the PNG to write.
    size: of a tile, in pixels.
    signed: for each view whether its values lie in [-1, 1]; (): none's do.

  Raises:
    ValueError: if there are no images or no views.
  """
  signed = tuple(signed) or (False,) * len(views)
  views = [[picture(each, sign) for each in view] for view, sign in zip(views, signed, strict=True)]
  if not len(images) or not len(views):
    raise ValueError(f'a preview needs images and views, got {len(images)} images and {len(views)} views')
  rows = [[_tile(image, size, PLAIN) for image in row] for row in zip(images, *views, strict=True)]
  _sheet(rows, path, ('original', 'views'))


def by_distance(values: Mapping[str, Sequence[float]], path: Path) -> None:
  """Draws each metric [K] over the distance k of what is predicted, in a panel of its own."""
  figure, places = panels(len(values), len(values), 4.2, 3)
  for axes, (name, value) in zip(places, values.items(), strict=True):
    clean(axes, name)
    axes.plot(np.arange(1, len(value) + 1), value, color=ACCENT, linewidth=1.6, marker='o', markersize=4)
    low, high = min(0, *value), max(value)
    axes.set_ylim(low, high + 0.05 * ((high - low) or 1))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel('steps ahead, k', fontsize=8, color=INK)
  figure.savefig(path)
