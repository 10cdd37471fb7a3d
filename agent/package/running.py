"""Which functions a process runs from now on until it ends, in the order of their first time.

Run by gdb, attached to the process: `gdb -p PID -x running.py`. $WHERE names a file with the address and the name of each
function that is looked for, as nm says them; $RUN the file to write names to.
"""

import os

import gdb


def program_base(pid):
    """Where the program was loaded."""
    program = os.path.realpath(f"/proc/{pid}/exe")
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        starts = [line.split("-")[0] for line in maps if line.rstrip().endswith(program)]
    return min(int(start, 16) for start in starts)


base = program_base(gdb.selected_inferior().pid)
names = {}
with open(os.environ["WHERE"], encoding="utf-8") as where:
    for line in where:
        address, name = line.split()
        names[base + int(address, 16)] = name

# Each stops the process once: what runs over and over costs no more than what runs twice.
for address in names:
    gdb.Breakpoint(f"*{address:#x}", temporary=True, internal=True)
gdb.execute("set breakpoint always-inserted on")

with open(os.environ["RUN"], "w", buffering=1, encoding="utf-8") as run:
    while True:
        try:
            gdb.execute("continue", to_string=True)
            address = int(gdb.newest_frame().pc())
        except gdb.error:
            # It has ended.
            break
        if address in names:
            run.write(names[address] + "\n")
