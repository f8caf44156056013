"""The command line: one file for each family of commands; results on stdout, everything else on stderr."""
