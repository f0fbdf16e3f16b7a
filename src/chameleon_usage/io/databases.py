"""Addresses of MySQL and MariaDB servers, passwords and connections.

A password comes from an environment variable that holds the URI, from an option file, or from a
prompt; it is kept out of every message and of every ``repr``.
"""

import configparser
import getpass
import os
import re
import ssl
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pymysql
from pymysql.optionfile import Parser
from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from chameleon_usage.errors import UsageError
from chameleon_usage.io.files import shows_password

if TYPE_CHECKING:
    from pymysql.cursors import Cursor

SCHEMES = ("mysql", "mariadb")
SSL_MODES = ("disabled", "required", "verify_ca", "verify_identity")
CONNECT_TIMEOUT, SILENCE = 10, 600
"""Seconds to wait for a server to answer at all, and for the next byte of an answer."""
_LOCAL = ("localhost", "127.0.0.1", "::1")
_QUERY = ("ssl_mode", "ssl_ca", "ssl_cert", "ssl_key", "unix_socket")
_KEYS = ("user", "password", "host", "port", "database", *_QUERY)


@dataclass(frozen=True)
class Address:
    """Where a server is, as whom, and how the way there is kept private.

    Attributes:
        host, port, user, password: as in the URI.
        database: the default schema, if any.
        unix_socket: path of a Unix socket, instead of host and port.
        ssl_mode: ``disabled``, ``required`` (encrypted), ``verify_ca`` (and the certificate is of
            a known authority), ``verify_identity`` (and of this host).
        ssl_ca, ssl_cert, ssl_key: files in PEM format.
    """

    host: str = "localhost"
    port: int = 3306
    user: str = ""
    password: str = field(default="", repr=False)
    database: str = ""
    unix_socket: str = ""
    ssl_mode: str = "disabled"
    ssl_ca: str = ""
    ssl_cert: str = ""
    ssl_key: str = ""

    def __str__(self) -> str:
        """Name the server and the user, never the password."""
        place = self.unix_socket or f"{self.host}:{self.port}"
        return f"{self.user}@{place}" if self.user else place

    def settings(self) -> dict[str, Any]:
        """Give the arguments of ``connect`` that PyMySQL and asyncmy share."""
        given = {
            "user": self.user or getpass.getuser(),
            "password": self.password,
            "database": self.database or None,
            "charset": "utf8mb4",
            "connect_timeout": CONNECT_TIMEOUT,
            "read_timeout": SILENCE,
        }
        if self.unix_socket:
            return given | {"unix_socket": self.unix_socket}
        return given | {"host": self.host, "port": self.port, "ssl": self._context()}

    def _context(self) -> ssl.SSLContext | None:
        if self.ssl_mode == "disabled":
            return None
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca or None)
            if self.ssl_cert:
                context.load_cert_chain(self.ssl_cert, self.ssl_key or None)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(name for name in (self.ssl_ca, self.ssl_cert, self.ssl_key) if name)
            raise UsageError(f"{self}: {files}: no readable certificate or key ({error})") from None
        context.check_hostname = self.ssl_mode == "verify_identity"
        if self.ssl_mode == "required":
            context.verify_mode = ssl.CERT_NONE
        return context


def resolve(text: str, *, option_file: Path | None = None) -> Address:
    """Find the server and the password that a configuration or a command line refers to.

    Args:
        text: ``${NAME}``, an environment variable that holds a URI with its password; or a URI
            without one.
        option_file: in the form of ``~/.my.cnf``; what its ``[client]`` group says holds where the
            URI is silent.

    Returns:
        The address; a password that is named nowhere is asked for if there is a terminal.

    Raises:
        UsageError: the variable is not set, the URI is not one, it shows a password, or the option
            file cannot be read.
    """
    uri, place = reveal(text)
    address = parse(uri, place, _options(option_file) if option_file else {})
    if not address.password and sys.stdin.isatty():
        address = replace(address, password=getpass.getpass(f"Password of {address}: "))
    return address


def reveal(text: str) -> tuple[str, str]:
    """Give the URI that a text refers to, and what a message calls it instead of repeating it.

    Args:
        text: ``${NAME}``, an environment variable that holds a URI with its password; or a URI
            without one.

    Raises:
        UsageError: the variable is not set, or the text itself shows a password.
    """
    if reference := re.fullmatch(r"\$\{(\w+)\}", text):
        uri, place = os.environ.get(reference[1], ""), f"the environment variable {reference[1]}"
        if not uri:
            raise UsageError(
                f"{place} is not set: it must hold a URI like mysql://USER:PASSWORD@HOST:PORT"
            )
    else:
        uri, place = text, "the URI"
        if shows_password(uri):
            raise UsageError(
                "the URI shows a password, and every user of this machine can read a command line: "
                "put the URI into an environment variable and name it as '${NAME}', or leave the "
                "password to an option file (--option-file) or to the prompt"
            )
    return uri, place


