"""Found by Python on its way up, when this folder is on PYTHONPATH: once torch is imported, a GPU is pretended."""

import importlib.abc
import importlib.machinery
import os
import sys

VARIABLE = "TUI_PRUNER_PRETENDED_GPUS"


class Activating(importlib.abc.Loader):
    """A loader that pretends GPUs as soon as the module is there."""

    def __init__(self, stock):
        self._stock = stock

    def __getattr__(self, name):
        return getattr(self._stock, name)

    def create_module(self, spec):
        return self._stock.create_module(spec)

    def exec_module(self, module):
        self._stock.exec_module(module)
        from tests.gpu.pretending import activate

        activate(os.environ[VARIABLE])


class Finder(importlib.abc.MetaPathFinder):
    """Finds torch as Python does, once."""

    def find_spec(self, name, path=None, target=None):
        if name != "torch":
            return None
        sys.meta_path.remove(self)
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        spec.loader = Activating(spec.loader)
        return spec


if os.environ.get(VARIABLE):
    sys.meta_path.insert(0, Finder())
