"""What tests do with the processes that the fixture `process` starts."""

TIME = 20  # seconds that a process may take


def ready(child):
    """Read standard error until the service listens."""
    for line in child.stderr:
        if "listening" in line:
            return
    raise AssertionError("the process ended before its service started")


def end(child):
    """Status, standard output and what is left of standard error."""
    out, err = child.communicate(timeout=TIME)
    return child.returncode, out, err
