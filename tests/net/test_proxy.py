from __future__ import annotations

import pytest

from botbook._errors import ConfigError
from botbook._net.proxy import proxy_for

PROXY = "http://127.0.0.1:3128"


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch):
    for name in ("http", "https", "all", "no", "ws", "wss", "socks"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name}_proxy".upper(), raising=False)


def test_without_settings_the_way_is_direct():
    assert proxy_for("https://example.org/x") is None


@pytest.mark.parametrize("name", ["HTTPS_PROXY", "https_proxy", "ALL_PROXY"])
@pytest.mark.parametrize("url", ["https://example.org/x", "wss://example.org:444/x"])
def test_rest_and_websocket_take_the_same_proxy(monkeypatch, name, url):
    monkeypatch.setenv(name, PROXY)
    assert proxy_for(url) == PROXY
    assert proxy_for(url, trust_env=False) is None


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:1/x", "ws://localhost/x", "wss://[::1]/x", "https://127.0.0.9"]
)
def test_this_machine_is_never_reached_through_a_proxy(monkeypatch, url):
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("ALL_PROXY", PROXY)
    assert proxy_for(url) is None


def test_no_proxy_names_hosts(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    monkeypatch.setenv("NO_PROXY", "example.org")
    assert proxy_for("https://example.org/x") is None
    assert proxy_for("wss://api.example.org/x") is None
    assert proxy_for("https://example.com/x") == PROXY


def test_a_proxy_without_scheme(monkeypatch):
    monkeypatch.setenv("HTTPS_PROXY", "proxy.example.org:3128")
    assert proxy_for("https://example.org") == "http://proxy.example.org:3128"


def test_other_kinds_are_refused(monkeypatch):
    monkeypatch.setenv("ALL_PROXY", "socks5://user:hidden@127.0.0.1:1080")
    with pytest.raises(ConfigError, match="a socks5 proxy cannot be used") as caught:
        proxy_for("wss://example.org")
    assert "hidden" not in str(caught.value)
    assert "HTTPS_PROXY" in caught.value.hint
