"""Settings, and the type that keeps a secret."""

from __future__ import annotations

import hmac
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import urlsplit

from botbook._errors import ConfigError

__all__ = [
    "ENVIRONMENT",
    "Masked",
    "Secret",
    "Settings",
    "checked_url",
    "is_loopback",
    "profiles",
    "profiles_path",
    "settings",
]

#: Setting → environment variables, first one wins (protocols/miti.md 1).
ENVIRONMENT: Final[dict[str, dict[str, str]]] = {
    "miti": {
        "base_url": "MITI_API_BASE_URL",
        "app_id": "MITI_APP_ID",
        "app_secret": "MITI_APP_SECRET",
    },
    "agent": {"base_url": "BOTBOOK_AGENT_URL", "chat_id": "BOTBOOK_AGENT_CHAT"},
    "langbot": {
        "base_url": "BOTBOOK_LANGBOT_URL",
        "token": "BOTBOOK_LANGBOT_TOKEN",
        "api_key": "BOTBOOK_LANGBOT_API_KEY",
        "user": "BOTBOOK_LANGBOT_USER",
        "password": "BOTBOOK_LANGBOT_PASSWORD",
        "workspace": "BOTBOOK_LANGBOT_WORKSPACE",
        "pipeline": "BOTBOOK_LANGBOT_PIPELINE",
    },
    "box": {
        "base_url": "BOTBOOK_BOX_URL",
        "token": "BOTBOOK_BOX_TOKEN",
        "instance": "BOTBOOK_BOX_INSTANCE",
        "workspace": "BOTBOOK_BOX_WORKSPACE",
    },
}
SECRETS: Final = frozenset({"app_secret", "token", "password", "api_key"})
DEFAULT_BASE_URL: Final = {"miti": "https://www.miti.chat/chat"}
_LOOPBACK = re.compile(r"(localhost|127(\.\d{1,3}){3}|::1)\Z", re.IGNORECASE)


class Secret:
    """Text that never shows: not in a repr, a log, a format string, a pickle or a trait.

    Args:
        value: The text. `reveal` is the only way to it.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """The text itself, for the one place that sends it."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(•••)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return format(repr(self), spec)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._value.encode(), other._value.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __bool__(self) -> bool:
        return bool(self._value)

    def __deepcopy__(self, memo: Any) -> Secret:
        return self

    def __reduce__(self) -> Any:
        raise TypeError("a Secret is never pickled")


class Masked(str):
    """A text that is what it is and shows as "•••": for what a traceback that lists variables may find."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "'•••'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a connection needs to know.

    Attributes:
        gateway: ``sim``, ``miti``, ``agent``, ``langbot`` or ``box``.
        name: Name of the connection; default the gateway's.
        base_url: Where the gateway is.
        app_id: Miti: the agent's id.
        app_secret: Miti: its secret.
        token: LangBot: a user token; Box: the runtime's token.
        api_key: LangBot: an API key, for REST.
        user: LangBot: account, when no token is given.
        password: LangBot: its password.
        workspace: LangBot: workspace uuid; Box: which tenant.
        instance: Box: who we are to a runtime with tenants, which keeps the first name that it sees.
        pipeline: LangBot: pipeline uuid.
        chat_id: Agent: which chat; default "0".
        session_type: LangBot: ``person`` or ``group``.
        scenario: Sim: what happens there.
        speed: Sim: how many times faster than life.
        seed: Sim: the world's random seed.
        handler_timeout: Longest run of a handler, in seconds.
        archive_days: Events move into the archive when they are so many days old; 0: never by themselves.
        keep_days: Archived events are deleted when they are so many days old; 0: never.
    """

    gateway: str
    name: str = ""
    base_url: str = ""
    app_id: str = ""
    app_secret: Secret | None = None
    token: Secret | None = None
    api_key: Secret | None = None
    user: str = ""
    password: Secret | None = None
    workspace: str = ""
    instance: str = ""
    pipeline: str = ""
    chat_id: str = "0"
    session_type: Literal["person", "group"] = "person"
    scenario: str = "hello"
    speed: float = 1.0
    seed: int = 0
    handler_timeout: float = 60.0
    archive_days: float = 30.0
    keep_days: float = 0.0


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    return _LOOPBACK.match(host) is not None


