"""Kernels are compiled ahead: every module of them has a ``warm``, and it leaves nothing to compile."""

from __future__ import annotations

import pytest
from numba.core.dispatcher import Dispatcher

from actors.risk.warm import kernel_modules

MODULES = list(kernel_modules())


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_kernels_have_one_signature_and_are_kept_on_disk(module):
    module.warm()
    kernels = {name: found for name, found in vars(module).items() if isinstance(found, Dispatcher)}
    own = {name: kernel for name, kernel in kernels.items() if kernel.py_func.__module__ == module.__name__}
    assert own
    for name, kernel in own.items():
        inlined = kernel.targetoptions.get("inline", "never") != "never"
        assert inlined or len(kernel.signatures) <= 1, name  # none where its caller came from the cache
        assert kernel.targetoptions.get("nogil"), name
        assert kernel._cache.__class__.__name__ == "FunctionCache", name
        assert "fast" not in str(kernel.targetoptions.get("fastmath", "")), name
