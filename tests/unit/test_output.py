"""Output at paths of the user: files of others stay, writes are whole, nothing is left behind."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from gan_lab.utils import output
from gan_lab.utils.errors import UserError
from gan_lab.utils.output import MANIFEST_NAME, OutputFiles, find_outputs, list_visible


def write(path: Path, text: str = "by the lab", overwrite: bool = False) -> Path:
    """Write a file as the commands do."""
    with OutputFiles(overwrite).write(path) as unfinished:
        unfinished.write_text(text)
    return path


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Return every file and link under a folder with its content."""
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def test_write_own_file_needs_overwrite(tmp_path: Path) -> None:
    """Earlier output is replaced only on request, as often as the user likes."""
    path = write(tmp_path / "a.txt", "first")
    with pytest.raises(UserError, match=r"a\.txt exists\. .* --overwrite"):
        write(path, "second")
    assert path.read_text() == "first"
    for text in ("second", "third"):
        write(path, text, overwrite=True)
        assert path.read_text() == text


@pytest.mark.parametrize("name", ["mine.txt", "my file.txt", "{a} ${b} %s.txt", "ä.TXT", "a"])
@pytest.mark.parametrize("overwrite", [False, True])
def test_write_foreign_file_is_refused(tmp_path: Path, name: str, overwrite: bool) -> None:
    """A file that the lab did not write is never replaced, whatever its name."""
    (tmp_path / name).write_text("by the user")
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="is not output of gan-lab"):
        write(tmp_path / name, overwrite=overwrite)
    assert snapshot(tmp_path) == before


def test_write_edited_file_is_refused(tmp_path: Path) -> None:
    """A file that the user has edited since belongs to the user."""
    path = write(tmp_path / "job.sh")
    path.write_text("by the lab, and a line of the user")
    with pytest.raises(UserError, match="or has changed since"):
        write(path, overwrite=True)
    # another file under the same name is not output either
    path.unlink()
    path.write_text("by the user")
    with pytest.raises(UserError, match="or has changed since"):
        write(path, overwrite=True)


@pytest.mark.parametrize("target", ["existing.txt", "missing.txt"])
def test_write_through_link_of_a_file_is_refused(tmp_path: Path, target: str) -> None:
    """A link with the name of an output belongs to the user, even if it leads to moved output."""
    write(tmp_path / "a.txt").rename(tmp_path / "existing.txt")
    (tmp_path / "a.txt").symlink_to(target)
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match="is not output of gan-lab"):
        write(tmp_path / "a.txt", overwrite=True)
    assert snapshot(tmp_path) == before


