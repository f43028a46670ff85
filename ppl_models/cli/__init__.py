"""The command line `ppl`: a thin skin over the public functions.

    root.py        ppl itself
    base.py        commands, groups, and what happens to every error
    config.py      ppl.toml and --config
    options.py     options shared by commands, and options from the fields of a model
    values.py      what an option's text may mean: 1:6, a,b, column=kind
    fit.py         ppl fit MODEL DATA
    resume.py      ppl resume RUN
    compare.py     ppl compare, ppl recommend
    select.py      ppl select MODEL DATA
    sbc.py         ppl sbc MODEL
    verbs.py       ppl predict, score, sample, … RUN
    serve.py       ppl serve RUN
    plot.py        ppl plot RUN
    report.py      ppl report RUN
    export.py      ppl export RUN
    listing.py     ppl models, data, runs
    new.py         ppl new NAME
    ranks.py       a process that torchrun started as one of several
    completion.py  ppl completion SHELL
    locate.py      RUN: a path, a name or `latest`
    output.py      tables, JSON and messages
    progress.py    the line on the terminal while a fit runs
    signals.py     Ctrl-C and SIGTERM during a fit
    streams.py     results apart from what models print; streams that are closed

Nothing here imports torch, pandas or pyarrow before a command needs them.
"""

import os
import sys


def script() -> None:
    """`main`, and end the process there and then.

    The interpreter would first take apart all that was imported, for a fifth of a second. What is registered
    with `atexit` is run; where there are other threads, or a profiler, the end is the usual one.
    """
    import atexit
    import threading
    from contextlib import suppress

    try:
        main()
    except SystemExit as done:
        watched = sys.getprofile() is not None or sys.gettrace() is not None
        if watched or threading.active_count() > 1 or not isinstance(done.code, int):
            raise
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(done.code)


def main() -> None:
    """Run `ppl` with the arguments of the process, and exit."""
    from ppl_models.cli.base import prepare_process
    from ppl_models.cli.root import ppl

    if sys.flags.optimize > 1:
        from ppl_models.cli.output import complain

        complain(
            "Python was started with -OO (PYTHONOPTIMIZE=2), which removes docstrings that Pyro needs; use -O"
        )
        sys.exit(2)
    prepare_process()
    if int(os.environ.get("WORLD_SIZE") or 1) > 1 and "RANK" in os.environ:
        from ppl_models.cli.ranks import run

        run()
    ppl.main(sys.argv[1:], prog_name="ppl")
