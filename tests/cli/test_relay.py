import pytest

from rtun_core.cli.relay import MAX_PAYLOAD
from rtun_core.event import Level
from rtun_core.wire.address import Address
from rtun_core.wire.relay_frame import CodecKind

RULE = "127.0.0.1:5353?to=192.0.2.1:53"
URL = "https://signal.example"


@pytest.fixture
def config(run, built):
    """The RelayConfig that a command line gives."""

    def call(*words):
        status, out, err = run("relay", "-L", RULE, *words, URL)
        assert (status, out, err) == (0, "", "")
        factory, _outputs = built[-1]
        return next(
            cell.cell_contents for cell in factory.__closure__ if hasattr(cell.cell_contents, "rules")
        )

    return call


def test_defaults(config):
    plain = config()
    assert [str(rule) for rule in plain.rules] == [f"udp://{RULE}"]
    assert str(plain.endpoint.url) == URL
    assert plain.agent.pattern == ".*"
    assert (plain.idle_timeout, plain.channel_lifetime, plain.open_retry_min_interval) == (120, 120, 2)
    assert (plain.min_channels, plain.max_channels, plain.max_flows) == (1, 1, 65536)
    assert (plain.max_payload, plain.codec, plain.wait_agent) == (None, None, None)
    assert (plain.endpoint.ca, plain.endpoint.insecure) == (None, False)


def test_everything_given(config):
    full = config(
        *("-L", "udp://[::1]:0?to=dns.example:53", "-a", "^eu-", "--quic-insecure"),
        *("--udp-idle-timeout", "30", "--udp-max-payload", "1200", "--p2p-min-channels", "0"),
        *("--p2p-max-channels", "8", "--p2p-channel-lifetime", "60", "--p2p-open-retry-min-interval", "0.5"),
        *("--codec", "tagged-9", "--wait-agent", "1.5", "--max-flows", "10", "--stun", "none"),
        *("--candidate", "127.0.0.0/8", "--p2p-hardnat", "off"),
    )
    assert len(full.rules) == 2
    assert full.agent.search("eu-1")
    assert full.endpoint.insecure
    assert (full.idle_timeout, full.max_payload, full.channel_lifetime) == (30, 1200, 60)
    assert (full.min_channels, full.max_channels, full.open_retry_min_interval) == (0, 8, 0.5)
    assert (full.codec, full.wait_agent, full.max_flows) == (CodecKind.TAGGED_9, 1.5, 10)
    assert (full.ice.stun_servers, len(full.ice.candidate_cidrs)) == ((), 1)


def test_zero_means_the_default_time(config):
    plain = config("--udp-idle-timeout", "0", "--p2p-channel-lifetime", "0")
    assert (plain.idle_timeout, plain.channel_lifetime) == (120, 120)


def test_environment(config, monkeypatch):
    monkeypatch.setenv("RTUN_RELAY_LOCAL", "127.0.0.1:1?to=192.0.2.1:1 127.0.0.1:2?to=192.0.2.1:1")
    monkeypatch.setenv("RTUN_RELAY_MAX_FLOWS", "7")
    monkeypatch.setenv("RTUN_RELAY_INSECURE", "1")
    plain = config()
    assert (len(plain.rules), plain.max_flows, plain.endpoint.insecure) == (1, 7, True)


def test_outputs(run, built):
    words = ("--json", "--log-file", "l", "--log-format", "json", "--log-level", "debug", "--quiet")
    more = ("--status-file", "s", "--status-interval", "0.5", "--metrics", ":9100", "--control")
    assert run("relay", "-L", RULE, *words, *more, URL)[0] == 0
    _factory, outputs = built[0]
    assert (outputs.json, str(outputs.log_file), outputs.log_format, outputs.log_level) == (
        True,
        "l",
        "json",
        Level.DEBUG,
    )
    assert (outputs.quiet, str(outputs.status_file), outputs.status_interval) == (True, "s", 0.5)
    assert (outputs.metrics, outputs.control) == (Address("127.0.0.1", 9100), "auto")


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("-L", "x"), "--local: the rule 'x' has a bad listen address"),
        (("-L", "tcp://127.0.0.1:1?to=192.0.2.1:1"), "--local: the rule 'tcp://"),
        (("-L", RULE), "--local: 2 rules listen on 127.0.0.1:5353; accepted: one rule per address"),
        (("-a", "x["), "--agent: 'x[' is not a regular expression: unterminated character set"),
        (("-a", "a{99999999999999999999}"), "--agent: 'a{99999999999999999999}' is not a regular expression"),
        (("--udp-idle-timeout", "-1"), "--udp-idle-timeout: '-1' is not accepted"),
        (("--udp-idle-timeout", "4294967296"), "--udp-idle-timeout: '4294967296' is not accepted"),
        (
            ("--udp-max-payload", "0"),
            "--udp-max-payload: '0' is not accepted; accepted: a whole number of bytes",
        ),
        (("--udp-max-payload", str(MAX_PAYLOAD + 1)), "--udp-max-payload: '1443' is not accepted"),
        (("--p2p-max-channels", "0"), "--p2p-max-channels: '0' is not accepted"),
        (("--p2p-min-channels", "2"), "--p2p-min-channels: 2 is more than --p2p-max-channels, which is 1"),
        (("--p2p-channel-lifetime", "x"), "--p2p-channel-lifetime: 'x' is not accepted"),
        (("--p2p-open-retry-min-interval", "nan"), "--p2p-open-retry-min-interval: 'nan' is not accepted"),
        (("--codec", "rot13"), "Invalid value for '--codec': 'rot13' is not one of"),
        (("--wait-agent", "0"), "--wait-agent: '0' is not accepted"),
        (("--max-flows", "0"), "--max-flows: '0' is not accepted"),
        (("--stun", "none", "--stun", "a:1"), "--stun: 'none' stands alone"),
        (("--candidate", "x"), "--candidate: 'x' is not a network"),
        (("--on-hangup", "stay"), "Invalid value for '--on-hangup': 'stay' is not one of"),
        (("--agent-script", "hy2"), "--agent-script: this is not offered by this version"),
        (("--agent-script-fail-policy", "ignore"), "--agent-script-fail-policy: this is not offered"),
        (("--p2p-hardnat", "force"), "--p2p-hardnat: this is not offered by this version; accepted: off"),
        (("--p2p-hardnat-ttl", "3"), "--p2p-hardnat-ttl: this is not offered by this version"),
        (("--p2p-hardnat-no-ttl",), "--p2p-hardnat-no-ttl: this is not offered by this version"),
        (("--metrics", "9100"), "--metrics: '9100' has no port"),
        (("--status-interval", "0"), "--status-interval: '0' is not accepted"),
        (("--log-level", "loud"), "Invalid value for '--log-level'"),
    ],
)
def test_bad_input_is_one_sentence(refuse, built, words, problem):
    assert refuse("relay", "-L", RULE, *words, URL).startswith(problem)
    assert built == []


@pytest.mark.parametrize("url", ["", "signal.example", "ftp://h", "quic://h", "http://h:0", "http://h/#x"])
def test_bad_url(refuse, built, url):
    assert refuse("relay", "-L", RULE, url).startswith("URL: ")
    assert built == []


def test_rules_that_let_the_system_choose_do_not_collide(config):
    any_port = "127.0.0.1:0?to=192.0.2.1:53"
    assert len(config("-L", any_port, "-L", any_port).rules) == 3
