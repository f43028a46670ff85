"""The command line from a clone, without installing: `python cli.py fit hmm data.csv`."""

from ppl_models.cli import script

if __name__ == "__main__":
    script()
