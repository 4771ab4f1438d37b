"""API keys: made, kept as hashes, read anew, and checked."""

import errno
import hashlib
import hmac
import json
import multiprocessing
import os
import stat
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from api.access import keyfile, keys
from api.access.keys import Keys
from api.access.scopes import SCOPES
from api.access.settings import AccessSettings
from api.errors import CredentialError, KeyFileError
from compose.cli import app
from tests.credentials import MADE, KeyFile, key_id

NOW = MADE.timestamp()


@pytest.fixture
def file(tmp_path: Path) -> KeyFile:
    """An empty file of keys."""
    return KeyFile(tmp_path)


def read(file: KeyFile, **given: object) -> Keys:
    """Take the keys of a file."""
    return Keys(AccessSettings(api_keys_file=file.path, **given))


def why(held: Keys, text: str, now: float = NOW) -> str:
    """Tell why a key does not count."""
    with pytest.raises(CredentialError) as error:
        held.check(text.encode(), now)
    return str(error.value)


def test_a_key_stands_for_its_principal(file: KeyFile) -> None:
    """By its id, name and scopes; several beside each other."""
    first, second = file.add("stream:fraud", name="anna"), file.add("metrics:read", name="ben")
    held = read(file)
    found = [held.check(text.encode(), NOW) for text in (first, second)]
    assert [(each.id, each.name, each.scopes) for each in found] == [
        (f"key:{key_id(first)}", "anna", {"stream:fraud"}),
        (f"key:{key_id(second)}", "ben", {"metrics:read"}),
    ]


def test_a_change_leaves_the_file_to_whom_it_belongs(file: KeyFile) -> None:
    """A gateway's own user, or its group, reads what root has changed."""
    text = file.add()
    others = 12_345 if os.geteuid() == 0 else -1  # only root can give a file away
    os.chown(file.path, others, others)
    file.path.chmod(0o640)
    before = file.path.stat()
    file.revoke(text)
    after = file.path.stat()
    assert before.st_ino != after.st_ino  # replaced, not written into
    assert (before.st_uid, before.st_gid) == (after.st_uid, after.st_gid)
    assert stat.S_IMODE(after.st_mode) == 0o640


