"""A bar for what takes its time: the `progress` extra."""


def bar(iterable=None, **options):
    """A tqdm bar, which is imported only where one is asked for."""
    try:
        from tqdm import tqdm
    except ImportError:
        raise ImportError("progress: the bar needs tqdm; pip install 'gmmjax[progress]'") from None
    return tqdm(iterable, **options)
