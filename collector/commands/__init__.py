"""Commands that print and end; the command line is `collector.cli`."""
