"""``python -m go1_sweep``."""

import sys

from go1_sweep.cli import main

if __name__ == "__main__":
    sys.exit(main())
