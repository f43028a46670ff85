"""A process that torchrun, or the like, started as one of several: rank 0 is `ppl`, the others help it."""

import os
import sys
from typing import NoReturn


def run() -> NoReturn:
    """Run the command line as rank 0, or take part in its fits as another; and exit."""
    from ppl_models.cli.output import complain
    from ppl_models.cli.root import ppl
    from ppl_models.errors import Lost, PplError
    from ppl_models.forming import joined
    from ppl_models.worker import serve

    try:
        with joined() as team:
            if not team.rank:
                ppl.main(sys.argv[1:], prog_name="ppl")
            serve(team)
    except Lost:  # rank 0 has gone, for whatever reason it gave
        os._exit(1)
    except PplError as error:
        complain(str(error))
        sys.exit(error.exit_code)
    sys.exit(0)
