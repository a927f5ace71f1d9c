"""Strict settings for every test: float64 as the reference, no silent rank promotion."""

import compilation

compilation.compile_cheaply()

import jax
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
compilation.leave_garbage()

# Examples compile, which takes as long as it takes; the suite asks the same ones each time.
patient = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
settings.register_profile("suite", patient, max_examples=20, derandomize=True)
settings.register_profile("thorough", patient, max_examples=500)
settings.load_profile("suite")


def pytest_xdist_make_scheduler(config, log):
    return compilation.OneFileOneWorker(config, log)


@pytest.fixture(autouse=True, scope="module")
def few_programs():
    """Let go of compiled programs between files."""
    yield
    compilation.forget_programs_beyond(compilation.MOST_MAPS)


@pytest.fixture
def key():
    return jax.random.key(0)
