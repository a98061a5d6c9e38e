"""What the command line can do: a module a command, each with a click command `command` that cli.py finds by name."""