def test_write_into_linked_folder_keeps_the_link(tmp_path: Path) -> None:
    """A linked folder is a folder."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    write(tmp_path / "link" / "a.txt")
    write(tmp_path / "link" / "a.txt", "again", overwrite=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "a.txt").read_text() == "again"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("file/a.txt", "file is a file, not a folder"),
        ("file/b/c/a.txt", "file is a file, not a folder"),
        ("dead/a.txt", "dead is a broken link, not a folder"),
        ("folder", "folder is a folder. Name a file"),
        ("n" * 300 + ".txt", "cannot be written: File name too long"),
    ],
)
def test_write_to_impossible_path_leaves_nothing(tmp_path: Path, path: str, message: str) -> None:
    """One line says why, and the folder is as it was."""
    (tmp_path / "file").write_text("by the user")
    (tmp_path / "dead").symlink_to("nowhere")
    (tmp_path / "folder").mkdir()
    before = snapshot(tmp_path)
    with pytest.raises(UserError, match=message):
        write(tmp_path / path, overwrite=True)
    assert snapshot(tmp_path) == before


def test_write_failure_leaves_old_file_and_no_folder(tmp_path: Path) -> None:
    """An error while a file is written keeps the old one, and removes the folders made for it."""
    path = write(tmp_path / "a.txt", "first")
    before = snapshot(tmp_path)

    def fail(unfinished: Path) -> None:
        unfinished.write_text("half a fi")
        raise ZeroDivisionError

    for target in (path, tmp_path / "new" / "deep" / "b.txt"):
        with pytest.raises(ZeroDivisionError), OutputFiles(True).write(target) as unfinished:
            fail(unfinished)
        assert snapshot(tmp_path) == before
    assert not (tmp_path / "new").exists()


def test_write_error_of_another_file_is_not_explained(tmp_path: Path) -> None:
    """An error of a file that is read in between says nothing about the output."""
    with (
        pytest.raises(FileNotFoundError, match="missing weights"),
        OutputFiles().write(tmp_path / "out" / "a.txt"),
    ):
        (tmp_path / "missing weights").read_bytes()


def test_write_denied_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A read-only folder is an error of one line that names the file, not the temporary one."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", refuse)
    message = r"/a\.txt cannot be written: Permission denied\. Choose"
    with (
        pytest.raises(UserError, match=message),
        OutputFiles().write(tmp_path / "a.txt") as unfinished,
    ):
        unfinished.open("w")


def test_write_same_file_twice_is_refused(tmp_path: Path) -> None:
    """Two outputs of one name, as on a disk that ignores case, are both kept or refused."""
    files = OutputFiles()
    files.check(tmp_path / "a.txt", tmp_path / "a.txt")
    with files.write(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("first")
    with pytest.raises(UserError, match="exists"), files.write(tmp_path / "a.txt"):
        pass
    assert (tmp_path / "a.txt").read_text() == "first"


@pytest.mark.parametrize("overwrite", [False, True])
def test_write_name_of_another_case_replaces_no_other_output(
    tmp_path: Path, overwrite: bool
) -> None:
    """A hard link stands for the second name of a file where the file system ignores case."""
    files = OutputFiles(overwrite)
    upper, lower = tmp_path / "Cat" / "A.txt", tmp_path / "Cat" / "a.TXT"
    files.check(upper, lower)
    with files.write(upper) as unfinished:
        unfinished.write_text("first")
    os.link(upper, lower)
    with pytest.raises(UserError, match="ignores case"), files.write(lower):
        pass
    assert upper.read_text() == "first"
    # elsewhere they are two files
    lower.unlink()
    files = OutputFiles(overwrite=True)
    for path in (upper, lower):
        with files.write(path) as unfinished:
            unfinished.write_text(path.name)
    assert (upper.read_text(), lower.read_text()) == ("A.txt", "a.TXT")


def test_remove_earlier_keeps_new_file_of_another_case(tmp_path: Path) -> None:
    """A file is also found under its earlier name where the file system ignores case."""
    for name in ("a.txt", "old.txt"):
        (tmp_path / name).touch()
    os.link(tmp_path / "a.txt", tmp_path / "A.txt")
    output.remove_earlier(tmp_path, {"A.txt", "old.txt", "gone.txt"}, {"a.txt"})
    assert list_visible(tmp_path) == {"a.txt", "A.txt"}


def test_check_folder_names_the_first_foreign_file(tmp_path: Path) -> None:
    """A folder for many files is new, empty, or has earlier output alone; hidden files may stay."""
    files = OutputFiles(overwrite=True)
    files.check_folder(tmp_path / "new")
    (tmp_path / ".DS_Store").touch()
    files.check_folder(tmp_path)
    write(tmp_path / "a.txt")
    files.check_folder(tmp_path)
    with pytest.raises(UserError, match=r"is not empty.*--overwrite"):
        OutputFiles().check_folder(tmp_path)
    (tmp_path / "z" / "nested").mkdir(parents=True)
    (tmp_path / "m.txt").touch()
    with pytest.raises(UserError, match=r"is not empty: m\.txt is not output of gan-lab"):
        files.check_folder(tmp_path)


def test_find_outputs_reads_damaged_manifest(tmp_path: Path) -> None:
    """Lines that are cut or point out of the folder are skipped."""
    path = write(tmp_path / "in" / "a.txt")
    (tmp_path / "b.txt").write_text("by the user")
    outside = {"file": "../b.txt", "sha256": output.hash_file(tmp_path / "b.txt")}
    with (path.parent / MANIFEST_NAME).open("a") as manifest:
        manifest.write(json.dumps(outside) + '\n[1]\n{"file": 3, "sha256": 4}\n{"file": "a')
    assert find_outputs(path.parent) == {"a.txt"}


@pytest.mark.parametrize("content", ["[1]", "{", '{"format": "other"}', '{"files": {"a": "b"}}'])
def test_read_export_files_of_foreign_config_is_empty(tmp_path: Path, content: str) -> None:
    """Many programs write a config.json."""
    (tmp_path / "config.json").write_text(content)
    assert output.read_export_files(tmp_path) == {}
    assert find_outputs(tmp_path) == set()


def test_default_path_replaces_unrecorded_file(tmp_path: Path) -> None:
    """Earlier versions recorded nothing; a file that was edited since is kept there too."""
    path = tmp_path / "sample.png"
    path.write_text("by an earlier version")
    for text in ("first", "second"):
        with OutputFiles(default_path=True).write(path) as unfinished:
            unfinished.write_text(text)
        assert path.read_text() == text
    path.write_text("second, and a line of the user")
    link = tmp_path / "link.png"
    link.symlink_to(path)
    for each in (path, link):
        with pytest.raises(UserError, match="is not replaced"):
            OutputFiles(default_path=True).check(each)


def write_unlisted_export(folder: Path) -> set[str]:
    """Write an export as earlier versions did: its config does not list its files."""
    config = {"format": output.EXPORT_FORMAT, "networks": {"generator": {}}}
    (folder / "config.json").write_text(json.dumps(config))
    names = {"README.md", "samples.png", "report.html", "generator.safetensors", "generator.pt2"}
    for name in names:
        (folder / name).write_text(f"earlier {name}")
    return names | {"config.json"}


@pytest.mark.parametrize("foreign", ["notes.txt", "encoder.safetensors"])
def test_check_folder_accepts_export_of_earlier_version(tmp_path: Path, foreign: str) -> None:
    """An export that lists no files is recognized by its format, if it has no other files."""
    names = write_unlisted_export(tmp_path)
    assert OutputFiles(overwrite=True).check_folder(tmp_path) == names
    with pytest.raises(UserError, match="--overwrite"):
        OutputFiles().check_folder(tmp_path)
    (tmp_path / foreign).write_text("by the user")
    with pytest.raises(UserError, match=f"is not empty: {foreign} is not output"):
        OutputFiles(overwrite=True).check_folder(tmp_path)


def test_write_relative_path_does_not_explain_read_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The parent of a relative path contains every other relative path, such as an input."""
    monkeypatch.chdir(tmp_path)
    with (
        pytest.raises(FileNotFoundError, match="missing weights"),
        OutputFiles().write(Path("a.txt")),
    ):
        Path("missing weights").read_bytes()


