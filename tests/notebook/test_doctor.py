import pytest

from botbook._errors import ConfigError
from botbook._notebook import doctor, render

SECRET = "s3cr3t-value-of-the-fixture"


@pytest.fixture
def profile(tmp_path, monkeypatch):
    path = tmp_path / "profiles.toml"
    monkeypatch.setenv("BOTBOOK_PROFILES", str(path))
    monkeypatch.setenv("BOTBOOK_STORE", str(tmp_path / "journal.sqlite"))
    path.write_text(
        f'[work]\ngateway = "miti"\napp_id = "a1"\napp_secret = "{SECRET}"\nsecrte = "{SECRET}"\nbase_url = "https://u:{SECRET}@x"\n[empty]\n'
    )
    return path


def flat(found):
    return {name: (mark, text, fix) for findings in found.values() for mark, name, text, fix in findings}


def test_what_it_finds_and_what_it_never_shows(profile):
    environ = {"MITI_APP_SECRET": SECRET, "VSCODE_PID": "1"}
    found = doctor.collect(kernel="ipykernel 7", environ=environ)
    facts = flat(found)
    assert facts["kernel"][1] == "ipykernel 7"
    assert facts["front end"][1] == "VS Code"
    assert facts["profile work"][1] == "gateway=miti, app_id=a1, app_secret=•••, secrte=•••, base_url=•••"
    assert facts["profile empty"][1] == "empty"
    assert facts["environment"][1] == "set: MITI_APP_SECRET"
    assert facts["over loopback"][:2] == ("ok", facts["over loopback"][1])
    assert facts["over loopback"][1].startswith("open after ")
    assert facts["loops"][1] == "not patched"
    assert facts["backend"][0] == "ok"
    assert facts["cannot reach any network when it is off"][:1] == ("ok",)
    assert {"aiohttp", "pandas", "websockets"} <= set(facts)
    view = render.report(found)
    assert SECRET not in view.html + view.markdown + view.plain
    assert "All is well." in view.plain


def test_what_is_missing_comes_with_its_fix(profile, monkeypatch):
    profile.write_text("not toml")
    monkeypatch.setenv("BOTBOOK_STORE", ":memory:")
    monkeypatch.setattr(doctor, "version_of", lambda package: "")
    monkeypatch.setattr(doctor, "nest_state", lambda: "nest-asyncio")
    facts = flat(doctor.collect(environ={}, world=False))
    assert facts["pandas"] == ("fix", "missing", "pip install pandas")
    assert facts["profiles"][0] == "fix"
    assert facts["place"][0] == "fix"
    assert facts["loops"][0] == "fix"
    assert facts["kernel"][1].startswith("none")
    assert "over loopback" not in facts


def test_a_patched_loop_is_noted(profile, monkeypatch):
    monkeypatch.setattr(doctor, "nest_state", lambda: "nest-asyncio2")
    assert flat(doctor.collect(world=False))["loops"] == ("note", "patched by nest-asyncio2", "")


def test_a_folder_that_cannot_be_written_is_named(profile, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert flat(doctor.collect(world=False))["right to write"][0] == "fix"
    profile.with_name("journal.sqlite").write_text("x")
    assert "MB" in flat(doctor.collect(world=False))["place"][1]


def test_a_world_that_cannot_be_reached_is_said(profile, monkeypatch):
    async def refused(store):
        raise ConfigError("no loopback")

    monkeypatch.setattr(doctor, "_reached", refused)
    mark, text, fix = flat(doctor.collect())["over loopback"]
    assert (mark, text) == ("fix", "no loopback")
    assert fix


def test_a_machine_without_a_sandbox_is_told_and_is_no_fault(profile, monkeypatch):
    from botbook._local import backends
    from tests.local.box_fakes import FakeBackend

    monkeypatch.setattr(backends, "BACKENDS", {"broken": lambda: FakeBackend(available=False)})
    mark, text, fix = flat(doctor.collect())["backend"]
    assert (mark, "there is no kernel" in text, "box doctor" in fix) == ("note", True, True)


def test_without_metadata_no_package_is_asked_for(monkeypatch):
    def unknown(package):
        raise doctor.PackageNotFoundError(package)

    monkeypatch.setattr(doctor, "requires", unknown)
    assert doctor._required() == []


def test_the_kernel_in_words(shell):
    assert doctor.kernel_of(shell).startswith("InteractiveShell, IPython ")

    class Kernel:
        kernel = object()

    assert doctor.kernel_of(Kernel()).startswith("ipykernel ")


def test_the_verb_shows_it(sim, profile):
    bundle = sim.run("%bot doctor").bundles[0]
    assert "over loopback: open after" in bundle["text/plain"]
