"""`python3 -m validator_supervisor` is the command line."""

import sys

from validator_supervisor.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
