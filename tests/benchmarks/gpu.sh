#!/usr/bin/env bash
# One command on a machine with a GPU and a JAX that sees it: is all the same there, and how fast?
# Run from the root of the repository, without installing it; ends within ten minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD:$PWD/tests:$PWD/tests/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false SCIPY_ARRAY_API=1
timeout 590 python3 tests/benchmarks/gpu.py
