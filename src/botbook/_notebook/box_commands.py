"""The verbs of the sandbox: ``%%bot box`` and ``%bot box …``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Final

from botbook._notebook.words import CellCommand, Command, argument, flag, option, out_option, variable, whole

__all__ = ["BOX_COMMANDS", "Doctor", "Get", "Ls", "Open", "Ps", "Put", "Rm", "Run", "Show", "Stop"]

#: The session of those who name none.
SESSION: Final = "default"


def _session() -> Any:
    return option("S", f"which session; default {SESSION!r}", default=SESSION, values="sessions")


def _profile() -> Any:
    return option("P", "the runtime of this profile; default the one in this process", values="profiles")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run(CellCommand):
    """Run the body in a sandbox; a failure turns the cell red."""

    verb: ClassVar[str] = "box"
    example: ClassVar[str] = "%%bot box --timeout 10 --out r\necho hello > file; wc -c file"
    session: str = _session()
    lang: str = option("L", "sh or python; default sh", default="sh", choices=("sh", "python"))
    timeout: int | None = option("S", "longest run, in seconds; default 30", convert=whole)
    net: str | None = option("N", "on or off, for a new session; default off", choices=("on", "off"))
    profile: str | None = _profile()
    out: str | None = out_option("r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Open(Command):
    """List the sandbox's sessions; as a value, the `Box` itself."""

    verb: ClassVar[str] = "box"
    example: ClassVar[str] = "box = %bot box"
    profile: str | None = _profile()
    out: str | None = out_option("box")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ls(Command):
    """List the sandbox's sessions."""

    verb: ClassVar[str] = "box ls"
    profile: str | None = _profile()
    out: str | None = out_option("r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Ps(Command):
    """List managed processes, of all sessions or of one."""

    verb: ClassVar[str] = "box ps"
    session: str | None = option("S", "only of this session", values="sessions")
    profile: str | None = _profile()
    out: str | None = out_option("r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Stop(Command):
    """End a managed process."""

    verb: ClassVar[str] = "box stop"
    process: str = argument("PROCESS", "its name, as `box ps` lists it")
    session: str = _session()
    profile: str | None = _profile()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rm(Command):
    """End a session with its files and all that runs in it."""

    verb: ClassVar[str] = "box rm"
    session: str = argument("SESSION", "which one", values="sessions")
    profile: str | None = _profile()


@dataclass(frozen=True, slots=True, kw_only=True)
class Put(Command):
    """Copy a file, or a variable, into the sandbox."""

    verb: ClassVar[str] = "box put"
    example: ClassVar[str] = "%bot box put --var df data.csv"
    path: str = argument("PATH", "the file; with --var, the place inside")
    to: str = argument("TO", "its place inside; default its name, in the workspace", required=False)
    var: str | None = option("NAME", "the value of this variable, in place of a file", convert=variable)
    session: str = _session()
    profile: str | None = _profile()


@dataclass(frozen=True, slots=True, kw_only=True)
class Get(Command):
    """Copy a file out of the sandbox."""

    verb: ClassVar[str] = "box get"
    example: ClassVar[str] = "%bot box get plot.png"
    path: str = argument("PATH", "the file inside")
    to: str = argument("TO", "where to; default its name, here; nowhere with --out", required=False)
    session: str = _session()
    profile: str | None = _profile()
    out: str | None = option("r", "keep its bytes in this variable", convert=variable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Show(Command):
    """Show a picture or a text that lies in the sandbox."""

    verb: ClassVar[str] = "box show"
    example: ClassVar[str] = "%bot box show plot.png"
    path: str = argument("PATH", "the file inside")
    session: str = _session()
    profile: str | None = _profile()


@dataclass(frozen=True, slots=True, kw_only=True)
class Doctor(Command):
    """Say which protections are in force, and which are not."""

    verb: ClassVar[str] = "box doctor"
    all: bool = flag("also what the other backends could do here; each is tried")
    profile: str | None = _profile()
    out: str | None = out_option("r")


#: In the order in which help lists them.
BOX_COMMANDS: Final[tuple[type[Command], ...]] = (Run, Open, Ls, Ps, Stop, Rm, Put, Get, Show, Doctor)