def read_url(uri: str) -> URL | None:
    """Take a URI apart; nothing if it is none, or its host may be the end of a password."""
    try:
        url = make_url(uri)
    except (ArgumentError, ValueError):  # its message may repeat a piece of the password
        return None
    return None if "@" in (url.host or "") else url


def parse(uri: str, place: str = "the URI", options: Mapping[str, str] | None = None) -> Address:
    """Take a URI apart: ``mysql://USER:PASSWORD@HOST:PORT/SCHEMA?ssl_mode=verify_identity``.

    Args:
        uri: of the scheme mysql or mariadb (``mysql+pymysql`` and the like, too); special
            characters in user and password are percent-encoded. Its query may hold ``ssl_mode``,
            ``ssl_ca``, ``ssl_cert``, ``ssl_key`` and ``unix_socket``, each once.
        place: what a message calls it; the URI itself is never repeated.
        options: values that hold where the URI is silent, by the same names.

    Raises:
        UsageError: it is no such URI.
    """
    url = read_url(uri)
    if url is None or url.get_backend_name() not in SCHEMES:
        raise UsageError(
            f"{place} is no address of a MySQL or MariaDB server: expected "
            "mysql://USER@HOST:PORT, with special characters in user and password percent-encoded"
        )
    query = uri.rpartition("@")[2].partition("?")[2]
    if not set(url.query) <= set(_QUERY) or (query and query.count("&") + 1 != len(url.query)):
        # Not repeated either: it may be the end of a password.
        raise UsageError(f"{place}: the options after '?' can be {', '.join(_QUERY)}, each once")
    given = {
        **{name: value for name, value in (options or {}).items() if name in _KEYS},
        **({"unix_socket": ""} if url.host else {}),
        **url.translate_connect_args(username="user"),
        **url.query,
    }
    host, port, mode = given.get("host"), str(given.pop("port", 3306)), given.get("ssl_mode", "")
    if not port.isdigit():
        raise UsageError(f"{place}: the port must be a number")
    # A way out of this machine is encrypted, unless it is said that it need not be.
    default = "disabled" if host in (None, *_LOCAL) else "required"
    given["ssl_mode"] = mode.lower() or ("verify_identity" if given.get("ssl_ca") else default)
    if given["ssl_mode"] not in SSL_MODES:
        raise UsageError(f"{place}: ssl_mode must be one of {', '.join(SSL_MODES)}")
    return Address(**given, port=int(port))


def _options(path: Path) -> dict[str, str]:
    """Read the ``[client]`` group of an option file of the MySQL and MariaDB clients."""
    # Passwords hold any character: no comment within a line.
    parser = Parser(strict=False, delimiters=("=",), comment_prefixes=("#", ";", "!"))
    try:
        parser.read_string(path.expanduser().read_text())
        names = [name for name, value in parser.items("client", raw=True) if value]
    except (OSError, UnicodeDecodeError, configparser.Error):
        raise UsageError(
            f"{path}: no readable option file with a [client] group "
            "(user, password, host, port, socket, ssl-ca, ssl-cert, ssl-key)"
        ) from None
    given = {name.replace("-", "_"): parser.get("client", name) for name in names}
    return given | {"unix_socket": given.get("socket", "")}


def connect(address: Address) -> "pymysql.Connection[Cursor]":
    """Open a connection (PyMySQL) whose session keeps time in UTC.

    Raises:
        UsageError: the server cannot be reached or refuses.
    """
    try:
        settings = address.settings()
        if settings.get("ssl") is None:
            settings["ssl_disabled"] = True
        return pymysql.connect(**settings, init_command="SET time_zone = '+00:00'")
    except (pymysql.Error, OSError) as error:
        raise refused(address, error) from None


def refused(address: Address, error: Exception) -> UsageError:
    """Say why no connection came about, and the way out.

    Args:
        address: of the server.
        error: what the driver raised.
    """
    code = error.args[0] if error.args else None
    advice = {
        1045: "check the user and the password",
        1130: "the server admits no connection from this machine: see 'grants --host'",
        1044: "the user may not use that schema: leave it out of the URI",
        1049: "leave the schema out of the URI",
        2026: "see ssl_mode, ssl_ca, ssl_cert and ssl_key",
        3159: "the server wants an encrypted connection: say ssl_mode=required",
    }.get(code if isinstance(code, int) else 0)
    said = str(error.args[1] if len(error.args) > 1 else error) or repr(error)
    if advice is None and (isinstance(error, ssl.SSLError) or "SSL" in said):
        advice = "see ssl_mode, ssl_ca, ssl_cert and ssl_key"
    if advice is None:
        advice = "check host and port, and that the server listens there"
    return UsageError(f"{address}: no connection ({said.splitlines()[0]}); {advice}")
