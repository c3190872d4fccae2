"""One rule for proxies, shared by REST and WebSocket (protocols/miti.md 10, defect 20).

- This machine is never reached through a proxy.
- Else ``HTTPS_PROXY``, then ``ALL_PROXY`` (either case; on macOS and Windows the system's settings
  too) name the proxy, and ``NO_PROXY`` names hosts without one. It is an ``http://`` proxy.
- ``trust_env=False`` turns all of that off.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from botbook._config import is_loopback
from botbook._errors import ConfigError

__all__ = ["proxy_for"]


def proxy_for(url: str, *, trust_env: bool = True) -> str | None:
    """The proxy on the way to an address.

    Args:
        url: Where to, ``https://`` or ``wss://``; plain ones are for this machine only.
        trust_env: Whether the environment has a say.

    Returns:
        Its address, or None for the direct way.

    Raises:
        ConfigError: The environment names a kind of proxy that cannot be used.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if not trust_env or is_loopback(host):
        return None
    import urllib.request

    proxies = urllib.request.getproxies()
    found = proxies.get("https") or proxies.get("all")
    if not found or urllib.request.proxy_bypass(f"{host}:{parts.port or 443}"):
        return None
    if "://" not in found:
        found = f"http://{found}"
    if not found.startswith("http://"):
        raise ConfigError(
            f"a {found.partition('://')[0]} proxy cannot be used",
            hint="Name an http:// proxy in HTTPS_PROXY, or the gateway's host in NO_PROXY.",
        )
    return found