def test_a_file_that_cannot_be_left_to_its_owner_is_not_changed(
    file: KeyFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Better no change than one that locks the gateway out and is called done."""
    text = file.add()
    before = file.path.read_bytes()

    def refuse(*_: int) -> None:  # as the kernel does to all but root and the owner
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchmod", refuse)
    with pytest.raises(KeyFileError, match="belongs to user"):
        file.revoke(text)
    assert file.path.read_bytes() == before
    left = {each.name for each in file.path.parent.iterdir()}
    assert left == {"keys.json", "keys.json.lock"}


def test_the_file_holds_no_key(file: KeyFile) -> None:
    """Only a hash of each; nobody else may read or write it, and nothing is left beside it."""
    text = file.add()
    content = file.path.read_text()
    assert text.split("_", 2)[2] not in content
    assert json.loads(content)["keys"][0]["sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert {each.name for each in file.path.parent.iterdir()} == {"keys.json", "keys.json.lock"}


def test_a_key_has_256_random_bits(file: KeyFile) -> None:
    """No two are alike, and the secret is of 32 bytes."""
    made = {file.add() for _ in range(20)}
    assert len(made) == 20
    assert {len(text.split("_", 2)[2]) for text in made} == {43}


def test_expired_revoked_and_unknown_keys_do_not_count(file: KeyFile) -> None:
    """Until its last second a key counts; whoever does not have it learns nothing of it."""
    text = file.add(expires_at=MADE + timedelta(days=1))
    held = read(file)
    assert held.check(text.encode(), NOW + 86_399).expires_at == NOW + 86_400
    assert why(held, text, NOW + 86_400) == "the API key has expired"
    file.revoke(text)
    held.reload()
    assert why(held, text) == "the API key was revoked"
    for wrong in (text[:-1] + "!", f"fs_{key_id(text)}_", f"fs_nobody_{text}", "fs_", "", "_"):
        assert why(held, wrong) == "there is no such API key"


def test_a_key_is_compared_in_constant_time(file: KeyFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its whole hash, once; for an id that there is not no less."""
    text = file.add()
    held = read(file)
    compared: list[int] = []
    compare = hmac.compare_digest
    monkeypatch.setattr(
        hmac, "compare_digest", lambda a, b: compared.append(len(b)) or compare(a, b)
    )
    for wrong in (f"{text[:-1]}!", f"fs_nobody_{text[12:]}", "fs_", "", "x" * 5000):
        assert why(held, wrong) == "there is no such API key"
    assert compared == [32] * 5


@given(st.binary(max_size=100))
def test_whatever_is_sent_is_refused(text: bytes) -> None:
    """Bytes of any kind are no key, and no failure."""
    with pytest.raises(CredentialError):
        Keys(AccessSettings(api_supervisor_key=keys.supervisors_key())).check(text, NOW)


def test_a_supervisors_key_counts_without_a_file() -> None:
    """It may do what a supervisor does, and nothing more."""
    text = keys.supervisors_key()
    found = Keys(AccessSettings(api_supervisor_key=text)).check(text.encode(), NOW)
    assert found.scopes == SCOPES - {"accounts:read"}


def test_a_changed_file_is_taken_and_a_bad_one_is_not(file: KeyFile) -> None:
    """New keys count, those that are gone do not; after a bad file the last good one stays."""
    first = file.add()
    held = read(file)
    told: list[int] = []
    held.on_change.append(lambda: told.append(1))
    second = file.add()
    held.reload()
    assert held.check(second.encode(), NOW).name == "test"
    for bad in ("", "[]", '{"keys": 1}', '{"keys": [{"id": "a"}]}', '{"keys": [], "x": 1}', "\xff"):
        file.path.write_text(bad, encoding="latin-1")
        held.reload()
        assert held.check(first.encode(), NOW).name == "test"
    file.path.unlink()
    held.reload()
    assert held.check(first.encode(), NOW).name == "test"
    file.path.write_text('{"keys": []}')
    held.reload()
    assert why(held, first) == "there is no such API key"
    assert len(told) == 2


def test_what_is_remembered_of_a_key_ends_with_it(file: KeyFile) -> None:
    """It expires with the key, is forgotten when the file is read, and is bounded."""
    text = file.add(expires_at=MADE + timedelta(days=1))
    held = read(file)
    header = f"Bearer {text}".encode()
    assert held.recall(header, NOW) is None
    found = held.check(text.encode(), NOW)
    held.remember(header, found)
    assert held.recall(header, NOW + 86_399) == found
    assert held.recall(header, NOW + 86_400) is None
    assert held.recall(header[:-1], NOW) is None
    file.revoke(text)
    held.reload()
    assert held.recall(header, NOW) is None
    for number in range(2 * keys.MAX_RECENT + 1):
        held.remember(b"%d" % number, found)
    assert 1 <= len(held._recent) <= keys.MAX_RECENT
    assert str(2 * keys.MAX_RECENT).encode() not in held._recent


def test_a_file_that_everyone_may_write_is_refused(file: KeyFile) -> None:
    """Else everyone could let themselves in."""
    file.path.chmod(0o602)
    with pytest.raises(KeyFileError, match="written by everyone"):
        read(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scopes": ["stream:all"]}, "stream:all is no scope"),
        ({"sha256": "c4n4ry"}, "sha256"),
        ({"created_at": "2026-01-01T00:00:00"}, "created_at"),
        ({"id": "a_b"}, "id"),
        ({"name": ""}, "name"),
        ({"more": 1}, "more"),
    ],
)
def test_an_error_names_what_is_wrong(
    file: KeyFile, change: dict[str, object], message: str
) -> None:
    """Which field, and where; no hash is repeated."""
    file.add()
    whole = json.loads(file.path.read_text())
    whole["keys"][0] |= change
    file.path.write_text(json.dumps(whole))
    with pytest.raises(KeyFileError, match=message) as error:
        read(file)
    assert "c4n4ry" not in str(error.value)


