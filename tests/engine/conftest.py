"""Lets the engine's tests use the random nets of tests/verify."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent.parent / "verify"))
