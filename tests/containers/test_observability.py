"""What Prometheus and Grafana are given: it parses, it is true to the code, it shows data."""

import json
import time
from typing import Any

import httpx
import pytest

from tests.containers.stack import DEADLINE_S, ONE_BROKER, PROMETHEUS_URL, ROOT, URL, Stack, engine

pytestmark = pytest.mark.containers
DASHBOARD = ROOT / "compose/grafana/dashboards/fraudstream.json"
JSON = {"content-type": "application/json"}


def expressions() -> dict[str, str]:
    """Give the dashboard's queries, by panel and letter, as Grafana would send them."""
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return {
        f"{panel['title']} {target['refId']}": target["expr"].replace("$__rate_interval", "30s")
        for panel in panels
        for target in panel.get("targets", ())
    }


@pytest.mark.usefixtures("prometheus_image")
def test_every_panel_has_data_and_every_rule_works(stack: Stack) -> None:
    """Broker first, parts second; with traffic of all kinds no query of the dashboard is empty."""
    stack.environment["TRANSACTIONS_PER_SECOND"] = "200"
    stack.up(file=ONE_BROKER)
    stack.up("topics", "api", "detector", "loadgen")
    stack.compose("--profile", "observability", "up", "-d", "--no-build", "prometheus")
    stack.wait_ready()

    def ask(query: str) -> list[Any]:
        answer = httpx.get(f"{PROMETHEUS_URL}/api/v1/query", params={"query": query}).json()
        assert answer["status"] == "success", answer
        found: list[Any] = answer["data"]["result"]
        return found

    def post_nonsense_and_listen() -> None:
        httpx.post(f"{URL}/transactions", content=b"{}", headers=JSON)
        with httpx.stream("GET", f"{URL}/stream/all?since=earliest") as answer:
            next(answer.iter_lines())

    def empty() -> list[str]:
        post_nonsense_and_listen()
        return [name for name, query in expressions().items() if not ask(query)]

    deadline = time.monotonic() + DEADLINE_S
    while (missing := empty()) and time.monotonic() < deadline:
        time.sleep(1)
    assert missing == []
    up = {each["metric"]["job"]: each["value"][1] for each in ask("sum by (job) (up)")}
    assert up == {"api": "1", "detector": "1"}
    groups = httpx.get(f"{PROMETHEUS_URL}/api/v1/rules").json()["data"]["groups"]
    assert {rule["health"] for group in groups for rule in group["rules"]} == {"ok"}
    # Traffic is well and the thresholds are an operator's: nothing is at fault in a minute.
    assert ask('ALERTS{alertstate="firing"}') == []

    (prometheus,) = stack.containers("prometheus")
    promtool = ("exec", "-i", prometheus, "promtool")
    engine(*promtool, "check", "config", "/etc/prometheus/prometheus.yml")
    engine(*promtool, "test", "rules", "/etc/prometheus/alerts_test.yml")
    for address in ("http://api:8000/metrics", "http://detector:9101/metrics"):
        check = f"wget -q -O - {address} | promtool check metrics"
        engine("exec", prometheus, "sh", "-c", check)
