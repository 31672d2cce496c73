"""One HTML file that holds a whole run: results, pictures and config, with nothing to fetch from elsewhere."""

import base64
import html
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxssl.evaluation import table
from jaxssl.training import files

_STYLE = '''
:root { color-scheme: light; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 60rem; background: #fff; color: #22303c;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; padding-bottom: .2rem; border-bottom: 1px solid #d5dbe0; }
p { margin: .3rem 0; } .faint { color: #5d6b77; font-size: .9rem; }
.warning { background: #fdf0ef; border-left: 4px solid #d1495b; padding: .6rem .8rem; margin: 1rem 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .8rem .35rem 0; text-align: left; vertical-align: top; border-bottom: 1px solid #eef1f3; }
.results th:not(:first-child), .results td:not(:first-child) { text-align: right; padding: .35rem .6rem; }
.results td { white-space: nowrap; } .results td:first-child { white-space: normal; min-width: 11rem; }
.results .best { font-weight: 600; color: #1f6fb2; }
.config { font: .85rem/1.4 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
.config td { overflow-wrap: anywhere; }
figure { margin: 1rem 0 1.6rem; } figcaption { font-weight: 600; margin-bottom: .4rem; }
img { max-width: 100%; height: auto; display: block; }
summary { cursor: pointer; }
'''
_BEST = ' class="best"'


def _results(rows: Sequence[table.Row]) -> Iterator[str]:
  head, *lines = table.grid(rows)
  yield '<div class="scroll"><table class="results"><tr>'
  yield ''.join(f'<th>{html.escape(cell)}</th>' for cell in head)
  yield '</tr>'
  for text, *values in lines:
    accurate = head[0] == 'accuracy' or ': accuracy' in text
    best = max((value for value in values if value != '-'), key=float, default=None) if accurate else None
    cells = (f'<td{_BEST if value == best else ""}>{html.escape(value)}</td>' for value in values)
    yield f'<tr><td>{html.escape(text)}</td>{"".join(cells)}</tr>'
  yield '</table></div>'
  for note in table.notes(rows):
    yield f'<p class="faint">{html.escape(note)}</p>'


def flat(config: Mapping[str, Any], prefix: str = '') -> Iterator[tuple[str, Any]]:
  """Yields a nested config as pairs of a dotted key and a value."""
  for key, value in config.items():
    if isinstance(value, Mapping) and value:
      yield from flat(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', value


def _pairs(pairs: Mapping[str, Any]) -> Iterator[str]:
  yield '<div class="scroll"><table class="config">'
  for key, value in flat(pairs):
    yield f'<tr><td>{html.escape(str(key))}</td><td>{html.escape(str(value))}</td></tr>'
  yield '</table></div>'


def _figure(caption: str, path: str | os.PathLike) -> str:
  with open(path, 'rb') as f:
    data = base64.b64encode(f.read()).decode('ascii')
  caption = html.escape(caption, quote=True)
  source = f'data:image/{os.path.splitext(path)[1][1:]};base64,{data}'
  return f'<figure><figcaption>{caption}</figcaption><img alt="{caption}" src="{source}"></figure>'


def render(
    *,
    title: str,
    rows: Sequence[table.Row],
    config: Mapping[str, Any],
    pictures: Mapping[str, str | os.PathLike],
    seconds: float | None = None,
    images_per_second: float | None = None,
    facts: Mapping[str, Any] | None = None,
    warnings: Sequence[str] = (),
) -> str:
  """Returns the report as a self-contained HTML page.

  Args:
    title: of the page, such as the config's name.
    rows: as in results.json.
    config: nested values.
    pictures: PNG or GIF files by caption, in order.
    seconds: how long pretraining took.
    images_per_second: at what speed.
    facts: what else is worth knowing, such as the step, the seed, the devices and the versions.
    warnings: plain sentences that stand at the top.
  """
  speed = table.speed(seconds, images_per_second)
  parts = [
      '<!doctype html><html lang="en"><head><meta charset="utf-8">',
      '<meta name="viewport" content="width=device-width, initial-scale=1">',
      f'<title>{html.escape(title)}</title><style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1>',
      *(f'<p class="faint">{html.escape(line)}</p>' for line in speed),
      *(f'<p class="warning">{html.escape(text)}</p>' for text in warnings),
  ]
  if rows:
    parts += ['<h2>Results</h2>', *_results(rows)]
  if pictures:
    parts += ['<h2>Pictures</h2>', *(_figure(caption, path) for caption, path in pictures.items())]
  if facts:
    parts += ['<h2>Run</h2>', *_pairs(facts)]
  if config:
    parts += ['<h2>Config</h2>', *_pairs(config)]
  return '\n'.join([*parts, '</body></html>', ''])


def write(path: str | os.PathLike, **contents: Any) -> None:
  """Writes `render(**contents)` to `path`; a reader sees the old file or the new one."""
  page = render(**contents).encode(errors='backslashreplace')  # Paths need not be UTF-8.
  with files.replacing(path) as temporary, open(temporary, 'wb') as f:
    f.write(page)
