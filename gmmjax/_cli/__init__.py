"""The command line, which runs as a module and prints what the functions say."""
