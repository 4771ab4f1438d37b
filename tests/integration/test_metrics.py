"""What gateway and detector tell Prometheus: the truth, once, whichever process is asked."""

import json
import os
import socket
from functools import partial
from pathlib import Path

import httpx
import prometheus_client
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from api import listener
from tests import forked
from tests.parts import DEADLINE_S, Parts, until
from tests.trust import TRUST
from wire import metrics
from wire.metrics import Histogram, histogram, written
from wire.settings import TopicSettings

LABELS = {"cause", "code", "decision", "le", "limit", "outcome", "partition", "policy"}
LABELS |= {"rule", "status", "stream"}
JSON = {"content-type": "application/json"}
Samples = dict[str, dict[tuple[tuple[str, str], ...], float]]


def scrape(url: str) -> Samples:
    """Read /metrics as Prometheus does: every sample by name and labels, each there once."""
    answer = httpx.get(f"{url}/metrics", timeout=DEADLINE_S, verify=TRUST)
    assert answer.headers["content-type"].startswith("text/plain; version=")
    found: Samples = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            labels = tuple(sorted(sample.labels.items()))
            assert labels not in found.setdefault(sample.name, {})
            found[sample.name][labels] = sample.value
    return found


def total(samples: Samples, name: str, **labels: str) -> float:
    """Add up a metric's samples that have these labels."""
    return sum(
        value for found, value in samples.get(name, {}).items() if labels.items() <= set(found)
    )


def post(url: str, amount: str, **fields: str) -> int:
    """Post one transaction over a connection of its own; give the status."""
    body = json.dumps({"source": "alice", "target": "bob", "amount": amount, **fields})
    return httpx.post(f"{url}/transactions", content=body, headers=JSON, verify=TRUST).status_code


def test_a_histogram_counts_as_prometheus_own_does() -> None:
    """Bounds are inclusive, sums agree, and several at once count as that many."""
    bounds = (0.1, 1.0, 10.0)
    ours, theirs = (
        Histogram(bounds),
        prometheus_client.Histogram("a", "b", buckets=bounds, registry=None),
    )
    for value in (0.05, 0.1, 0.5, 1.0, 1.0, 9.0, 10.5):
        theirs.observe(value)
    for value, times in ((0.05, 1), (0.1, 1), (0.5, 1), (1.0, 2), (9.0, 1), (10.5, 1)):
        ours.observe(value, times)
    expected = [s for s in next(iter(theirs.collect())).samples if not s.name.endswith("_created")]
    assert histogram("a", "b", ours).samples == expected


def test_a_family_without_samples_is_still_declared() -> None:
    """What has not happened yet is known to be countable."""
    assert b"# TYPE a histogram" in written([histogram("a", "b", {}, "label")])[0]


