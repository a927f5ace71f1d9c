"""A bar for what takes its time: the `progress` extra."""

import contextlib


def bar(iterable=None, **options):
    """A tqdm bar, which is imported only where one is asked for."""
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError("progress: the bar needs tqdm; pip install 'gmmjax[progress]'") from None
    return tqdm(iterable, **options)


@contextlib.contextmanager
def watched(items, progress: bool, **options):
    """The items under a bar, or as they are; a bar is closed whatever happens."""
    if not progress:
        yield items
        return
    with bar(items, **options) as shown:
        yield shown
