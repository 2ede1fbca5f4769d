"""One module a command of ``instseg``: HELP, EXAMPLE, ``add_arguments(parser)`` and ``run(args) -> dict | None``."""
