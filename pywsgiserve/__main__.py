"""python -m pywsgiserve"""

import sys

from pywsgiserve.cli import main

if __name__ == "__main__":
    sys.exit(main())
