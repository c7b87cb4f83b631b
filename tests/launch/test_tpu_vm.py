"""`launch/tpu_vm` against a fake gcloud, whose ssh has a real shell evaluate what it is given."""

import pytest

from launch.tpu_vm_commands import main
from tests.launch.conftest import Cloud, hurried
from tests.launch.nasty import ARGUMENTS

POD = ["--name=cd-flm", "--project=my-project", "--zone=us-central2-b"]
V4 = [*POD, "--accelerator_type=v4-16"]
TRAIN = ["--", "archobj", "train", "--gin_file=x.gin"]


def tpu_vm(*arguments: str) -> int:
    return main(arguments, hurried())


def run(cloud: Cloud, *flags: str) -> int:
    return tpu_vm("run", *V4, *cloud.source, *flags, *TRAIN)


def test_a_run_asks_for_the_slice_sets_it_up_and_trains_to_the_end(cloud, capsys):
    cloud.creates("ACCEPTED WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
    cloud.write("plan", "0 0\n")
    assert run(cloud, "--spot") == 0
    (create,) = cloud.calls("queued-resources create")
    assert create == (
        "compute tpus queued-resources create cd-flm --node-id=cd-flm "
        "--runtime-version=tpu-ubuntu2204-base --accelerator-type=v4-16 --spot "
        "--zone=us-central2-b --project=my-project"
    )
    order = [cloud.calls().index(cloud.calls(word)[0]) for word in (create, "fetch", "start.sh")]
    assert order == sorted(order)
    for worker in range(2):
        assert cloud.arguments(f"cd-flm-w-{worker}") == ["train", "--gin_file=x.gin"]
    said = capsys.readouterr().out
    assert "cd-flm: PROVISIONING: wait" in said
    assert "2 workers set up" in said
    assert "cd-flm: done: trained to the last step (exit status 0)" in said
    assert "cd-flm is still there and costs" in said


def test_arguments_and_variables_arrive_exactly(cloud):
    cloud.creates("ACTIVE")
    cloud.write("plan", "0 0\n")
    greeting = "it's $HOME\n*"
    flags = [f"--env=GREETING={greeting}"]
    assert tpu_vm("run", *V4, *cloud.source, *flags, "--", "env", "archobj", *ARGUMENTS) == 0
    for worker in range(2):
        assert cloud.arguments(f"cd-flm-w-{worker}") == ARGUMENTS
        path = cloud.folder / "hosts" / f"cd-flm-w-{worker}" / "greeting"
        assert path.read_text() == greeting


def test_after_a_preemption_the_slice_is_asked_for_anew_and_the_run_goes_on(cloud, capsys):
    cloud.creates("PROVISIONING ACTIVE ACTIVE ACTIVE SUSPENDING SUSPENDED", "ACTIVE")
    cloud.write("plan", "wait wait\n0 0\n")
    assert run(cloud, "--spot") == 0
    assert len(cloud.calls("queued-resources create")) == 2
    assert len(cloud.calls("queued-resources delete", "--force")) == 1
    assert len(cloud.calls("start.sh")) == 2
    said = capsys.readouterr().out
    assert "run again: the slice was taken away" in said
    assert "cd-flm: deleted" in said


def test_a_preemption_during_the_set_up_is_one_like_any_other(cloud):
    cloud.creates("ACTIVE SUSPENDING SUSPENDED", "ACTIVE")
    cloud.write("failures", "1|git fetch|connection reset")
    cloud.write("plan", "0 0\n")
    assert run(cloud, "--spot") == 0
    assert len(cloud.calls("queued-resources create")) == 2
    assert len(cloud.calls("start.sh")) == 1


def test_a_host_that_vanishes_in_the_middle_of_a_look_does_not_stop_the_watch(cloud, capsys):
    cloud.creates("ACTIVE ACTIVE ACTIVE ACTIVE SUSPENDING SUSPENDED", "ACTIVE")
    cloud.write("hangs", "--worker=0")
    cloud.write("plan", "wait wait\n0 0\n")
    programs = hurried(answer=10)
    assert main(["run", *V4, *cloud.source, "--spot", *TRAIN], programs) == 0
    assert (cloud.folder / "hangs").read_text() == ""
    assert "run again: the slice was taken away" in capsys.readouterr().out
    assert all("-oServerAliveInterval=15" in call for call in cloud.calls("tpu-vm ssh"))


def test_a_run_whose_others_stand_still_is_ended_and_started_again(cloud, capsys):
    cloud.creates("ACTIVE")
    cloud.write("plan", "75 wait\n0 0\n")
    assert run(cloud) == 0
    assert "stops cd-flm-w-1, which did not end" in capsys.readouterr().out
    assert len(cloud.calls("start.sh")) == 2


def test_a_run_that_saved_and_stopped_goes_on_in_the_same_slice(cloud):
    cloud.creates("ACTIVE")
    cloud.write("plan", "75 130\n75 0\n0 0\n")
    assert run(cloud) == 0
    assert len(cloud.calls("queued-resources create")) == 1
    assert len(cloud.calls("start.sh")) == 3


@pytest.mark.parametrize(
    ("ends", "status", "told"),
    [
        ("2 2", 2, "its message says what needs mending"),
        ("75 1", 1, "a defect"),
        ("127 127", 127, "no such command"),
        ("74 74", 74, "its message says what next"),
    ],
)
def test_what_a_restart_would_repeat_ends_the_run(cloud, capsys, ends, status, told):
    cloud.creates("ACTIVE")
    cloud.write("plan", f"{ends}\n")
    assert run(cloud) == status
    assert len(cloud.calls("start.sh")) == 1
    assert told in capsys.readouterr().out


def test_a_killed_process_is_a_restart_though_not_for_ever(cloud, capsys):
    cloud.creates("ACTIVE")
    cloud.write("plan", "killed 74\n75 75\nkilled killed\nkilled killed\n0 0\n")
    assert run(cloud, "--max_crashes=1") == 74
    told = capsys.readouterr()
    assert "killed by signal 9" in told.out
    assert "cd-flm crashed 2 times in a row, more than --max_crashes" in told.err
    assert len(cloud.calls("start.sh")) == 4


def test_restarts_are_bounded(cloud, capsys):
    cloud.creates("ACTIVE")
    cloud.write("plan", "75 75\n" * 3)
    assert run(cloud, "--max_restarts=1") == 74
    assert "1 restarts were not enough" in capsys.readouterr().err
    assert len(cloud.calls("start.sh")) == 2


def test_a_run_attaches_to_one_that_is_running_and_train_starts_no_second(cloud, capsys):
    cloud.creates("ACTIVE " * 7 + "SUSPENDED", "ACTIVE")
    cloud.write("plan", "wait wait\n0 0\n")
    assert tpu_vm("create", *V4) == 0
    assert tpu_vm("setup", *POD, *cloud.source) == 0
    assert tpu_vm("train", *POD, *TRAIN) == 0
    assert tpu_vm("train", *POD, *TRAIN) == 0
    assert "is running on 2 workers" in capsys.readouterr().out
    assert tpu_vm("setup", *POD, *cloud.source) == 2
    assert "`stop` it before it gets another commit" in capsys.readouterr().err
    assert len(cloud.calls("start.sh")) == 1
    assert run(cloud) == 0
    assert "cd-flm: is running already" in capsys.readouterr().out
    assert len(cloud.calls("start.sh")) == 2  # the second after the preemption


def test_another_command_or_commit_under_a_name_that_is_running_is_an_error(cloud, capsys):
    cloud.creates("ACTIVE")
    cloud.write("plan", "wait wait\n")
    given = ["--", "env", "archobj", *ARGUMENTS]
    tpu_vm("create", *V4)
    tpu_vm("setup", *POD, *cloud.source)
    assert tpu_vm("train", *POD, *given) == 0
    assert tpu_vm("train", *POD, *given) == 0
    for subcommand in ("train", "run"):
        assert tpu_vm(subcommand, *V4, *cloud.source, *given, "--more") == 2
        error = capsys.readouterr().err
        assert "under the name cd-flm, something else is running: `env archobj '' 'two  " in error
        asked = error.rstrip().partition("`, not `env archobj ''")[2]
        assert asked.count("--more`. Give that") == 1
    other = [f"--repository={cloud.repository}", f"--commit={'a' * 40}"]
    assert tpu_vm("run", *V4, *other, *given) == 2
    error = capsys.readouterr().err
    assert f"`commit {cloud.commit[:12]}`, not `commit {'a' * 12}`" in error
    assert len(cloud.calls("start.sh")) == 1
    assert cloud.calls("stop.sh") == []


def test_a_slice_that_someone_deletes_is_not_asked_for_again(cloud, capsys, monkeypatch):
    cloud.creates("ACTIVE")
    cloud.write("plan", "wait wait\n")
    programs = hurried()
    original = programs.sleep

    def delete_then_sleep(seconds):
        (cloud.folder / "resources/cd-flm").unlink(missing_ok=True)
        original(seconds)

    object.__setattr__(programs, "sleep", delete_then_sleep)
    assert tpu_vm("create", *V4) == 0
    assert main(["run", *V4, *cloud.source, *TRAIN], programs) == 74
    assert "cd-flm was deleted while it ran" in capsys.readouterr().err
    assert len(cloud.calls("queued-resources create")) == 1


def test_status_tells_what_each_worker_does(cloud, capsys):
    assert tpu_vm("status", *POD) == 0
    assert capsys.readouterr().out == "cd-flm: not asked for yet\n"
    cloud.creates("ACTIVE")
    cloud.write("plan", "wait wait\n")
    tpu_vm("create", *V4)
    tpu_vm("setup", *POD, *cloud.source)
    capsys.readouterr()
    tpu_vm("status", *POD)
    assert capsys.readouterr().out.endswith("not started\n")
    tpu_vm("train", *POD, *TRAIN)
    capsys.readouterr()
    tpu_vm("status", *POD)
    assert "cd-flm-w-1: running: " in (said := capsys.readouterr().out)
    assert said.endswith("running\n")
    assert tpu_vm("stop", *POD) == 0
    capsys.readouterr()
    tpu_vm("status", *POD)
    said = capsys.readouterr().out
    assert "  cd-flm-w-0: exited 75: step 1\n" in said
    assert said.endswith("run again: it was told to stop, or lost a process (exit status 75)\n")


def test_logs_of_all_workers_are_copied(cloud, tmp_path):
    cloud.creates("ACTIVE")
    cloud.write("plan", "75 75\n0 0\n")
    assert run(cloud) == 0
    assert tpu_vm("logs", *POD, f"--to={tmp_path / 'logs'}") == 0
    for worker in range(2):
        log = (tmp_path / "logs/cd-flm" / f"{worker}.log").read_text()
        assert log.count("== ") == 2  # one of each attempt
        assert f"commit {cloud.commit[:12]}: archobj train --gin_file=x.gin" in log
        assert "step 2" in log


def test_two_slices_are_one_run(cloud):
    cloud.creates("ACTIVE")
    cloud.write("plan", "0 0\n")
    assert run(cloud, "--slices=2", "--reserved") == 0
    (create,) = cloud.calls("queued-resources create")
    assert "--node-count=2 --node-prefix=cd-flm" in create
    assert "--reserved" in create
    for host in ("cd-flm-0-w-0", "cd-flm-0-w-1", "cd-flm-1-w-0", "cd-flm-1-w-1"):
        assert cloud.arguments(host) == ["train", "--gin_file=x.gin"]


def test_a_set_up_that_fails_is_told_and_starts_nothing(cloud, capsys):
    cloud.creates("ACTIVE")
    cloud.write("uv_fails", "")
    assert run(cloud) == 74
    error = capsys.readouterr().err
    assert "only 0 of 2 workers were set up" in error
    assert "no space left on device" in error
    assert cloud.calls("start.sh") == []
    # The same command goes on once that is mended, and installs once only.
    (cloud.folder / "uv_fails").unlink()
    cloud.write("plan", "75 75\n0 0\n")
    assert run(cloud) == 0
    calls = (cloud.folder / "hosts/cd-flm-w-0/uv_calls").read_text().splitlines()
    assert len([call for call in calls if "requirements.lock --editable" in call]) == 1


def test_a_script_of_ones_own_ends_the_set_up_on_every_worker(cloud, tmp_path, capsys):
    cloud.creates("ACTIVE")
    script = tmp_path / "mount.sh"
    script.write_text('echo "it\'s $PWD" > ~/mounted # "$HOME\necho second >> ~/mounted\n')
    tpu_vm("create", *V4)
    assert tpu_vm("setup", *POD, *cloud.source, f"--setup_script={script}") == 0
    for worker in range(2):
        home = cloud.folder / "hosts" / f"cd-flm-w-{worker}"
        assert (home / "mounted").read_text() == f"it's {home}/archobj_jax\nsecond\n"
    script.write_text("true\nfalse\ntrue\n")
    assert tpu_vm("setup", *POD, *cloud.source, f"--setup_script={script}") == 74
    assert "only 0 of 2 workers were set up" in capsys.readouterr().err
    assert tpu_vm("setup", *POD, *cloud.source, "--setup_script=nowhere") == 2


def test_dry_run_prints_every_command_and_calls_none(cloud, capsys):
    assert tpu_vm_dry("run", *V4, "--spot", *cloud.source, *TRAIN) == 0
    said = capsys.readouterr().out
    for words in ("queued-resources create cd-flm", "git fetch", "start.sh cd-flm archobj train"):
        assert words in said
    assert tpu_vm_dry("delete", *POD) == 0
    said = capsys.readouterr().out
    assert "queued-resources delete cd-flm --force --quiet" in said
    assert "cd-flm: deleted" not in said
    assert cloud.calls() == []


def tpu_vm_dry(*arguments: str) -> int:
    return main([arguments[0], "--dry_run", *arguments[1:]])
