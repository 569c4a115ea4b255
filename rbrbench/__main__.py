"""`python -m rbrbench COMMAND [key=value ...]`."""

import sys

from rbrbench.cli import main

if __name__ == "__main__":
    sys.exit(main())
