"""What the words of a command line are read as; errors say what was expected."""

import argparse


def counts(text):
    """Numbers of components: N, or all from N to M for N-M."""
    first, dash, last = text.partition("-")
    if not text.replace("-", "").isdigit():
        raise argparse.ArgumentTypeError(f"expected a number or a range such as 2-8, got {text!r}")
    count = integer(1, 1 << 16)
    counts = range(count(first), count(last if dash else first) + 1)
    if not counts:
        raise argparse.ArgumentTypeError(f"expected a range that rises, such as 2-8, got {text!r}")
    return list(counts)


def integer(low, high):
    def parse(text):
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            raise argparse.ArgumentTypeError(
                f"expected an integer from {low} to {high}, got {text!r}"
            )
        return int(text)

    return parse


def known(text):
    dim, _, value = text.partition("=")
    try:
        return int(dim), float(value)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected DIM=VALUE such as 0=1.5, got {text!r}"
        ) from None


def fraction(text):
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1:
        raise argparse.ArgumentTypeError(f"expected a number between 0 and 1, got {text!r}")
    return value
