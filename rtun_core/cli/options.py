"""Options that several commands share, read into checked values before anything is opened.

Everything here raises UsageError with one sentence that names the option, what was given and what is
accepted; only a secret file that cannot be read is a RtunError, as that is no matter of spelling.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from rtun_core.errors import RtunError, UsageError
from rtun_core.wire.address import Address, parse_address

if TYPE_CHECKING:
    from rtun_core.agent.egress import EgressPolicy
    from rtun_core.net.endpoint import SignalEndpoint
    from rtun_core.net.ice import IceConfig

MAX_SECRET = 4096  # bytes
MAX_PEM = 8 * 1024 * 1024  # bytes of a file of certificates

_T = TypeVar("_T")
_Callback = Callable[[click.Context, click.Parameter, Any], Any]
_Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalAccess:
    """How the signalling server is convinced and judged, before its URL is known."""

    secret: bytes = field(repr=False)
    ca: Path | None = None
    insecure: bool = False

    def endpoint(self, url: str) -> SignalEndpoint:
        """The server at `url`. Raises UsageError."""
        from rtun_core.net.endpoint import SignalEndpoint
        from rtun_core.wire.signal_url import parse_signal_url

        checked = named("URL", parse_signal_url, url)
        return SignalEndpoint(url=checked, secret=self.secret, ca=self.ca, insecure=self.insecure)


def number(kind: type[int] | type[float], low: float, high: float, unit: str = "") -> _Callback:
    """A callback that reads a number from `low` to `high`, both included; `unit` is told on refusal."""
    what = "a whole number" if kind is int else "a number"
    accepted = f"{what}{f' of {unit}' if unit else ''} from {low} to {high}"

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        try:
            result = kind(value)
        except ValueError:
            result = math.nan
        if not low <= result <= high:
            raise UsageError(f"{option_name(param)}: {value!r} is not accepted; accepted: {accepted}")
        return result

    return read


def address(*, names: bool = True, local: bool = False) -> _Callback:
    """A callback that reads `HOST:PORT`, or only IP literals; `local` lets `:PORT` mean 127.0.0.1."""

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> Address | None:
        if value is None:
            return None
        text = f"127.0.0.1{value}" if local and value.startswith(":") else value
        return named(option_name(param), lambda one: parse_address(one, names=names), text)

    return read


class UrlCommand(click.Command):
    """A command in which an option with an optional value may stand right before the URL.

    `bare` gives such options and the value that they have when none follows; a word with `://` is the
    URL, never their value.
    """

    def __init__(self, *args: Any, bare: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._bare = bare

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Write out the values that were left out, then parse as ever."""
        following = [*args, "-"][1:]
        spelt = [
            f"{word}={self._bare[word]}" if word in self._bare and not _is_value(after) else word
            for word, after in zip(args, following, strict=True)
        ]
        return super().parse_args(ctx, spelt)


def named(name: str, parse: Callable[[str], _T], text: str) -> _T:
    """Parse `text` and put `name` in front of what the parser complains about."""
    try:
        return parse(text)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def option_name(param: click.Parameter) -> str:
    """The long spelling of an option."""
    return next(name for name in param.opts if name.startswith("--"))


