"""The command line, one file per noun; `reanimate/cli.py` puts them together."""
