"""Settings: where they come from, what is refused, and that a secret never shows."""

from __future__ import annotations

import dataclasses
import json
import pickle
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._config import Secret, Settings, checked_url, is_loopback, profiles, profiles_path, settings
from botbook._errors import ConfigError

PROFILES = """
[work]
gateway = "miti"
app_id = "cli_work"
app_secret = "s3cret-of-work"

[miti]
app_id = "cli_default"
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "profiles.toml"
    file.write_text(PROFILES)
    return file


def gathered(gateway="miti", **given):
    return settings(gateway, environ=given.pop("environ", {}), **given)


def test_keyword_before_profile_before_environment(path):
    environ = {
        "MITI_APP_ID": "cli_env",
        "MITI_APP_SECRET": "env-secret",
        "MITI_API_BASE_URL": "https://x.test",
    }
    made = gathered(path=path, environ=environ)
    assert (made.app_id, made.base_url) == ("cli_default", "https://x.test")
    assert made.app_secret.reveal() == "env-secret"
    assert gathered(path=path, environ=environ, profile="work").app_secret.reveal() == "s3cret-of-work"
    assert gathered(path=path, environ=environ, app_id="cli_given").app_id == "cli_given"


def test_empty_counts_as_not_given(path):
    made = gathered(path=path, environ={"MITI_API_BASE_URL": ""}, app_id="")
    assert made.app_id == "cli_default"
    assert made.base_url == "https://www.miti.chat/chat"


def test_names_default_to_the_profile_then_the_gateway(path):
    assert gathered(path=path, profile="work").name == "work"
    assert gathered(path=path).name == "miti"
    assert gathered(path=path, name="mine").name == "mine"


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"profile": "nope"}, "there is no profile 'nope'"),
        ({"app_idd": "x"}, "unknown setting: app_idd"),
        ({"speed": "fast"}, "speed is 'fast'"),
        ({"speed": -1.0}, "speed is -1.0"),
        ({"seed": True}, "seed is True"),
        ({"session_type": "crowd"}, "neither person nor group"),
    ],
)
def test_what_is_refused(path, given, text):
    with pytest.raises(ConfigError, match=text) as caught:
        gathered(path=path, **given)
    assert caught.value.hint


def test_a_profile_for_another_gateway_is_refused(path):
    with pytest.raises(ConfigError, match="is for miti, not for langbot"):
        gathered("langbot", path=path, profile="work")


def test_an_unknown_field_of_a_profile_is_refused(tmp_path):
    file = tmp_path / "p.toml"
    file.write_text("[miti]\nap_id = 'x'\n")
    with pytest.raises(ConfigError, match="unknown profile 'miti': ap_id"):
        gathered(path=file)


@pytest.mark.parametrize("content", [b"= broken", b"\xff\xfe"])
def test_a_broken_profile_file_is_named(tmp_path, content):
    file = tmp_path / "p.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError, match=r"p\.toml cannot be read"):
        profiles(file)


def test_no_profile_file_is_no_profile(tmp_path):
    assert profiles(tmp_path / "none.toml") == {}
    (tmp_path / "flat.toml").write_text("key = 1")
    assert profiles(tmp_path / "flat.toml") == {}


def test_the_place_of_profiles(monkeypatch, tmp_path):
    monkeypatch.setenv("BOTBOOK_PROFILES", str(tmp_path / "mine.toml"))
    assert profiles_path() == tmp_path / "mine.toml"
    monkeypatch.delenv("BOTBOOK_PROFILES")
    assert profiles_path().name == "profiles.toml"


def test_the_keyring_is_asked_last_and_may_be_missing(monkeypatch, tmp_path):
    keyring = pytest.importorskip("keyring")
    monkeypatch.setattr(keyring, "get_password", lambda service, name: f"{service}/{name}")
    made = gathered(path=tmp_path / "none", app_id="x")
    assert made.app_secret.reveal() == "botbook/miti.app_secret"
    assert gathered("sim", path=tmp_path / "none").token is None

    def fail(service, name):
        raise keyring.errors.NoKeyringError

    monkeypatch.setattr(keyring, "get_password", fail)
    assert gathered(path=tmp_path / "none").app_secret is None
    monkeypatch.setitem(__import__("sys").modules, "keyring", None)
    assert gathered(path=tmp_path / "none").app_secret is None


@given(st.text(min_size=6).filter(lambda text: text not in "Secret(•••)"))
def test_a_secret_never_shows(text):
    secret = Secret(text)
    made = Settings(gateway="miti", app_secret=secret)
    try:
        raise ConfigError(f"{secret} {secret!r} {secret:>20} {made}")
    except ConfigError:
        shown = traceback.format_exc()
    assert repr(secret) in shown
    for view in (repr(secret), str(secret), f"{secret}", repr(made), repr({"s": secret})):
        assert text not in view
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert text not in repr(dataclasses.asdict(made))
    assert secret.reveal() == text


def test_secrets_compare_and_count():
    assert Secret("a") == Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert hash(Secret("a")) == hash(Secret("a"))
    assert bool(Secret("a"))
    assert not Secret("")


@pytest.mark.parametrize(
    "url",
    [
        "https://x.test/chat",
        "http://localhost:1/chat",
        "http://LOCALHOST",
        "http://127.0.0.2:80",
        "http://[::1]:1",
    ],
)
def test_good_addresses(url):
    assert checked_url(url + "/") == url


@pytest.mark.parametrize(
    "url",
    [
        "http://example.test",
        " https://x.test",
        "ws://localhost",
        "http://localhost:1@evil.test",
        "https://user:pw@x.test",
        "https://",
        "nonsense",
        "",
        "http://127.0.0.1.evil.test",
        "http://[::1",
        "https://x.test:99999",
    ],
)
def test_bad_addresses(url):
    with pytest.raises(ConfigError):
        checked_url(url)


def test_websocket_addresses():
    assert checked_url("ws://127.0.0.1:3/", schemes=("ws", "wss")) == "ws://127.0.0.1:3"
    with pytest.raises(ConfigError, match="this machine only"):
        checked_url("ws://x.test", schemes=("ws", "wss"))


@given(st.text())
def test_any_text_is_an_address_or_a_clear_error(text):
    try:
        checked_url(text)
    except ConfigError:
        return
    assert text.startswith(("http", "HTTP"))


@pytest.mark.parametrize(
    ("host", "own"), [("127.1.2.3", True), ("::1", True), ("127.0.0.1.x", False), ("", False)]
)
def test_loopback(host, own):
    assert is_loopback(host) is own


def test_a_profile_shows_what_is_harmless_alone(path):
    path.write_text(PROFILES + 'app_secrett = "s3cret-mistyped"\n')
    found = profiles(path)
    assert "s3cret" not in repr(found)
    assert "cli_work" in repr(found)
    assert f"{found['miti']['app_secrett']}" == "s3cret-mistyped"
    assert settings("miti", profile="work", environ={}, path=path).app_secret == Secret("s3cret-of-work")
