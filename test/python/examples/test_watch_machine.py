"""Reading the kernel's tables: this machine's own, and made ones for what this machine doesn't have."""

from __future__ import annotations

import os
from pathlib import Path

from _machine import boot_seconds, command, load, memory, mounts, process, processes, space

PROC = Path("/proc")


def make_process(proc: Path, pid: int, stat: str) -> None:
    (proc / str(pid)).mkdir()
    (proc / str(pid) / "stat").write_text(stat)


def stat_line(pid: int, name: str, flags: int = 0) -> str:
    return f"{pid} ({name}) S 1 1 1 0 -1 {flags} 0 0 0 0 150 50 0 0 20 0 1 0 1000 4096 25 0 0 0"


def test_this_process_is_read_as_it_is() -> None:
    own = process(os.getpid(), PROC)
    assert own
    assert own.pid == os.getpid()
    assert own.rss_bytes > 1_000_000
    assert 0 < own.started <= boot_seconds()
    assert os.getpid() in [each.pid for each in processes(PROC)]
    assert "pytest" in command(os.getpid(), PROC)


def test_a_process_that_is_gone_is_simply_not_there(tmp_path: Path) -> None:
    assert process(1, tmp_path) is None
    assert command(1, tmp_path) == ""


def test_a_name_may_hold_brackets_blanks_and_line_ends(tmp_path: Path) -> None:
    make_process(tmp_path, 7, stat_line(7, "a) S 1\n(b"))
    found = process(7, tmp_path)
    assert found
    assert (found.name, found.state, found.cpu_seconds) == ("a) S 1\n(b", "S", 200 / os.sysconf("SC_CLK_TCK"))


def test_kernel_threads_and_half_written_lines_are_left_out(tmp_path: Path) -> None:
    make_process(tmp_path, 2, stat_line(2, "kthreadd", flags=0x00200000))
    make_process(tmp_path, 3, "3 (cut) S 1")
    make_process(tmp_path, 4, "")
    make_process(tmp_path, 5, stat_line(5, "real"))
    (tmp_path / "meminfo").write_text("")
    assert [each.pid for each in processes(tmp_path)] == [5]


def test_pseudo_and_read_only_mounts_are_left_out_and_a_device_counts_once(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "mountinfo").write_text(
        "22 27 0:21 / /proc rw - proc proc rw\n"
        "23 27 0:22 / /sys/fs/cgroup rw - cgroup2 cgroup rw\n"
        "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n"
        "24 23 0:9 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n"
        "28 27 254:0 /x /etc/hosts rw - ext4 /dev/vda rw\n"
        "29 27 7:0 / /snap/core rw - squashfs /dev/loop0 rw\n"
        "30 27 8:1 / /cdrom ro - ext4 /dev/sda1 ro\n"
        "31 27 8:2 / /mnt/my\\040disk rw - fuse.sshfs host: rw\n"
        "garbage\n",
    )
    assert [(each.path, each.kind) for each in mounts(tmp_path)] == [("/", "ext4"), ("/mnt/my disk", "fuse.sshfs")]


def test_this_machine_has_memory_a_load_and_a_root_with_space() -> None:
    total, available = memory(PROC)
    assert total >= available > 0
    assert load(PROC) >= 0
    root = space("/")
    assert root
    assert 0 <= root.used_share <= 1
    assert 0 <= root.inode_share <= 1
    assert root.total_bytes >= root.free_bytes > 0


def test_missing_tables_are_empty(tmp_path: Path) -> None:
    assert mounts(tmp_path) == []
    assert memory(tmp_path) == (0, 0)
    assert load(tmp_path) == 0