def test_write_denied_folder_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be created is an error of the output."""

    def refuse(path: Path, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Path, "mkdir", refuse)
    with (
        pytest.raises(UserError, match=r"^new/a\.txt cannot be written: Permission denied"),
        OutputFiles().write(Path("new/a.txt")),
    ):
        pass


@pytest.mark.parametrize("inside", ["samples", "checkpoints", "samples/mine", "wandb/latest"])
def test_folders_of_a_run_take_no_output(inside: str, tmp_path: Path) -> None:
    """Images in them would be read as grids of the training. A folder of that name may be any."""
    files = OutputFiles(overwrite=True)
    files.check(tmp_path / inside / "1.png")
    (tmp_path / "checkpoints").mkdir()
    for name in ("config.yaml", "command.txt"):
        (tmp_path / name).touch()
    before = snapshot(tmp_path)
    for check in (files.check_folder, lambda folder: files.check(folder / "1.png")):
        with pytest.raises(UserError, match="belongs to the run"):
            check(tmp_path / inside)
    files.check(tmp_path / "1.png")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("inside", ["", "new"])
def test_write_ended_by_sigterm_leaves_nothing(inside: str, tmp_path: Path) -> None:
    """As by a scheduler or `timeout`; a handler of the program is kept."""
    if (pid := os.fork()) == 0:
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            with OutputFiles().write(tmp_path / inside / "a.txt") as unfinished:
                unfinished.write_text("half")
                os.kill(os.getpid(), signal.SIGTERM)
        except SystemExit as error:
            code = int(str(error.code))
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 128 + signal.SIGTERM
    assert not list(tmp_path.iterdir())
    with OutputFiles().write(tmp_path / "a.txt") as unfinished:
        unfinished.write_text("whole")
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_write_denied_to_nested_atomic_write_is_one_line(tmp_path: Path) -> None:
    """Images are written atomically into the unfinished file, through a file next to it."""

    def fail() -> None:
        with OutputFiles().write(tmp_path / "a.png") as unfinished:
            nested = unfinished.with_name(f".{unfinished.name}")
            raise PermissionError(13, "Permission denied", str(nested))

    with pytest.raises(UserError, match=r"a\.png cannot be written: Permission denied. Choose"):
        fail()
