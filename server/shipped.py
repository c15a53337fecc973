"""Where the files lie that come with the server: values, their rules, templates, schemas, formats, a picture to try.

In a checkout they lie beside the package. ``setup.py`` copies those that lie in no package to ``server/shipped`` of an
installation.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_INSTALLED = _PACKAGE / "shipped"

ROOT = _INSTALLED if _INSTALLED.is_dir() else _PACKAGE.parent
DEFAULT_VALUES = ROOT / "chart" / "values.yaml"
RULES = ROOT / "chart" / "rules.yaml"
TEMPLATES = ROOT / "jobtemplates"
SCHEMAS = ROOT / "schemas"
FORMATS = _PACKAGE.parent / "model" / "formats.json"
PICTURE = _PACKAGE.parent / "model" / "pictures" / "cat.jpg"
