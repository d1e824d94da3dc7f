"""The host's free memory, from files like the kernel's."""

from __future__ import annotations

from pathlib import Path

from sidlsg.runtime.hardware import host_memory


def files(folder: Path, available: str = "MemAvailable:    1000 kB", limit: str = "", used: str = "") -> Path:
    (folder / "meminfo").write_text(f"MemTotal:    2000 kB\n{available}\n")
    if limit:
        (folder / "memory.max").write_text(limit)
        (folder / "memory.current").write_text(used)
    return folder


def test_the_machines_free_memory_counts(tmp_path: Path) -> None:
    folder = files(tmp_path)
    assert host_memory(folder / "meminfo", folder) == 1000 * 1024
    assert host_memory(folder / "meminfo", folder, processes=4) == 250 * 1024


def test_a_containers_limit_counts_where_it_is_lower(tmp_path: Path) -> None:
    folder = files(tmp_path, limit="100000\n", used="40000\n")
    assert host_memory(folder / "meminfo", folder) == 60_000
    assert host_memory(files(tmp_path, limit="max\n", used="0") / "meminfo", folder) == 1000 * 1024
    assert host_memory(files(tmp_path, limit="10", used="40") / "meminfo", folder) == 0


def test_a_limit_of_the_older_control_groups_counts_too(tmp_path: Path) -> None:
    folder = files(tmp_path)
    (folder / "memory").mkdir()
    (folder / "memory" / "memory.usage_in_bytes").write_text("40000\n")
    (folder / "memory" / "memory.limit_in_bytes").write_text("100000\n")
    assert host_memory(folder / "meminfo", folder) == 60_000
    (folder / "memory" / "memory.limit_in_bytes").write_text("9223372036854771712\n")
    assert host_memory(folder / "meminfo", folder) == 1000 * 1024


def test_cached_files_that_can_go_are_free(tmp_path: Path) -> None:
    folder = files(tmp_path, limit="100000\n", used="40000\n")
    (folder / "memory.stat").write_text("anon 5\ninactive_file 30000\nactive_file 9\n")
    assert host_memory(folder / "meminfo", folder) == 90_000


def test_cached_files_of_the_older_control_groups_are_free_too(tmp_path: Path) -> None:
    folder = files(tmp_path)
    (folder / "memory").mkdir()
    for name, value in (("usage_in_bytes", "40000"), ("limit_in_bytes", "100000")):
        (folder / "memory" / f"memory.{name}").write_text(value)
    (folder / "memory" / "memory.stat").write_text("inactive_file 7\ntotal_inactive_file 30000\n")
    assert host_memory(folder / "meminfo", folder) == 90_000


def test_an_unknown_system_gives_none(tmp_path: Path) -> None:
    assert host_memory(tmp_path / "nothing", tmp_path) is None
    assert host_memory(files(tmp_path, available="MemAvailable: none") / "meminfo", tmp_path) is None


def test_this_machine_has_some() -> None:
    memory = host_memory()
    assert memory is None or memory > 2**20
