"""`python -m come`, the same as `come`."""

import sys

from come.cli import main

if __name__ == "__main__":
    sys.exit(main())
