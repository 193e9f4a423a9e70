import json
import os
import signal
import socket
import stat

import pytest

TIME = 20  # seconds that a process may take

# The fixture `process` starts a process whose service drains for ever with stuck=True.


def ready(child):
    """Read standard error until the service listens."""
    for line in child.stderr:
        if "listening" in line:
            return
    raise AssertionError("the process ended before its service started")


def end(child):
    out, err = child.communicate(timeout=TIME)
    return child.returncode, out, err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_drains_and_ends_cleanly(process, number):
    child = process("")
    ready(child)
    child.send_signal(number)
    status, out, err = end(child)
    assert (status, out) == (0, "")
    assert f"INFO  stopping: {number.name}" in err


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_the_second_signal_ends_at_once(process, number, status):
    child = process("", stuck=True)
    ready(child)
    child.send_signal(number)
    assert "stopping" in child.stderr.readline()
    child.send_signal(number)
    assert end(child)[0] == status


def test_json_on_standard_output_alone(process):
    child = process("json=True, quiet=True")
    first, second = json.loads(child.stdout.readline()), json.loads(child.stdout.readline())
    child.terminate()
    status, out, err = end(child)
    assert (first["type"], second["type"]) == ("engine.started", "service.listening")
    assert json.loads(out)["type"] == "engine.stopping"
    assert (status, err) == (0, "")


def test_a_reader_that_goes_away_does_not_end_the_service(process):
    child = process("json=True")
    child.stdout.readline()
    child.stdout.close()
    ready(child)
    child.terminate()
    _out, err = child.communicate(timeout=TIME)
    assert child.returncode == 0
    assert "stopping: SIGTERM" in err
    assert "Traceback" not in err


def test_log_file_is_reopened_on_hangup(process, tmp_path):
    path = tmp_path / "log"
    child = process(f"log_file={'Path'}({str(path)!r})".replace("Path", "__import__('pathlib').Path"))
    ready(child)
    path.rename(tmp_path / "log.1")
    child.send_signal(signal.SIGHUP)
    while not path.exists():
        assert child.poll() is None
    child.terminate()
    assert end(child)[0] == 0
    assert "listening" in (tmp_path / "log.1").read_text()
    assert "stopping: SIGTERM" in path.read_text()


def test_all_outputs_are_gone_after_the_end(process, tmp_path):
    place = "__import__('pathlib').Path"
    child = process(
        f"status_file={place}({str(tmp_path / 'status')!r}), control={str(tmp_path / 'c.sock')!r},"
        "metrics=__import__('rtun_core.wire.address', fromlist=['Address']).Address('127.0.0.1', 0)"
    )
    ready(child)
    assert stat.S_ISSOCK((tmp_path / "c.sock").stat().st_mode)
    assert json.loads((tmp_path / "status").read_bytes())["services"] == ["fake"]
    child.terminate()
    assert end(child)[0] == 0
    assert list(tmp_path.iterdir()) == []


def test_a_failed_output_leaves_nothing_behind(process, tmp_path):
    place = "__import__('pathlib').Path"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        child = process(
            f"status_file={place}({str(tmp_path / 'status')!r}), "
            f"metrics=__import__('rtun_core.wire.address', fromlist=['Address']).Address('127.0.0.1', {port})"
        )
        status, out, err = end(child)
    assert (status, out) == (1, "")  # the script has no main that knows exit statuses
    assert f"BindError: --metrics: cannot listen on 127.0.0.1:{port}" in err
    assert "started" not in err
    assert os.listdir(tmp_path) == []


def test_quiet_says_nothing(process):
    child = process("quiet=True, json=True")
    child.stdout.readline()
    child.terminate()
    assert end(child)[2] == ""
