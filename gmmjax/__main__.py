"""`python -m gmmjax`."""

from gmmjax._cli.process import run

raise SystemExit(run())
