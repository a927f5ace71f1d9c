#!/usr/bin/env bash
# A part of the suite with other releases of JAX: the contract table, calibration, a fit, a notebook.
#   tests/releases.sh here               in the environment that is active
#   tests/releases.sh 0.9.2 0.11.2 …     each in an environment of its own, by "$PYTHON"; by hand
# The table of what was run is in releases.md.
set -euo pipefail
cd "$(dirname "$0")/.."

selection() {
    python -c 'import sys, jax, jaxlib; print("Python", sys.version.split()[0], "jax", jax.__version__, "jaxlib", jaxlib.__version__)'
    table="complete or single_precision or second_call or -full-full] or sample- or fit- or log_prob- or sliced"
    timeout 600 python -m pytest tests/contract/test_transforms.py -k "$table"
    timeout 600 python -m pytest -n 2 --dist load \
        "tests/estimates/test_calibration.py::test_coverage" \
        "tests/fitting/test_fit.py::test_stays_at_the_optimum" \
        "tests/contract/test_notebooks.py::test_runs[06_many_pairs]" \
        tests/sampling/test_stages.py
}

if [ "${1:-}" = here ]; then
    selection
    exit
fi
for release in "$@"; do
    folder=$(mktemp -d)
    "${PYTHON:-python3}" -m venv "$folder"
    (
        source "$folder/bin/activate"
        python -m pip install -q -e ".[test]"
        # Releases that are left out in pyproject.toml can be asked for all the same.
        python -m pip install -q "jax==$release" "jaxlib==$release"
        selection
    ) || echo "jax $release: FAILED"
    rm -rf "$folder"
done
