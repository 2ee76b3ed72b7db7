"""Becomes a program under the restrictions of our systemd unit that can be had without systemd.

`python sandbox.py CALLS PROGRAM ...`: every system call but the space-separated CALLS fails with EPERM, and memory that
was writable never becomes executable (PR_SET_MDWE, Linux 6.3). Both are inherited by whatever the program starts.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys

PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 38, 65  # linux/prctl.h
MDWE_REFUSE_EXEC_GAIN = 1
ALLOW, FAIL_WITH_EPERM = 0x7FFF0000, 0x00050001  # seccomp.h: SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(EPERM)


def calls(allowed: list[str], denied: list[str]) -> list[str]:
    """The system calls of systemd's sets, as this machine's systemd knows them: `allowed` less `denied`."""
    told = subprocess.run(
        ["systemd-analyze", "syscall-filter", "--no-pager"],
        capture_output=True, text=True, check=True, env={**os.environ, "SYSTEMD_COLORS": "0"},
    ).stdout  # fmt: skip
    sets: dict[str, list[str]] = {}
    name = ""
    for line in told.splitlines():
        if re.fullmatch(r"@\S+", line):
            name = line
            sets[name] = []
        elif line.startswith("    ") and not line.strip().startswith("#"):
            sets[name].append(line.strip())

    def members(one: str) -> set[str]:
        if not one.startswith("@"):
            return {one}
        return set().union(*map(members, sets[one]))

    kept = set().union(*map(members, ["@default", *allowed]))
    return sorted(kept.difference(*map(members, denied)))


def main(names: str, program: list[str]) -> None:
    """Restrict this process for good, then become the program."""
    libc, library = ctypes.CDLL(None), ctypes.CDLL("libseccomp.so.2")
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_rule_add.argtypes = [
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
    ]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    context = library.seccomp_init(FAIL_WITH_EPERM)
    for name in names.split():
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # below 0: a call of another architecture
            library.seccomp_rule_add(context, ALLOW, number, 0)
    for prctl in ((PR_SET_NO_NEW_PRIVS, 1), (PR_SET_MDWE, MDWE_REFUSE_EXEC_GAIN)):
        if libc.prctl(*prctl, 0, 0, 0):
            sys.exit(f"the kernel refuses prctl {prctl}")
    if library.seccomp_load(context):
        sys.exit("the kernel refuses the filter")
    os.execv(program[0], program)  # noqa: S606 - the test's own program, by its full path


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
