"""The benchmark: `python -m bench`, from the repository's root."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# The servers and processes it starts are those of the tests' support.
sys.path.insert(0, str(ROOT / "tests"))
