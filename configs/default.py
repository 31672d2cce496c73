"""The bundled run, from the config that ships in the package: python train.py"""

from jaxssl.cli.default import get_config  # noqa: F401