def test_an_id_is_there_once(file: KeyFile) -> None:
    """Which of two keys an id means would be a guess."""
    file.add()
    whole = json.loads(file.path.read_text())
    file.path.write_text(json.dumps({"keys": whole["keys"] * 2}))
    with pytest.raises(KeyFileError, match="twice"):
        read(file)


def _add_some(folder: Path) -> None:
    path = folder / "keys.json"
    for _ in range(10):
        with keyfile.changing(path) as stored:
            stored.append(keyfile.make("n", ["metrics:read"], None, MADE)[1])


def test_writers_wait_for_each_other(file: KeyFile) -> None:
    """Of keys made at the same time by several processes none is lost."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # what they need is loaded once
    writers = [context.Process(target=_add_some, args=(file.path.parent,)) for _ in range(3)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
    assert len(keyfile.read(file.path)) == 30


def test_a_failed_change_changes_nothing(file: KeyFile) -> None:
    """The file stays as it was, byte by byte."""
    file.add()
    before = file.path.read_bytes()
    with pytest.raises(IndexError), keyfile.changing(file.path) as stored:
        del stored[0], stored[0]
    with pytest.raises(KeyFileError, match="twice"), keyfile.changing(file.path) as stored:
        stored.extend(list(stored))
    assert file.path.read_bytes() == before


def run(*arguments: str, file: Path) -> Result:
    """Run `fraudstream keys`."""
    return CliRunner().invoke(app, ["keys", *arguments], env={"API_KEYS_FILE": str(file)})


def test_keys_are_made_listed_and_revoked_by_command(tmp_path: Path) -> None:
    """The key is printed once; the list tells its state and no hash."""
    file = tmp_path / "new.json"
    scopes = "transactions:write,metrics:read"
    made = run("create", "--name", "anna", "--scopes", scopes, "--expires-in", "90d", file=file)
    assert made.exit_code == 0
    text = made.stdout.strip()
    held = Keys(AccessSettings(api_keys_file=file))
    found = held.check(text.encode(), NOW)
    assert found.scopes == {"transactions:write", "metrics:read"}
    listed = run("list", file=file).stdout
    (key,) = keyfile.read(file)
    assert key.expires_at == key.created_at + timedelta(days=90)
    assert key.id in listed
    assert "anna" in listed
    assert key.sha256 not in listed + run("list", "--json", file=file).stdout
    assert run("revoke", key.id, file=file).stdout == f"revoked {key.id} (anna)\n"
    held.reload()
    assert why(held, text) == "the API key was revoked"
    assert json.loads(run("list", "--json", file=file).stdout)["state"].startswith("revoked 20")


def test_made_and_revoked_keys_are_recorded(tmp_path: Path) -> None:
    """In the audit log: which key, whose, and what it allows; not the key."""
    file, log = tmp_path / "keys.json", tmp_path / "audit"
    env = {"API_KEYS_FILE": str(file), "AUDIT_LOG": str(log)}
    made = ["keys", "create", "--name", "anna", "--scopes", "metrics:read"]
    text = CliRunner().invoke(app, made, env=env).stdout.strip()
    CliRunner().invoke(app, ["keys", "revoke", key_id(text)], env=env)
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    told = {"part": "keys", "key": key_id(text), "name": "anna", "scopes": ["metrics:read"]}
    assert [{**line, "time": ""} for line in lines] == [
        {"time": "", "event": event, **told} for event in ("key-created", "key-revoked")
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("create", "--name", "a", "--scopes", "all"), "all is no scope"),
        (("create", "--name", "a", "--scopes", "metrics:read", "--expires-in", "1y"), "'1y'"),
        (("revoke", "nobody"), "there is no key 'nobody'"),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(
    tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """Exit code 2, and no key is made."""
    done = run(*arguments, file=tmp_path / "keys.json")
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "keys.json").exists()
