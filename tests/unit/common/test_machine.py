from __future__ import annotations

import os

import pytest

from common import machine


def groups(folder, lines, files):
    """A process and the control groups that it is in."""
    (folder / "proc").mkdir()
    (folder / "proc" / "cgroup").write_text(lines)
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "groups", folder / "proc"


def test_without_control_groups_there_is_no_limit(tmp_path):
    assert machine.cpu_quota(tmp_path, tmp_path) is None
    assert machine.memory_limit(tmp_path, tmp_path) is None


def test_the_tightest_group_of_version_2_counts(tmp_path):
    files = {
        "cpu.max": "400000 100000",
        "a/cpu.max": "150000 100000",
        "a/b/cpu.max": "max 100000",
        "a/memory.max": "max",
        "a/b/memory.max": "1073741824",
    }
    where = groups(tmp_path, "0::/a/b\n", files)
    assert machine.cpu_quota(*where) == 1.5
    assert machine.memory_limit(*where) == 2**30


def test_version_1_counts_too(tmp_path):
    files = {
        "cpu,cpuacct/box/cpu.cfs_quota_us": "50000",
        "cpu,cpuacct/box/cpu.cfs_period_us": "100000",
        "cpu,cpuacct/cpu.cfs_quota_us": "-1",
        "cpu,cpuacct/cpu.cfs_period_us": "100000",
        "memory/box/memory.limit_in_bytes": "536870912",
        "memory/memory.limit_in_bytes": "9223372036854771712",
    }
    where = groups(tmp_path, "4:memory:/box\n3:cpu,cpuacct:/box\n1:name=systemd:/\n", files)
    (where[0] / "cpu").symlink_to("cpu,cpuacct")
    assert machine.cpu_quota(*where) == 0.5
    assert machine.memory_limit(*where) == 2**29


@pytest.mark.parametrize(("quota", "cores"), [(None, 8), (2.5, 2), (0.5, 1), (8.0, 8), (64.0, 8)])
def test_a_quota_below_the_cores_is_what_can_be_used(monkeypatch, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    assert machine.usable_cores() == cores
