"""``python -m turnwise.cli`` does what ``turnwise`` does."""

import sys

from turnwise.cli import main

if __name__ == "__main__":
    sys.exit(main())
