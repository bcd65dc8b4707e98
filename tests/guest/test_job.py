"""The guest in real processes, on the Pythons that jobs run on."""

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from rechain.guest.rechain_guest import children, lines
from rechain.record.journal import fold
from rechain.record.paths import RunPaths

pytestmark = pytest.mark.fast
SCRIPT = Path(__file__).with_name("script.py")
GUEST = Path(lines.__file__).parents[1]


def text(script: str) -> str:
    return "from azureml.core.run import Run\nrun = Run.get_context()\n" + textwrap.dedent(script)


def test_every_file_compiles(python, tmp_path):
    script = (
        "import sys\n"
        "for path in sys.argv[1:]:\n"
        "    compile(open(path, encoding='utf-8').read(), path, 'exec')\n"
    )
    files = [*map(str, GUEST.rglob("*.py")), str(SCRIPT)]
    assert len(files) > 15
    subprocess.run([python, "-W", "error", "-c", script, *files], check=True)


def test_every_member_in_a_job(old_job):
    assert "all of it worked" in old_job.run(SCRIPT).stdout
    (writer,) = (old_job.folder / "metrics").iterdir()
    assert lines.order(writer.name)[:2] == (1, 0)
    assert len(list((old_job.folder / "children").iterdir())) == 7


def test_every_member_offline(old_job):
    out = old_job.run(SCRIPT, offline=True).stdout
    assert "all of it worked" in out
    for line in (
        "Attempted to log scalar metric int:\n1\n",
        "Attempted to add tag a with value 1\n",
        "Attempted to track file outputs/text.txt at text.txt\n",
    ):
        assert line in out
    assert "[START] Run OfflineRun_" in out
    assert not (old_job.folder / "metrics").exists()


def test_a_forked_process_writes_its_own_file(old_job):
    old_job.run(
        text("""
        import multiprocessing, os, threading
        run.log("where", "parent")
        stop = threading.Event()
        def noise():
            while not stop.is_set():
                run.log("noise", 1)
        thread = threading.Thread(target=noise)
        thread.start()
        def work(number):
            run.log("child %d" % number, number)
            return os.getpid()
        with multiprocessing.get_context("fork").Pool(4) as pool:
            pool.map(work, range(200), chunksize=5)
        stop.set()
        thread.join()
        run.log("where", "parent again")
        """)
    )
    metrics = lines.read_metrics(old_job.folder)
    assert {metrics[f"child {n}"] for n in range(200)} == set(range(200))
    assert metrics["where"] == ["parent", "parent again"]
    for path in (old_job.folder / "metrics").iterdir():
        numbers = [row["q"] for row in lines.read_lines(str(path))[0]]
        assert numbers == list(range(1, len(numbers) + 1))


def test_sigkill_loses_no_line(old_job):
    script = text("""
        import sys
        for number in range(10**9):
            run.log("n", number)
            print(number)
            sys.stdout.flush()
        """)
    with subprocess.Popen(
        old_job.command(script),
        cwd=old_job.work,
        env=old_job.variables(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        while process.stdout.readline().strip() != "500":
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
        printed = [int(line) for line in process.stdout.read().split("\n")[:-1]]
    values = lines.read_metrics(old_job.folder)["n"]
    assert values == list(range(len(values)))
    assert len(values) > (printed[-1] if printed else 500)


def test_a_full_disk_does_not_end_the_training(make_job, tmp_path, need):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.getuid() != 0:
        need("root, to mount a small disk,")
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(disk)]
    if subprocess.run(mount, check=False).returncode:
        need("the right to mount a small disk")
    try:
        job = make_job(disk, sys.executable)
        script = text("""
            import os
            with open("filler", "wb") as file:
                file.write(b"x" * 40000)
            for number in range(4000):
                run.log("n", number)
            class Figure:
                def savefig(self, target, format):
                    target.write(b"x" * 99999)
            run.log_image("plot", plot=Figure())
            os.unlink("filler")
            run.log("after", 1)
            run.log("after", 2)
            print("trained")
            """)
        done = job.run(script)
        metrics = lines.read_metrics(job.folder)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)
    assert done.stdout == "trained\n"
    assert done.stderr.count("metrics are being lost") == 1
    assert "image plot" in done.stderr
    assert metrics["after"] == [1, 2]
    assert metrics["n"] == list(range(len(metrics["n"])))
    assert 100 < len(metrics["n"]) < 4000


