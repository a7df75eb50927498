"""How a record of the log is shown."""

#: As `extra`: brackets are text and no colours, since names of files may hold them.
PLAIN = {"markup": False}
