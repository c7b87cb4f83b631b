"""A slice is had whatever was there before, within bounds; nothing unknown is deleted."""

from launch.tpu_vm_commands import main
from tests.launch.conftest import hurried
from tests.launch.test_tpu_vm import POD, V4, tpu_vm


def test_one_that_exists_is_used(cloud, capsys):
    cloud.creates("ACTIVE")
    assert tpu_vm("create", *V4) == 0
    assert tpu_vm("create", *V4) == 0
    assert "cd-flm: READY: use it" in capsys.readouterr().out
    assert len(cloud.calls("queued-resources create")) == 1


def test_one_that_failed_or_was_taken_away_is_deleted_and_asked_for_anew(cloud, capsys):
    for state in ("FAILED", "SUSPENDED"):
        cloud.write("resources/cd-flm", f"v4-16 {state}")
        cloud.creates("CREATING ACTIVE")
        assert tpu_vm("create", *V4) == 0
        assert f"cd-flm: {state}" in capsys.readouterr().out
    assert len(cloud.calls("queued-resources delete", "--force --quiet")) == 2
    assert len(cloud.calls("queued-resources create")) == 2


def test_one_that_is_half_created_is_deleted_and_asked_for_anew(cloud, capsys, monkeypatch):
    cloud.write("resources/cd-flm", "v4-16 ACTIVE")
    cloud.write("missing", "cd-flm-1")
    cloud.creates("ACTIVE")
    programs = hurried()
    original = programs.sleep

    def mended_once_deleted(seconds):
        if cloud.calls("queued-resources delete"):
            cloud.write("missing", "")
        original(seconds)

    object.__setattr__(programs, "sleep", mended_once_deleted)
    assert main(["create", *V4, "--slices=2"], programs) == 0
    assert "cd-flm: cd-flm-1 is missing: delete it and ask anew" in capsys.readouterr().out
    assert len(cloud.calls("queued-resources create")) == 1


def test_a_node_that_is_missing_for_a_moment_is_waited_for(cloud):
    cloud.write("resources/cd-flm", "v4-16 ACTIVE")
    cloud.write("failures", "1|tpu-vm describe|NOT_FOUND")
    assert tpu_vm("create", *V4) == 0
    assert cloud.calls("delete") == []


def test_three_failures_end_it_with_their_reason(cloud, capsys):
    cloud.creates(*["FAILED"] * 4)
    assert tpu_vm("create", *V4) == 74
    told = capsys.readouterr()
    assert "cd-flm: FAILED no capacity" in told.out
    assert "cd-flm failed 3 times" in told.err
    assert len(cloud.calls("queued-resources create")) == 3


def test_the_wait_is_bounded_and_the_request_stays(cloud, capsys):
    cloud.creates("WAITING_FOR_RESOURCES")
    assert tpu_vm("create", *V4, "--queue_minutes=5") == 74
    error = capsys.readouterr().err
    assert "not ready after 5 minutes (WAITING_FOR_RESOURCES)" in error
    assert "goes on waiting" in error
    assert cloud.calls("delete") == []


def test_a_refusal_is_told(cloud, capsys):
    cloud.write("failures", "1|queued-resources create|PERMISSION_DENIED: no quota")
    assert tpu_vm("create", *V4) == 74
    assert "cd-flm could not be asked for" in capsys.readouterr().err


def test_faults_of_a_look_are_waited_out_but_not_for_ever(cloud, capsys):
    cloud.creates("ACTIVE")
    cloud.write("failures", "2|queued-resources describe|UNAVAILABLE")
    assert tpu_vm("create", *V4) == 0
    cloud.write("failures", "9|queued-resources describe|UNAUTHENTICATED: log in")
    assert tpu_vm("create", *V4) == 74
    assert "UNAUTHENTICATED: log in" in capsys.readouterr().err


def test_another_type_or_owner_of_the_name_is_an_error(cloud, capsys):
    cloud.write("resources/cd-flm", "v4-128 ACTIVE")
    assert tpu_vm("create", *V4) == 2
    assert "cd-flm exists and is v4-128, not v4-16" in capsys.readouterr().err
    (cloud.folder / "resources/cd-flm").unlink()
    cloud.write("vms/cd-flm", "READY")
    assert tpu_vm("create", *V4) == 2
    assert "belongs to a TPU VM that no queued resource made" in capsys.readouterr().err
    assert cloud.calls("create") == cloud.calls("delete") == []


def test_without_a_queue_the_slice_is_a_tpu_vm(cloud, capsys):
    assert tpu_vm("create", *V4, "--no_queue", "--spot") == 0
    (create,) = cloud.calls("tpu-vm create cd-flm")
    assert "--version=tpu-ubuntu2204-base --accelerator-type=v4-16 --spot" in create
    cloud.write("vms/cd-flm", "PREEMPTED")
    assert tpu_vm("create", *V4, "--no_queue", "--spot") == 0
    assert len(cloud.calls("tpu-vm delete")) == 1
    cloud.write("vms/cd-flm", "STOPPED")
    assert tpu_vm("create", *V4, "--no_queue") == 74
    assert "is in the state STOPPED" in capsys.readouterr().err
    assert len(cloud.calls("tpu-vm delete")) == 1


def test_delete_waits_until_it_is_gone_and_may_be_said_twice(cloud, capsys):
    cloud.write("resources/cd-flm", "v4-16 ACTIVE")
    assert tpu_vm("delete", *POD) == 0
    assert tpu_vm("delete", *POD) == 0
    assert "there is nothing to delete" in capsys.readouterr().out
    assert not (cloud.folder / "resources/cd-flm").exists()
