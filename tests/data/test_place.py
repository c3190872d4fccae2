from __future__ import annotations

import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from botbook._data.place import journal_path, make_place, network_kind
from botbook._data.store import Store
from botbook._errors import StoreError, StoreFull

MOUNTS = """\
/dev/a / ext4 rw 0 0
host:/x /home/team\\040one nfs4 rw 0 0
me@host: /home/team\\040one/far fuse.sshfs rw 0 0
tmpfs /home/team\\040one/near tmpfs rw 0 0
//host/share /mnt/both cifs rw 0 0
/dev/b /mnt/both ext4 rw 0 0
broken
"""


@pytest.fixture
def mounts(tmp_path):
    file = tmp_path / "mounts"
    file.write_text(MOUNTS)
    return file


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/home/other/j", ""),
        ("/home/team one/j", "nfs4"),
        ("/home/team one/far/j", "fuse.sshfs"),
        ("/home/team one/near/j", ""),
        ("/home/team one b/j", ""),
        ("/mnt/both/j", ""),
    ],
)
def test_the_deepest_and_latest_mount_counts(mounts, place, kind):
    assert network_kind(Path(place), mounts=mounts) == kind


def test_no_list_of_mounts_means_local(tmp_path):
    assert network_kind(tmp_path, mounts=tmp_path / "none") == ""


@given(st.text(max_size=60))
def test_any_list_of_mounts_can_be_read(tmp_path_factory, text):
    file = tmp_path_factory.getbasetemp() / "any_mounts"
    file.write_text(text, encoding="utf-8", errors="replace")
    assert isinstance(network_kind(Path("/home/x"), mounts=file), str)


def test_a_network_place_is_refused_before_anything_is_made(tmp_path):
    file = tmp_path / "mounts"
    file.write_text(f"host:/x {tmp_path.resolve()} nfs rw 0 0\n")
    with pytest.raises(StoreError, match="network file system") as caught:
        make_place(tmp_path / "sub" / "j.sqlite", mounts=file)
    assert "BOTBOOK_STORE" in caught.value.hint
    assert not (tmp_path / "sub").exists()


def test_default_place(tmp_path, monkeypatch, make):
    monkeypatch.delenv("BOTBOOK_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    store = Store()
    folder = tmp_path / ".botbook"
    try:
        assert store.path == folder / "journal.sqlite"
        assert (folder / ".gitignore").read_text() == "*\n"
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        store.append(make(0, 1), lambda rows: None)
        assert store.flush(10)
        files = {file.name: stat.S_IMODE(file.stat().st_mode) for file in folder.glob("journal.sqlite*")}
        assert files == {f"journal.sqlite{end}": 0o600 for end in ("", "-wal", "-shm")}
    finally:
        store.close()


def test_environment_and_argument(tmp_path, monkeypatch):
    monkeypatch.setenv("BOTBOOK_STORE", str(tmp_path / "a.sqlite"))
    assert journal_path() == tmp_path / "a.sqlite"
    assert journal_path(tmp_path / "b.sqlite") == tmp_path / "b.sqlite"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert journal_path("~/c.sqlite") == tmp_path / "c.sqlite"


def test_only_the_own_folder_gets_a_gitignore(tmp_path):
    make_place(tmp_path / "data" / "j.sqlite")
    assert not (tmp_path / "data" / ".gitignore").exists()
    own = tmp_path / ".botbook"
    own.mkdir()
    (own / ".gitignore").write_text("mine")
    make_place(own / "j.sqlite")
    assert (own / ".gitignore").read_text() == "mine"


@pytest.mark.parametrize("name", [":memory:", "", "file:x?mode=memory", "a\0b"])
def test_only_a_disk_will_do(name):
    with pytest.raises(StoreError, match="no file"):
        journal_path(name)


def test_a_folder_is_no_journal(tmp_path):
    with pytest.raises(StoreError, match="is a folder"):
        journal_path(tmp_path)


def test_a_place_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreFull, match="cannot be made"):
        make_place(tmp_path / "file" / "j.sqlite")
