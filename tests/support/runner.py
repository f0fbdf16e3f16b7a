"""The runner of notebooks, as a module."""

import importlib.util

from support import PROJECT

_spec = importlib.util.spec_from_file_location("build", PROJECT / "notebooks" / "build.py")
assert _spec is not None
assert _spec.loader is not None
build = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(build)
