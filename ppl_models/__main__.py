"""`python -m ppl_models`: the command line, where no script is installed."""

from ppl_models.cli import script

if __name__ == "__main__":
    script()
