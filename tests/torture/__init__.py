"""Torture: every fault that a stranger may meet, tried as often as is affordable, and counted.

    trials.py       what a trial is, and the list of them
    forks.py        a command line, or any function, in a forked process: its exit code and what it said
    fuzzing.py      damaged files, a thousand for each reader
    kills.py        kill -9 at random moments of every fit that can be resumed, and Ctrl-C and SIGTERM
    damage.py       flipped bits and truncations of every file of a run, and manifests at their extremes
    crowds.py       many processes into one directory, many threads in one, many fits after one another
    streams.py      streams that are closed or gone, locales, no home, Python with -O, for every command
    disks.py        disks that are full, directories that are read-only
    tables.py       tables that no model can be fitted to, and later data that does not fit
    sequences.py    a million steps
    strangers.py    user-defined models that print, exit, loop and swallow signals
    existing.py     faults that tests elsewhere try: these are run, and counted
    page.py         docs/reliability.md from the results
    run.py          runs trials and writes the page: `make torture`

It is a script, and not a marker of pytest, as a trial is a count and not a verdict: that 3 of 1,000 files go
wrong is to be seen beside the 997, results of different days are kept side by side, and they make a page.
`test_torture.py` runs each trial small, as a slow test, and proves that what goes wrong is noticed.
"""
