"""`python -m gmmjax`."""

from gmmjax._cli.main import main

raise SystemExit(main())
