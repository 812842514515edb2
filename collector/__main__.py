"""Run the command line as `python -P -m collector`."""

import sys

from collector.cli import main

sys.exit(main())
