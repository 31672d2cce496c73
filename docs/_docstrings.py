"""How the site shows our docstrings: signatures as they are written, and the comments beside the fields of classes."""

import ast
import dataclasses
import inspect
import io
import re
import textwrap
import tokenize

_STARRED = re.compile(r'(?<=[\[ (])\*(?=[a-z_]+[\],)])')  # The star of [b, *shape].
# A single backtick in our docstrings is code, as in Markdown, unless it is that of a role (:math:`x`) or of a link.
_CODE = re.compile(r'(:\w+:`[^`]*`|`[^`]*`_|``[^`]*``)|`([^`]+)`')


def _source(thing) -> ast.AST | None:
  try:
    return ast.parse(textwrap.dedent(inspect.getsource(thing))).body[0]
  except (OSError, TypeError, SyntaxError, IndexError):
    return None


def _has_fields(thing) -> bool:
  return inspect.isclass(thing) and (dataclasses.is_dataclass(thing) or hasattr(thing, '_fields'))


def _fields(thing) -> dict[str, tuple[ast.AnnAssign, str]]:
  """Name -> definition and comment of the fields of a dataclass, a NamedTuple or a Flax module, its bases' first."""
  found = {}
  for base in reversed(thing.__mro__):
    node = _source(base) if base.__module__.startswith('jaxssl') else None
    if isinstance(node, ast.ClassDef):
      lines = textwrap.dedent(inspect.getsource(base)).splitlines()
      comments = _comments(lines)
      found |= {line.target.id: (line, _beside(line, lines, comments))
                for line in node.body if isinstance(line, ast.AnnAssign)}
  return found


def _comments(lines: list[str]) -> dict[int, str]:
  """Number of a line, from 1 -> the comment on it."""
  tokens = tokenize.generate_tokens(io.StringIO('\n'.join(lines)).readline)
  return {token.start[0]: token.string.lstrip('# ') for token in tokens if token.type == tokenize.COMMENT}


def _beside(field: ast.AnnAssign, lines: list[str], comments: dict[int, str]) -> str:
  """The comment on the lines of a field, after that on the lines above it, which have nothing else."""
  first = field.lineno
  while first - 1 in comments and lines[first - 2].lstrip().startswith('#'):
    first -= 1
  return ' '.join(comments[number] for number in range(first, field.end_lineno + 1) if number in comments)


def signature(app, what, name, thing, options, given, returned):
  """Replaces what Python makes of a signature by what the source says: `ArrayLike` stays `ArrayLike`."""
  if inspect.isclass(thing) and getattr(thing, '_is_protocol', False):
    return '', None
  if _has_fields(thing):
    written = ', '.join(ast.unparse(field) for field, _ in _fields(thing).values())
    return f'({written})', None
  node = _source(inspect.unwrap(thing)) if inspect.isroutine(thing) else None
  if not isinstance(node, ast.FunctionDef):
    return None
  positional = node.args.posonlyargs or node.args.args
  if what == 'method' and positional and positional[0].arg in ('self', 'cls', 'method'):  # Shared ones say `method`.
    del positional[0]
  return f'({ast.unparse(node.args)})', ast.unparse(node.returns) if node.returns else None


def _as_code(match: re.Match) -> str:
  return match[1] or f'``{match[2]}``'


def _marked(lines: list[str]) -> list[str]:
  """Turns the Markdown in a docstring to what Sphinx reads, but in examples."""
  marked = _CODE.sub(_as_code, _STARRED.sub(r'\\*', '\n'.join(lines))).split('\n')
  return [old if old.lstrip().startswith(('>>>', '...')) else new for old, new in zip(lines, marked, strict=True)]


def docstring(app, what, name, thing, options, lines):
  """Prepares a docstring for napoleon: fields are parameters, the commented ones of classes without a list too."""
  lines[:] = _marked(lines)
  for i in reversed(range(1, len(lines))):
    if lines[i].startswith('- ') and lines[i - 1] and not lines[i - 1].startswith(('- ', '  ')):
      lines.insert(i, '')  # What a list needs in front of it.
  if not _has_fields(thing):
    return
  lines[:] = ['Args:' if line.strip() == 'Attributes:' else line for line in lines]
  found = {field: comment for field, (_, comment) in _fields(thing).items() if comment}
  if found and 'Args:' not in lines:
    lines += ['', 'Args:', *(f'  {field}: {_escaped(comment)}' for field, comment in found.items()), '']


def _escaped(text: str) -> str:
  """A comment is plain text, but for its backticks; stars, bars and trailing underscores mean nothing in it."""
  parts = re.split(r'(`[^`]*`)', text)
  return ''.join(f'`{part}`' if part.startswith('`') else re.sub(r'([\\*|]|_\b)', r'\\\1', part) for part in parts)


def of_property(app, what, name, thing, options, lines):
  """Undoes napoleon's reading of a property, in which what stands before a colon is its type."""
  if what == 'property':
    lines[:] = [*_marked((inspect.getdoc(thing) or '').splitlines()), '']


def skipped(app, what, name, thing, skip, options):
  """Leaves out fields that are shown as parameters: those of tuples, and `dtype`, whose default is a class."""
  return True if name == 'dtype' or (thing.__doc__ or '').startswith('Alias for field') else None


def setup(app):
  app.connect('autodoc-process-signature', signature)
  app.connect('autodoc-process-docstring', docstring, priority=100)  # Napoleon has 500.
  app.connect('autodoc-process-docstring', of_property, priority=900)
  app.connect('autodoc-skip-member', skipped)
  return {'parallel_read_safe': True}
