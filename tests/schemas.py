"""JSON Schemas that packages bring along, by a validator that is there at once.

The packages' own one makes forty grammars of formats when it is loaded: three seconds.
"""

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema_rs


def brought_by(package: str) -> Path:
    """Give a package's directory; the package is not loaded."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent


def validator(file: Path) -> Any:
    """Make a validator of a schema, formats included; what it refers to lies beside it."""
    return jsonschema_rs.validator_for(
        json.loads(file.read_text()),
        base_uri=file.as_uri(),
        retriever=lambda uri: json.loads(file.with_name(uri.rpartition("/")[2]).read_text()),
        validate_formats=True,
    )