def checked_url(url: str, *, schemes: tuple[str, ...] = ("http", "https")) -> str:
    """Check an address and cut its trailing slashes.

    Args:
        url: The address.
        schemes: Which schemes are fit; plain ones (``http``, ``ws``) go to loopback only.

    Raises:
        ConfigError: It is no such address, or it would send a secret in the clear.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ConfigError(f"{url!r} is no address: {error}") from None
    if url != url.strip() or parts.scheme not in schemes or not host:
        raise ConfigError(
            f"{url!r} is no address", hint=f"It starts with {' or '.join(s + '://' for s in schemes)}."
        )
    if "@" in parts.netloc:
        raise ConfigError("an address must not carry a user or a password", hint="Give them as settings.")
    if parts.scheme in ("http", "ws") and not is_loopback(host):
        raise ConfigError(
            f"{parts.scheme}:// is for this machine only, and {host} is not",
            hint=f"Use {parts.scheme}s:// for a remote gateway.",
        )
    return url.rstrip("/")


def profiles_path() -> Path:
    """Where profiles live: ``BOTBOOK_PROFILES``, else ``profiles.toml`` in the user's settings folder."""
    if named := os.environ.get("BOTBOOK_PROFILES"):
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("botbook", appauthor=False) / "profiles.toml"


def profiles(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """Read the profile file: one table a profile, keys as in `Settings`.

    Returns:
        Name → table; empty where there is no file.

    Raises:
        ConfigError: The file cannot be read or is not TOML.
    """
    path = path or profiles_path()
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"the profile file {path} cannot be read: {error}", hint="Mend the file.") from None
    return {name: _masked(table) for name, table in tables.items() if isinstance(table, dict)}


def _masked(table: dict[str, Any]) -> dict[str, Any]:
    """A profile; masked is what is not known to be harmless, for the name of a secret may be mistyped."""
    known = {f.name for f in fields(Settings)} - SECRETS
    return {
        key: Masked(value) if isinstance(value, str) and key not in known else value
        for key, value in table.items()
    }


def settings(
    gateway: str,
    *,
    profile: str = "",
    environ: Mapping[str, str] | None = None,
    path: Path | None = None,
    **given: Any,
) -> Settings:
    """Gather settings: keyword, else profile, else environment, else keyring.

    Args:
        gateway: Which gateway, also the default name of the profile.
        profile: Name of a profile; an unknown one is an error.
        environ: Default `os.environ`.
        path: Profile file; default `profiles_path`.
        **given: Fields of `Settings`; None and "" count as not given.

    Raises:
        ConfigError: An unknown field, an unknown profile, or a value of the wrong type.
    """
    known = {f.name for f in fields(Settings)} - {"gateway"}
    table = _profile_table(gateway, profile, path)
    for source, names in (("setting", given), (f"profile {profile or gateway!r}", table)):
        if unknown := sorted(set(names) - known):
            raise ConfigError(
                f"unknown {source}: {', '.join(unknown)}", hint=f"Known: {', '.join(sorted(known))}."
            )
    variables = os.environ if environ is None else environ
    values: dict[str, Any] = {
        key: variables[variable]
        for key, variable in ENVIRONMENT.get(gateway, {}).items()
        if variables.get(variable)
    }
    values |= {key: value for key, value in table.items() if value not in (None, "")}
    values |= {key: value for key, value in given.items() if value not in (None, "")}
    for key in SECRETS:
        secret = values.get(key)
        if not secret and key in ENVIRONMENT.get(gateway, {}):  # one that this gateway knows
            secret = _from_keyring(profile or gateway, key)
        values[key] = Secret(secret) if isinstance(secret, str) else secret
    values.setdefault("name", profile or gateway)
    values.setdefault("base_url", DEFAULT_BASE_URL.get(gateway, ""))
    return _typed(Settings(gateway=gateway, **values))


def _profile_table(gateway: str, profile: str, path: Path | None) -> dict[str, Any]:
    tables = profiles(path)
    if profile and profile not in tables:
        raise ConfigError(
            f"there is no profile {profile!r}",
            hint=f"Known: {', '.join(sorted(tables)) or 'none'}; see {path or profiles_path()}.",
        )
    table = dict(tables.get(profile or gateway, {}))
    if (named := table.pop("gateway", gateway)) != gateway:
        raise ConfigError(f"profile {profile!r} is for {named}, not for {gateway}")
    return table


def _from_keyring(profile: str, key: str) -> str | None:
    """A secret from the system's keyring, if the extra is installed and holds one."""
    try:
        import keyring
    except ImportError:
        return None
    try:
        found: str | None = keyring.get_password("botbook", f"{profile}.{key}")
        return found
    except keyring.errors.KeyringError:  # no keyring service on this machine
        return None


def _typed(made: Settings) -> Settings:
    numbers = dict.fromkeys(("speed", "handler_timeout", "archive_days", "keep_days"), (int, float))
    for name, kinds in {**numbers, "seed": (int,)}.items():
        value = getattr(made, name)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < 0:
            raise ConfigError(f"{name} is {value!r}, which is no such number")
    if made.session_type not in ("person", "group"):
        raise ConfigError(f"session type {made.session_type!r} is neither person nor group")
    return made
