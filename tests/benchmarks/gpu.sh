#!/usr/bin/env bash
# One command on a machine with a GPU and a JAX that sees it: is all the same there, and how fast?
# Run from the root of the repository, without installing it; ends within five minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD:$PWD/tests/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false
timeout 280 python3 tests/benchmarks/gpu.py
