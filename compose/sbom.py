"""The software bill of materials: everything the locks pin, Python packages and Kafka's jars.

`make sbom` runs it over what cyclonedx-py makes of the Python lock; CycloneDX's own library, which
comes with that tool, reads and writes the form.
"""

import json
import sys
from pathlib import Path

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from compose.jars import Jar, Lock


def merged(python: str) -> str:
    """Add Kafka's jars to a CycloneDX document (JSON); give the document with both."""
    found: object = Bom.from_json(json.loads(python))  # type: ignore[attr-defined] # by a decorator
    assert isinstance(found, Bom)  # noqa: S101 - it gives what it is a method of
    for component in found.components:
        component.external_references.clear()  # where a package was asked for is no part of it
    for jar in Lock.read().jars:
        found.components.add(_component(jar))
    root = found.metadata.component
    assert root is not None  # noqa: S101 - cyclonedx-py was given pyproject.toml
    # Which needs which, locks don't tell: all of them are what the whole needs.
    found.register_dependency(root, found.components)
    return JsonV1Dot6(found).output_as_string(indent=2) + "\n"


def _component(jar: Jar) -> Component:
    purl = PackageURL("maven", jar.group, jar.artifact, jar.version, {"type": "jar"})
    return Component(
        name=jar.artifact,
        group=jar.group,
        version=jar.version,
        type=ComponentType.LIBRARY,
        purl=purl,
        bom_ref=str(purl),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=jar.sha256)],
    )


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(merged(sys.stdin.read()))
