"""Benchmarks are compiled as users' programs are: the flags that tests set to compile less are
taken back.
"""

import os

if "--xla_backend_optimization_level=0" in os.environ.get("XLA_FLAGS", ""):
    del os.environ["XLA_FLAGS"]
