"""Which functions a process runs from now on until it ends, in the order of their first time.

    running.py PID WHERE RUN

WHERE names a file with the address and the name of each function that is looked for, as nm says them; RUN the file to
write names to. Linux on x86-64. Each function stops the process once: what runs over and over costs no more than what runs
twice. What the process starts itself is let go.
"""

import ctypes
import os
import signal
import sys

SEIZE, INTERRUPT, CONT, DETACH, PEEKUSER, POKEUSER = 0x4206, 0x4207, 7, 17, 3, 6
# Forks, threads and exec stop too, so that nobody runs into a breakpoint whom nobody looks after.
FORK, VFORK, CLONE, EXEC = 1, 2, 3, 4
OPTIONS = sum(1 << event for event in (FORK, VFORK, CLONE, EXEC))
WALL = 0x40000000
RIP = 16 * 8

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long] * 4


def ptrace(request, thread, address=0, data=0):
    """One request; None where the thread is gone."""
    ctypes.set_errno(0)
    said = libc.ptrace(request, thread, address, data)
    return None if said == -1 and ctypes.get_errno() else said


def program_base(pid):
    """Where the program was loaded."""
    program = os.path.realpath(f"/proc/{pid}/exe")
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        starts = [line.split("-")[0] for line in maps if line.rstrip().endswith(program)]
    return min(int(start, 16) for start in starts)


def wait():
    """Whoever has stopped or ended, as (thread, status)."""
    return os.waitpid(-1, WALL)


def main(pid, where, run):
    base, names = program_base(pid), {}
    with open(where, encoding="utf-8") as lines:
        for line in lines:
            address, name = line.split()
            names[base + int(address, 16)] = name
    threads, ended, signals = set(), set(), {}
    # Until nobody is there who does not stand still: one that still runs may begin another.
    while new := set(map(int, os.listdir(f"/proc/{pid}/task"))) - threads - ended:
        for thread in new:
            if ptrace(SEIZE, thread, 0, OPTIONS) is not None:
                ptrace(INTERRUPT, thread)
        # Whoever was begun by one that is traced is traced from its birth, and stands still by itself.
        while not new <= threads | ended:
            thread, status = wait()
            if not os.WIFSTOPPED(status):
                ended.add(thread)
                continue
            threads.add(thread)
            if not status >> 16:
                signals[thread] = os.WSTOPSIG(status)
    before = {}
    memory = os.open(f"/proc/{pid}/mem", os.O_RDWR)
    for address in names:
        before[address] = os.pread(memory, 1, address)
        os.pwrite(memory, b"\xcc", address)
    os.close(memory)
    for thread in threads:
        ptrace(CONT, thread, 0, signals.get(thread, 0))
    seen = set()
    with open(run, "w", buffering=1, encoding="utf-8") as found:
        while True:
            try:
                thread, status = wait()
            except ChildProcessError:
                return
            if not os.WIFSTOPPED(status):
                if thread == pid:
                    return
                continue
            event, number = status >> 16, os.WSTOPSIG(status)
            if event == EXEC:
                ptrace(DETACH, thread)
                continue
            if event or number != signal.SIGTRAP:
                ptrace(CONT, thread, 0, 0 if event else number)
                continue
            address = (ptrace(PEEKUSER, thread, RIP) or 0) - 1
            if address not in before:
                ptrace(CONT, thread)
                continue
            # A process that was forked has its own.
            try:
                memory = os.open(f"/proc/{thread}/mem", os.O_RDWR)
                os.pwrite(memory, before[address], address)
                os.close(memory)
            except OSError:
                continue
            ptrace(POKEUSER, thread, RIP, address)
            ptrace(CONT, thread)
            if address not in seen:
                seen.add(address)
                found.write(names[address] + "\n")


main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
