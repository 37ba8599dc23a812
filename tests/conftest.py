"""Options of the whole test run."""

import pytest

# What takes minutes is begun first: else all processors but one wait for it at the end.
FIRST = ("test_story", "test_crashes", "test_state_faults", "test_state", "test_backup")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="run the campaigns too")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        campaigns = [item for item in items if item.get_closest_marker("long")]
        config.hook.pytest_deselected(items=campaigns)
        items[:] = [item for item in items if item not in campaigns]
    items.sort(key=lambda item: item.path.stem not in FIRST)
