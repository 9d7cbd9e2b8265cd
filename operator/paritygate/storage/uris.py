"""Where the URIs of a manifest lie on this machine."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from paritygate.errors import ConfigurationError

_WORKS = "on one machine, give a path (relative to the manifest) or file:///absolute/path"


def resolve(uri: str, base: Path, field: str) -> Path:
    """The path that `uri` names; it need not exist.

    Args:
        uri: a path, relative to `base`, or a `file://` address.
        base: folder of the manifest.
        field: where the URI stands in the manifest, for the message.

    Raises:
        ConfigurationError: UnsupportedScheme.
    """
    scheme, separator, _ = uri.partition("://")
    if not separator:
        return base / uri
    parts = urlsplit(uri)
    if scheme.lower() != "file":
        raise ConfigurationError(
            "UnsupportedScheme", f"{field} is {uri!r}; {scheme}:// cannot be read here: {_WORKS}, and download it first"
        )
    if parts.netloc not in ("", "localhost"):
        raise ConfigurationError("UnsupportedScheme", f"{field} is {uri!r}, on host {parts.netloc!r}; {_WORKS}")
    return Path(unquote(parts.path))
