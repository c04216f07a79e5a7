"""deploy onto a folder that is there already: edits are never lost silently."""

import json

import pytest

from tinykit.errors import ConfigError
from tinykit.packaging.folder import MANIFEST, write_folder

FILES = {"Net/src/net.c": b"code", "Net/README.md": b"words"}


def snapshot(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_the_same_again_changes_nothing(tmp_path):
    write_folder(tmp_path, FILES, archive="Net")
    before = snapshot(tmp_path)
    written = write_folder(tmp_path, FILES, archive="Net")
    assert snapshot(tmp_path) == before and not written.edited and not written.removed
    assert set(before) == {*FILES, "Net.zip", MANIFEST}


def test_files_that_nobody_edited_are_replaced(tmp_path):
    write_folder(tmp_path, FILES)
    written = write_folder(tmp_path, FILES | {"Net/src/net.c": b"new code"})
    assert (tmp_path / "Net/src/net.c").read_bytes() == b"new code" and not written.edited


def test_an_edited_file_stays_and_is_named_again_and_again(tmp_path):
    write_folder(tmp_path, FILES, archive="Net")
    (tmp_path / "Net/README.md").write_bytes(b"mine")
    for content in (b"other words", b"more words"):
        written = write_folder(tmp_path, FILES | {"Net/README.md": content}, archive="Net")
        assert written.edited == ["Net/README.md"]
        assert (tmp_path / "Net/README.md").read_bytes() == b"mine"


def test_the_archive_holds_what_lies_in_the_folder(tmp_path):
    import zipfile

    write_folder(tmp_path, FILES, archive="Net")
    (tmp_path / "Net/README.md").write_bytes(b"mine")
    write_folder(tmp_path, FILES | {"Net/README.md": b"other"}, archive="Net")
    with zipfile.ZipFile(tmp_path / "Net.zip") as archive:
        assert archive.read("Net/README.md") == b"mine"


def test_force_keeps_a_backup_of_every_edit(tmp_path):
    write_folder(tmp_path, FILES)
    for edit, backup in ((b"mine", "README.md.bak"), (b"mine too", "README.md.bak2")):
        (tmp_path / "Net/README.md").write_bytes(edit)
        written = write_folder(tmp_path, FILES, force=True)
        assert written.saved == {"Net/README.md": f"Net/{backup}"}
        assert (tmp_path / "Net" / backup).read_bytes() == edit
        assert (tmp_path / "Net/README.md").read_bytes() == b"words"


def test_a_file_that_was_never_ours_counts_as_edited(tmp_path):
    (tmp_path / "Net").mkdir()
    (tmp_path / "Net/README.md").write_bytes(b"theirs")
    (tmp_path / "Net/notes.txt").write_bytes(b"private")
    assert write_folder(tmp_path, FILES).edited == ["Net/README.md"]
    assert (tmp_path / "Net/notes.txt").read_bytes() == b"private"


def test_files_of_an_earlier_package_go_unless_edited(tmp_path):
    write_folder(tmp_path, FILES | {"Net/old/a.c": b"a", "Net/old/b.c": b"b", "Net/gone/c.c": b"c"})
    (tmp_path / "Net/old/b.c").write_bytes(b"mine")
    written = write_folder(tmp_path, FILES)
    assert written.removed == ["Net/gone/c.c", "Net/old/a.c"] and written.edited == ["Net/old/b.c"]
    assert (tmp_path / "Net/old/b.c").read_bytes() == b"mine" and not (tmp_path / "Net/gone").exists()
    assert write_folder(tmp_path, FILES).edited == []  # named once: it is the user's own now


def test_a_deploy_that_was_interrupted_is_finished_by_the_next(tmp_path):
    """Killed before the manifest: files with the new content are ours, those with the old one as well."""
    write_folder(tmp_path, FILES)
    (tmp_path / "Net/README.md").write_bytes(b"new words")
    written = write_folder(tmp_path, {"Net/src/net.c": b"new code", "Net/README.md": b"new words"})
    assert not written.edited and (tmp_path / "Net/src/net.c").read_bytes() == b"new code"


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"files": 3}', '{"files": {"../escape": "0"}}', '{"files": {"/etc/passwd": "0"}}', '{"files": {"a": 1}}', "[" * 100_000],
)
def test_a_damaged_manifest_is_an_error_and_nothing_is_written(tmp_path, text):
    write_folder(tmp_path, FILES)
    (tmp_path / MANIFEST).write_text(text)
    before = snapshot(tmp_path)
    with pytest.raises(ConfigError, match="is damaged; delete it"):
        write_folder(tmp_path, {"Net/README.md": b"x"})
    assert snapshot(tmp_path) == before


def test_a_place_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match="expected a folder that can be written to"):
        write_folder(tmp_path / "file" / "out", FILES)
    (tmp_path / "out/Net/README.md").mkdir(parents=True)
    with pytest.raises(ConfigError, match="is a folder; a file of that name"):
        write_folder(tmp_path / "out", FILES)


def test_the_manifest_lists_what_was_written(tmp_path):
    write_folder(tmp_path, FILES, archive="Net")
    assert set(json.loads((tmp_path / MANIFEST).read_text())["files"]) == {*FILES, "Net.zip"}
