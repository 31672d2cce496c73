"""The documentation site: `sphinx-build -W --keep-going -b html docs docs/_build/html`."""

import importlib.util
import os
import pathlib
import re
import sys

DOCS = pathlib.Path(__file__).parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]
# The commands of the examples are those of this environment, also where it is not activated.
os.environ['PATH'] = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ['PATH']])

import jaxssl  # noqa: E402

project = 'jaxssl'
author = 'the jaxssl authors'
copyright = f'2026, {author}'
version = release = jaxssl.__version__

extensions = ['myst_nb', 'sphinx.ext.autodoc', 'sphinx.ext.napoleon', 'sphinx.ext.mathjax', '_docstrings']
exclude_patterns = ['_build']
html_theme = 'furo'
html_title = f'jaxssl {version}'
html_copy_source = False

myst_enable_extensions = ['dollarmath', 'colon_fence']
myst_heading_anchors = 3
myst_dmath_double_inline = True

suppress_warnings = ['ref.python']  # Several classes are called Recipe.
autodoc_member_order = 'bysource'
autodoc_inherit_docstrings = False
autodoc_typehints = 'none'
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False

nb_execution_mode = 'cache'  # In _build: a page whose cells are as they were is not run again.
nb_execution_timeout = 600  # Seconds a cell; a busy machine takes a while.
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_output_stderr = 'remove'  # What TensorFlow and JAX say of the machine.

# One example wants spoken digits; where they, or TFDS, are absent its page has no results, and says so.
has_digits = (pathlib.Path.home() / 'tensorflow_datasets' / 'spoken_digit').is_dir()
if not has_digits or importlib.util.find_spec('tensorflow_datasets') is None:
  nb_execution_excludepatterns = ['examples/cpc_speech.md']
  tags.add('without_speech')  # noqa: F821  # Sphinx defines it.


def link_results(app, docname, source):
  """Turns links to results beside `docs`, which are no pages of the site, into downloads."""
  source[0] = re.sub(r'\]\(((?:\.\./)+benchmarks/[^)#]*\.md)\)', r'](path:\1)', source[0])


def setup(app):
  app.connect('source-read', link_results)
