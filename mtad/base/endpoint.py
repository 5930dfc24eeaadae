"""ADDRESS:PORT as text. Pure."""

from ipaddress import ip_address


def host_port(host: str, port: int) -> str:
    """host:port, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def name_server(text: str) -> tuple[str, int]:
    """'192.0.2.53', '2001:db8::53', '192.0.2.53:5353' or '[2001:db8::53]:5353'; ValueError otherwise."""
    try:
        return str(ip_address(text)), 53
    except ValueError:
        pass
    try:
        host, port = host_and_port(text)
        return str(ip_address(host)), port
    except ValueError:
        raise ValueError(f"{text!r} is not ADDRESS or ADDRESS:PORT") from None


def host_and_port(text: str) -> tuple[str, int]:
    """'127.0.0.1:8025' or '[::1]:8025'; ValueError otherwise."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not ADDRESS:PORT")
    return host.strip("[]"), int(port)
