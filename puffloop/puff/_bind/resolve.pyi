"""Names and addresses: loop.getaddrinfo() and loop.getnameinfo()."""

class ResolveMethods:
    """puff.Loop's methods for names."""
