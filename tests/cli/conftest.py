"""Commands that run in one process find programs of earlier ones, as those of a user do."""

import pytest

from gmmjax._cli import cache
from gmmjax._cli.store import Store


@pytest.fixture(autouse=True, scope="package")
def kept_programs(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "_in_use", [Store(tmp_path_factory.mktemp("programs"))])
        yield
