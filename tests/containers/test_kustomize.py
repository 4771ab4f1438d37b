"""What kustomize makes of the manifests: KUSTOMIZE, if it is not to be `kubectl kustomize`."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.containers
DEPLOY = Path(__file__).parents[2] / "deploy"
KUSTOMIZE = shlex.split(os.environ.get("KUSTOMIZE", "kubectl kustomize"))
CUSTOM_GROUPS = ("kafka.strimzi.io/", "keda.sh/")


@pytest.mark.parametrize("folder", ["base", "overlays/example"])
def test_what_is_built_is_valid(folder: str) -> None:
    """Base and overlay build, and fit Kubernetes' schemas with no field too many."""
    import kubernetes_validate  # noqa: PLC0415 - as in unit/test_deployment.py

    built = subprocess.run(
        [*KUSTOMIZE, DEPLOY / folder], capture_output=True, text=True, check=True
    )
    documents = list(yaml.safe_load_all(built.stdout))
    assert {"api", "detector", "topics"} <= {each["metadata"]["name"] for each in documents}
    for document in documents:
        if not document["apiVersion"].startswith(CUSTOM_GROUPS):
            kubernetes_validate.validate(document, "1.34", strict=True)