def test_clients_of_a_port_for_metrics_hold_no_thread_for_long(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nor many: neither who sends its request letter by letter, nor who asks for nothing."""
    monkeypatch.setattr(metrics, "CLIENT_S", 0.2)
    server = metrics.serve(CollectorRegistry(), lambda: True, "127.0.0.1", 0)
    client = partial(socket.create_connection, ("127.0.0.1", server.port), DEADLINE_S)
    try:
        with client() as slow, client() as idle:
            slow.settimeout(0.05)
            until(lambda: is_cut(slow))
            assert idle.recv(1) == b""
        with monkeypatch.context() as full:
            full.setattr(metrics, "MOST_CLIENTS", 0)
            with client() as other:
                assert other.recv(1) == b""
        assert httpx.get(f"http://127.0.0.1:{server.port}/healthz").status_code == 200
    finally:
        server.stop()
    assert capfd.readouterr().err == ""


def is_cut(client: socket.socket) -> bool:
    """Send a little of a request; tell whether nobody wants it any more."""
    try:
        client.sendall(b"G")
        return client.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def test_any_worker_tells_of_all_of_them(parts: Parts) -> None:
    """Two processes on one socket: whichever is asked, the sums are those of all requests."""
    url, own = parts.gateway(workers=2)
    statuses = [post(each, "1.00") for each in (url, url, *own, *own)]
    assert statuses == [202] * 6
    assert post(own[1], "-1") == 422
    for asked in (*own, url):
        samples = scrape(asked)
        assert total(samples, "fraudstream_api_requests_total", status="202") == 6
        assert total(samples, "fraudstream_api_requests_total", status="422", worker="2") == 1
        assert total(samples, "fraudstream_api_problems_total", code="invalid-transaction") == 1
        assert total(samples, "fraudstream_api_records_acknowledged_total") == 6
        assert total(samples, "fraudstream_api_request_seconds_count", outcome="accepted") == 6
        assert total(samples, "fraudstream_api_produce_batch_records_sum") == 6
        assert total(samples, "fraudstream_api_workers") == 2
        assert {dict(labels)["worker"] for labels in samples["process_cpu_seconds_total"]} == {
            "1",
            "2",
        }


def test_a_dead_worker_is_left_out_and_told(parts: Parts) -> None:
    """A scrape answers in time though a process is gone, and says that one is missing."""
    _, own = parts.gateway(workers=2)
    parts.running[1].kill()
    parts.running[1].wait()
    assert total(scrape(own[0]), "fraudstream_api_workers") == 1


RULES = """
[[rules]]
id = "amount-limit"
kind = "amount_limit"
limit = 900

[[rules]]
id = "channel"
kind = "cel"
shadow = true
condition = "metadata.channel == 'web'"
"""


def test_the_detector_tells_what_it_decided(parts: Parts, tmp_path: Path) -> None:
    """Verdicts by decision, hits by rule, duplicates, latency and lag, each as it happened."""
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    url, _ = parts.gateway(workers=1)
    at = parts.detector("--rules", str(rules))
    for amount, name in (("900.00", "a"), ("900.01", "b"), ("5000", "c"), ("5000", "c")):
        assert post(url, amount, transaction_id=name) == 202
    until(lambda: total(scrape(at), "fraudstream_detector_records_total") == 4)
    samples = scrape(at)
    verdicts = {"legit": 1, "fraud": 2}
    for decision, expected in verdicts.items():
        name = "fraudstream_detector_verdicts_total"
        assert total(samples, name, decision=decision) == expected
    assert total(samples, "fraudstream_detector_rule_hits_total", rule="amount-limit") == 2
    assert total(samples, "fraudstream_detector_rule_no_answer_total", rule="channel") == 3
    assert total(samples, "fraudstream_detector_duplicates_total") == 1
    assert total(samples, "fraudstream_detector_end_to_end_seconds_count") == 4
    assert total(samples, "fraudstream_detector_batch_records_sum") == 4
    assert total(samples, "fraudstream_detector_lag_records") == 0
    ages = samples["fraudstream_detector_fetch_age_seconds"]
    assert len(ages) == parts.settings.partitions
    assert all(0 <= age < DEADLINE_S for age in ages.values())
    assert total(samples, "fraudstream_detector_window_entries") == 3
    assert httpx.get(f"{at}/healthz", verify=TRUST).status_code == 200
    assert httpx.get(f"{at}/else", verify=TRUST).status_code == 404


def test_labels_have_few_values(parts: Parts) -> None:
    """No label holds what a client sends: ids, accounts, paths or user agents."""
    url, _ = parts.gateway(workers=1)
    at = parts.detector()
    post(url, "901")
    until(lambda: total(scrape(at), "fraudstream_detector_records_total") == 1)
    both = [scrape(url), scrape(at)]
    names = {label for s in both for each in s.values() for found in each for label, _ in found}
    assert names <= LABELS | {"topic", "worker"}
    assert all(len(each) <= 200 for s in both for each in s.values())


def test_a_taken_metrics_port_is_one_line_and_code_2(kafka_settings: TopicSettings) -> None:
    """Two detectors can't have the same port, and the second says so."""
    with listener.bind("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        environment = {**os.environ, "KAFKA_BROKER_URL": kafka_settings.kafka_broker_url}
        result = forked.run("detector", "--metrics-port", port, env=environment)
    assert result.returncode == 2
    expected = f"error: can't serve metrics on 127.0.0.1:{port}: Address already in use\n"
    assert result.stderr == expected
