"""A pytest plugin for `--nbval`: cells are compared without stderr, where progress bars and warnings go."""


def pytest_collectstart(collector):
    """Add stderr to what nbval leaves out of its comparison."""
    if getattr(collector, "skip_compare", None) is not None:
        collector.skip_compare += ("stderr",)
