"""What a script prints arrives whole, whatever it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rechain.exceptions import ActivityFailedException

pytestmark = pytest.mark.fast


def test_fifty_megabytes(submit, capfd) -> None:
    run = submit(
        "import sys\nline = 'x' * 99 + '\\n'\nfor _ in range(500): sys.stdout.write(line * 1000)"
    )
    run.wait_for_completion(show_output=True)
    assert Path(run.folder, "attempts/1/0.out").stat().st_size == 50_000_000
    assert capfd.readouterr().out.count("x" * 99 + "\n") == 500_000


def test_no_newline_at_the_end(submit, capsys) -> None:
    run = submit("print('50 %', end='')")
    run.wait_for_completion(show_output=True)
    assert "50 %\nExecution Summary" in capsys.readouterr().out
    assert submit.output(run) == "50 %"


def test_notes_are_said_once_and_causes_with_their_cure_with_a_fake_gpu(
    submit, fake_gpu, monkeypatch, capsys
) -> None:
    fake_gpu("No devices were found", status=6)
    run = submit("", use_gpu=True)
    with pytest.raises(ActivityFailedException) as failure:
        run.wait_for_completion()
    first, cure = failure.value.message.splitlines()
    assert first == "no gpu (nvidia-smi finds none: No devices were found)"
    assert "RECHAIN_GPU=optional" in cure
    monkeypatch.setenv("RECHAIN_GPU", "optional")
    submit("print('trained')", use_gpu=True).wait_for_completion(show_output=True)
    said = capsys.readouterr().out
    assert said.count("\nnote: no GPU is used: ") == said.count("no GPU is used") == 1
    assert said.index("note: ") < said.index("\ntrained\n")


def test_a_note_begins_a_line_of_its_own(submit, capsys, monkeypatch) -> None:
    run = submit.done("")
    said = [("out", b"50 %"), ("note", b"late"), ("note", b"late"), ("out", b"end\n")]
    monkeypatch.setattr("rechain.workspace.run.follow", lambda *_, **__: iter(said))
    run.wait_for_completion(show_output=True)
    assert "50 %\nnote: late\nend\n" in capsys.readouterr().out


def test_what_is_no_text(submit, capsys) -> None:
    run = submit("import os; os.write(1, b'caf\\xe9 \\xff\\x00 ok ' + '\\u2713'.encode()[:2])")
    run.wait_for_completion(show_output=True)
    assert "caf� ��" not in (said := capsys.readouterr().out)
    assert "caf� �\0 ok �" in said
    data = Path(run.folder, "attempts/1/0.out").read_bytes()
    assert data == b"caf\xe9 \xff\x00 ok \xe2\x9c"


def test_a_character_between_two_writes(submit, capsys) -> None:
    run = submit(
        "import os, time\nos.write(1, b'\\xe2'); time.sleep(0.1); os.write(1, b'\\x9c\\x93')"
    )
    run.wait_for_completion(show_output=True)
    assert "✓" in capsys.readouterr().out


def test_the_streams_are_kept_apart(submit) -> None:
    run = submit.done("import sys; print('a'); print('b', file=sys.stderr); print('c')")
    assert submit.output(run, "out") == "a\nc\n"
    assert submit.output(run, "err") == "b\n"


def test_the_driver_log_has_both(submit, tmp_path) -> None:
    run = submit.done("import sys; print('a'); print('b', file=sys.stderr)")
    run.download_file("azureml-logs/70_driver_log.txt", str(tmp_path / "log"))
    assert (tmp_path / "log").read_text() == "a\nb\n"


def test_what_child_processes_print(submit) -> None:
    run = submit.done("import subprocess; subprocess.run(['echo', 'from a child'])")
    assert submit.output(run) == "from a child\n"


def test_output_before_a_kill(submit) -> None:
    run = submit.done("import os; print('so far'); os.kill(os.getpid(), 9)")
    assert submit.output(run) == "so far\n"
    assert run.cause == "killed from outside (signal 9, SIGKILL)"


def test_a_stdout_that_takes_ascii_only(submit) -> None:
    """As where a notebook server was started with LANG=C in the old days."""
    run = submit("import os; os.write(1, '\\u2713'.encode())")
    code = (
        "import sys; from rechain import Workspace\n"
        "Workspace.local().get_run(sys.argv[1]).wait_for_completion(show_output=True)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, run.id],
        env={"PYTHONIOENCODING": "ascii", "PATH": "/usr/bin:/bin"}, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"?" in done.stdout or b"\\u2713" in done.stdout