def test_children_left_open_end_with_the_script(job):
    job.run(text("child = run.child_run('open'); child.log('a', 1)"))
    process = subprocess.run(
        job.command(text("child = run.child_run('broken'); raise ValueError('no')")),
        cwd=job.work,
        env=job.variables(),
        capture_output=True,
        check=False,
    )
    assert process.returncode == 1
    found = {
        lines.read_display_name(job.folder.parent / name): children.status(
            str(job.folder.parent / name)
        )
        for name in os.listdir(job.folder / "children")
    }
    assert found == {"open": "Completed", "broken": "Failed"}
    for name in os.listdir(job.folder / "children"):
        child = RunPaths(str(job.folder.parent / name))
        assert fold(child).status == children.status(child.root)


def test_a_child_may_be_ended_by_another_process(job):
    job.run(
        text("""
        import os
        child = run.child_run()
        pid = os.fork()
        if pid == 0:
            child.log("loss", 3)
            child.fail("in the worker")
            os._exit(0)
        os.waitpid(pid, 0)
        assert child.get_status() == "Failed" and child.get_metrics() == {"loss": 3}
        child.complete()
        assert child.get_status() == "Failed"
        """)
    )
    (name,) = os.listdir(job.folder / "children")
    attempt = job.folder.parent / name / "attempts" / "1"
    assert (attempt / "guard.json").exists()
    assert "end" not in [row["event"] for row in lines.read_lines(attempt / "journal.jsonl")[0]]


def test_a_child_of_a_given_id_is_started_once_more(job):
    script = text("""
        child = run.child_run(run_id="exp_1700000001_00000001")
        with child:
            child.log("loss", 1, step=1)
        try:
            run.child_run(run_id="other")
        except Exception as error:
            assert "run id" in error.message
        else:
            raise AssertionError
        """)
    job.run(script)
    job.run(script, attempt=2)
    folder = job.folder.parent / "exp_1700000001_00000001"
    assert sorted(os.listdir(folder / "attempts")) == ["1", "2"]
    assert lines.read_series(folder) == {"loss": [(1, 1)]}
    assert len(os.listdir(folder / "metrics")) == 2


def test_metrics_include_the_report_of_chainer(job):
    (job.work / "result").mkdir()
    (job.work / "result" / "log").write_text(
        '[{"main/loss": 1.5, "epoch": 1, "iteration": 10, "elapsed_time": 2},'
        ' {"main/loss": 0.5, "epoch": 2, "iteration": 20, "elapsed_time": 3}]'
    )
    job.run(
        text("""
        run.log("epoch", 99)
        assert run.get_metrics("main/loss") == {"main/loss": [1.5, 0.5]}
        assert run.get_metrics("epoch") == {"epoch": 99}
        """)
    )


def test_two_handles_on_one_run_share_a_file(job):
    job.run(
        text("""
        child = run.child_run()
        run.log("a", 1)
        child.parent.log("a", 2)
        run.log("a", 3)
        assert run.get_metrics("a") == {"a": [1, 2, 3]}
        """)
    )
    assert len(os.listdir(job.folder / "metrics")) == 1


def test_ranks_write_files_of_their_own(job):
    for rank in (1, 0, 2):
        job.run(text(f"run.log('rank', {rank})"), rank=rank)
    assert lines.read_metrics(job.folder) == {"rank": 0}
    assert len(os.listdir(job.folder / "metrics")) == 3


def test_left_over_variables_mean_offline(job):
    script = text("assert run.id.startswith('OfflineRun')")
    variables = {**job.variables(), "RECHAIN_RUN_DIR": str(job.root / "gone")}
    subprocess.run(job.command(script), env=variables, check=True, stdout=subprocess.DEVNULL)


def test_another_azureml_distribution_keeps_its_other_modules(old_job, tmp_path):
    other = tmp_path / "site" / "azureml"
    for folder in (other, other / "core", other / "data"):
        folder.mkdir(parents=True)
        (folder / "__init__.py").write_text(
            "__path__ = __import__('pkgutil').extend_path(__path__, __name__)\n"
        )
    (other / "core" / "run.py").write_text("raise RuntimeError('the wrong one')\n")
    (other / "core" / "datastore.py").write_text("name = 'other'\n")
    script = """
        import azureml.data
        from azureml.core.datastore import name
        assert name == "other" and azureml.core.VERSION
        run.log("a", 1)
        """
    variables = old_job.variables()
    variables["PYTHONPATH"] += os.pathsep + str(tmp_path / "site")

    def stderr():
        return subprocess.run(
            old_job.command(text(script)),
            env=variables,
            check=True,
            cwd=old_job.work,
            stderr=subprocess.PIPE,
            text=True,
        ).stderr

    assert stderr() == ""
    (other / "_base_sdk_common").mkdir()
    assert "masks the azureml-core" in stderr()
    assert lines.read_metrics(old_job.folder) == {"a": [1, 1]}
