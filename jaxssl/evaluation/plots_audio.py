"""Pictures of a run on audio as PNG files: spectrograms beside what an encoder makes of them."""

from collections.abc import Mapping, Sequence

import numpy as np

from jaxssl.evaluation.plots import INK, Path, figure_of, pca


def colours(steps: Sequence[np.ndarray]) -> list[np.ndarray]:
  """Returns the steps [t, d] of several sequences as colours [t, 3] in [0, 1]: their first three principal components.

  The components are those of all sequences together, each scaled so that 1 % of the steps lies beyond either end.
  """
  points = pca(np.concatenate(steps), 3)
  low, high = np.percentile(points, [1, 99], axis=0)
  scaled = np.clip((points - low) / np.maximum(high - low, 1e-12), 0, 1)
  return np.split(scaled, np.cumsum([len(each) for each in steps])[:-1])


def sequences_sheet(
    spectra: Sequence[np.ndarray], steps: Mapping[str, Sequence[np.ndarray]], titles: Sequence[str], seconds: float,
    path: Path, columns: int = 3) -> None:
  """Draws each sequence's log-mel spectrum above its steps as bands of colour, one band a representation.

  Args:
    spectra: for each sequence, log energies [t, mels].
    steps: representation -> for each sequence its steps [t, d].
    titles: of the sequences.
    seconds: from one step to the next.
    path: the PNG to write.
    columns: sequences side by side.

  Raises:
    ValueError: if there are no sequences.
  """
  if not len(spectra):
    raise ValueError('spectra is empty: there is nothing to draw')
  bands = {name: colours(each) for name, each in steps.items()}
  columns = min(columns, len(spectra))
  lines = -(-len(spectra) // columns)
  figure = figure_of(4.2 * columns, 2.4 * lines)
  outer = figure.add_gridspec(lines, columns)
  for i, (spectrum, title) in enumerate(zip(spectra, titles, strict=True)):
    inner = outer[i // columns, i % columns].subgridspec(1 + len(bands), 1, height_ratios=[5, *[1] * len(bands)])
    extent = (0, len(spectrum) * seconds, 0, 1)
    ticks = np.arange(0, extent[1], 0.2 if extent[1] < 4 else extent[1] / 10).round(1)
    axes = figure.add_subplot(inner[0])
    axes.imshow(spectrum.T, origin='lower', aspect='auto', cmap='magma', extent=extent)
    axes.set_title(title, loc='left', fontsize=9, color=INK)
    axes.set(yticks=[], xticks=[] if bands else ticks)
    axes.tick_params(colors=INK, labelsize=7, length=2)
    for row, (name, found) in enumerate(bands.items()):
      axes = figure.add_subplot(inner[1 + row])
      axes.imshow(found[i][None], aspect='auto', extent=extent, interpolation='nearest')
      axes.set_ylabel(name, rotation=0, fontsize=9, color=INK, ha='right', va='center')
      axes.set(yticks=[], xticks=[] if row < len(bands) - 1 else ticks)
      axes.tick_params(colors=INK, labelsize=7, length=2)
    axes.set_xlabel('seconds', fontsize=7, color=INK)
  figure.savefig(path)