def packed(name: str, options: Sequence[_Decorator], build: Callable[..., object]) -> _Decorator:
    """A decorator that adds click options and hands their values to the command as one object, `name`."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(**values: Any) -> Any:
            mine = {key: values.pop(key) for key in keys}
            return function(**values, **{name: build(**mine)})

        before = len(getattr(call, "__click_params__", ()))
        decorated: Callable[..., Any] = call
        for option in reversed(options):
            decorated = option(decorated)
        params: list[click.Parameter] = decorated.__click_params__  # type: ignore[attr-defined]
        keys = [param.name for param in params[before:]]
        return decorated

    return decorate


def read_secret(secret: str | None, secret_file: str | None) -> bytes:
    """The shared secret. What stands on the command line wins over the environment.

    Without any, the key that everybody knows; services say so.
    """
    from rtun_core.wire.token import PUBLIC_SECRET

    given = given_secret("secret", secret, secret_file)
    return PUBLIC_SECRET if given is None else given


def given_secret(name: str, text: str | None, file: str | None) -> bytes | None:
    """What the options `--NAME` and `--NAME-file` give, which exclude each other; None without any."""
    if text is not None and file is not None:
        told, file_told = _is_typed(name), _is_typed(f"{name}_file")
        if told == file_told:
            raise UsageError(f"--{name} and --{name}-file exclude each other; accepted: one of them")
        text, file = (text, None) if told else (None, file)
    if file is not None:
        return _secret_from(f"--{name}-file", Path(file))
    if text == "":
        raise UsageError(f"--{name}: it is empty; accepted: at least one character")
    return None if text is None else text.encode(errors="surrogateescape")


def read_ca(path: str | None) -> Path | None:
    """A PEM file with at least one certificate that can be read."""
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_PEM + 1)
    except OSError as error:
        raise UsageError(f"--ca: cannot read the file {path}: {error.strerror}") from None
    import ssl

    try:
        if len(data) > MAX_PEM:
            raise ValueError("too long")
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=data.decode("ascii"))
    except (ValueError, ssl.SSLError):
        raise UsageError(f"--ca: {path} has no readable certificate; accepted: a PEM file") from None
    return Path(path)


def build_access(secret: str | None, secret_file: str | None, ca: str | None, insecure: bool) -> SignalAccess:
    """The checked values of `signal_options`."""
    if ca is not None and insecure:
        raise UsageError("--ca and --insecure exclude each other; accepted: one of them")
    return SignalAccess(secret=read_secret(secret, secret_file), ca=read_ca(ca), insecure=insecure)


def build_ice(stun: tuple[str, ...], candidate: tuple[str, ...]) -> IceConfig:
    """The checked values of `ice_options`."""
    from rtun_core.net.ice import DEFAULT_STUN_SERVERS, IceConfig
    from rtun_core.net.interfaces import offered_addresses, parse_candidate_cidr

    cidrs = tuple(named("--candidate", parse_candidate_cidr, text) for text in candidate)
    servers = _stun_servers(stun) if stun else tuple(DEFAULT_STUN_SERVERS)
    if cidrs and not servers and not offered_addresses(cidrs):
        raise UsageError(
            f"--candidate: no address of this machine is in {', '.join(candidate)}; accepted: a network that "
            "one of them is in, or a --stun server as well"
        )
    return IceConfig(stun_servers=servers, candidate_cidrs=cidrs or None)


def build_egress(allow_target: tuple[str, ...], deny_target: tuple[str, ...]) -> EgressPolicy:
    """The checked values of `egress_options`."""
    from rtun_core.agent.egress import EgressPolicy, parse_egress_rule

    return EgressPolicy(
        allow=tuple(named("--allow-target", parse_egress_rule, text) for text in allow_target),
        deny=tuple(named("--deny-target", parse_egress_rule, text) for text in deny_target),
    )


_secret = click.option(
    "-s",
    "--secret",
    envvar="RTUN_SECRET",
    metavar="TEXT",
    help="Shared secret of server, agents and clients.",
)
_secret_file = click.option(
    "--secret-file", metavar="FILE", help="File with the shared secret; one line end at its end is left out."
)
_ca = click.option("--ca", metavar="FILE", help="PEM file of trusted certificates, instead of the system's.")
_insecure = click.option(
    "--insecure", "--quic-insecure", "insecure", is_flag=True, help="Accept any certificate of the server."
)
_stun = click.option(
    "--stun",
    multiple=True,
    metavar="HOST:PORT",
    help="STUN server that tells our public address; repeatable; 'none': ask none. "
    "[default: six public servers]",
)
_candidate = click.option(
    "--candidate",
    multiple=True,
    metavar="CIDR",
    help="Offer peers only local addresses in this network; repeatable. [default: all]",
)
_allow = click.option(
    "--allow-target",
    multiple=True,
    metavar="CIDR[:PORTS]",
    help="Relays may reach only these targets; repeatable. [default: all]",
)
_deny = click.option(
    "--deny-target",
    multiple=True,
    metavar="CIDR[:PORTS]",
    help="Relays may not reach these targets; repeatable; wins over --allow-target.",
)

secret_options = packed("secret", (_secret, _secret_file), read_secret)
signal_options = packed("access", (_secret, _secret_file, _ca, _insecure), build_access)
ice_options = packed("ice", (_stun, _candidate), build_ice)
egress_options = packed("egress", (_allow, _deny), build_egress)


def _is_value(word: str) -> bool:
    return not word.startswith("-") and "://" not in word


def _is_typed(name: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is None or context.get_parameter_source(name) is ParameterSource.COMMANDLINE


def _secret_from(option: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_SECRET + 1)
    except OSError as error:
        raise RtunError(f"{option}: cannot read the file {path}: {error.strerror}") from None
    secret = data.removesuffix(b"\n").removesuffix(b"\r") if data.endswith(b"\n") else data
    if not secret or len(data) > MAX_SECRET:
        raise UsageError(f"{option}: {path} is empty or too long; accepted: 1 to {MAX_SECRET} bytes")
    return secret


def _stun_servers(texts: tuple[str, ...]) -> tuple[Address, ...]:
    if texts == ("none",):
        return ()
    if "none" in texts:
        raise UsageError("--stun: 'none' stands alone; accepted: HOST:PORT, repeatable, or only 'none'")
    servers = tuple(named("--stun", parse_address, text) for text in texts)
    if any(server.port == 0 for server in servers):
        raise UsageError("--stun: the port 0 is not accepted; accepted: a port from 1 to 65535")
    return servers
