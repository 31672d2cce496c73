"""One file a paper: frozen dataclasses with `init`, `step` and `represent` (see `jaxssl.core.Method`)."""

from jaxssl.methods.simclr import SimCLR

__all__ = ['SimCLR']
