#!/usr/bin/env bash
# One command on a machine with a GPU and a JAX that sees it: is all the same there, and how fast?
# Run from the root of the repository, without installing it; ends within ten minutes.
set -euo pipefail
cd "$(dirname "$0")/../.."
export PYTHONPATH="$PWD:$PWD/tests:$PWD/tests/benchmarks${PYTHONPATH:+:$PYTHONPATH}"
export XLA_PYTHON_CLIENT_PREALLOCATE=false SCIPY_ARRAY_API=1
# The version is read from what an installation leaves, and nothing can be installed on some machines.
installed=$(mktemp -d)
trap 'rm -rf "$installed"' EXIT
mkdir "$installed/gmmjax-0.dist-info"
printf 'Metadata-Version: 2.1\nName: gmmjax\nVersion: 0\n' > "$installed/gmmjax-0.dist-info/METADATA"
export PYTHONPATH="$installed:$PYTHONPATH"
processes=12
for i in $(seq 0 $((processes - 1))); do
    timeout 280 python3 tests/benchmarks/gpu.py functions "$i" "$processes" || echo "part $i: not finished" &
done
wait
timeout 300 python3 tests/benchmarks/gpu.py
