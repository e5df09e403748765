"""The script `scripts/tenants` for a few seconds; on a machine that runs much else, times are judged less strictly."""

import pytest

from tests.chaos.tenants import main


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_one_tenants_flood_neither_refuses_nor_starves_another() -> None:
    assert main(["--minutes", "0.1", "--times", "20"]) == 0
