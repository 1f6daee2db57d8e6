"""The scripts of reports/, with modules beside them, are imported by their names here."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "reports"))
