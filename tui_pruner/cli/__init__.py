"""The command line: one file per family of commands; results on stdout, everything else on stderr."""
