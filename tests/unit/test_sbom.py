"""The bill of materials names every Python package and every jar that is locked."""

import json
import subprocess
import sys
from pathlib import Path

from compose import sbom
from compose.jars import Lock
from tests.schemas import brought_by, validator

ROOT = Path(__file__).parents[2]
SCHEMA = brought_by("cyclonedx") / "schema/_res/bom-1.6.SNAPSHOT.schema.json"
TOOL = (
    *(sys.executable, "-m", "cyclonedx_py", "requirements", "-", "--of", "JSON", "--sv", "1.6"),
    "--no-validate",  # that loads a validator; what is made of it is validated here
)


def test_both_locks_are_in_it() -> None:
    """With digests of the jars, valid by CycloneDX's schema, and without an index's address."""
    done = subprocess.run(
        [*TOOL, "--pyproject", str(ROOT / "pyproject.toml")],
        input="uvicorn==0.54.0\naiokafka==0.14.0\n",
        capture_output=True,
        text=True,
        check=True,
    )
    made = sbom.merged(done.stdout)
    document = json.loads(made)
    validator(SCHEMA).validate(document)
    assert document["metadata"]["component"]["name"] == "fraudstream"
    found = {each["purl"]: each for each in document["components"]}
    assert {"pkg:pypi/uvicorn@0.54.0", "pkg:pypi/aiokafka@0.14.0"} < found.keys()
    for jar in Lock.read().jars:
        (purl,) = [one for one in found if f"{jar.group}/{jar.artifact}@{jar.version}" in one]
        assert found[purl]["hashes"] == [{"alg": "SHA-256", "content": jar.sha256}]
    assert not any("externalReferences" in each for each in document["components"])
