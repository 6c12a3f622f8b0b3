"""Where a private server of a project keeps its things, and as whom it runs.

    PROJECT/.puff/                     `state`
        .gitignore                     everything here is private
        postgres/  redis/              data
        postgres.log  postgres.lock
        postgres.start                 a lock taken for moments, while a supervisor is started
        postgres.run/  redis.run/      lease (of the supervisor), s/ (the server's own socket)

Two things force parts of it elsewhere, and each leaves a symbolic link where they would have been:
- The address of a Unix socket has at most 107 bytes. Below a long (or oddly named) folder,
  KIND.run/ is in /run/user/UID or /tmp, under a name made from the folder's path, mode 0700, and
  refused if it belongs to somebody else.
- Postgres refuses to run as root. As root it runs as the owner of its existing data, else as
  `postgres`, else as `nobody`. If that user cannot enter the project (a checkout under /root), data
  and sockets live in /var/lib/puff/KEY.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import re
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from puff.errors import EmbeddedError

__all__ = ["Place", "User", "can_enter", "locate", "project_folder"]

SOCKET_MAX = 103  # bytes of sun_path: 108 with its NUL on Linux, 104 on macOS and the BSDs
LONGEST_SOCKET = len("/s/.s.PGSQL.5432")
# Nothing that means something in a URL or in a list of hosts.
PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")
ROOT_HOME = Path("/var/lib/puff")


@dataclass(frozen=True)
class User:
    """Whom a server runs as."""

    uid: int
    gid: int
    name: str


@dataclass(frozen=True)
class Place:
    kind: str  # "postgres" or "redis"
    state: Path
    home: Path  # state, or where the server's user can go
    run: Path
    user: User | None  # None: as ourselves

    @property
    def data(self) -> Path:
        return self.home / self.kind

    @property
    def sockets(self) -> Path:
        return self.run / "s"

    @property
    def lease(self) -> Path:
        return self.run / "lease"

    @property
    def log(self) -> Path:
        return self.state / f"{self.kind}.log"

    @property
    def lock(self) -> Path:
        return self.state / f"{self.kind}.lock"

    @property
    def start_lock(self) -> Path:
        return self.state / f"{self.kind}.start"

    def make_folders(self) -> None:
        """The folders that only the server's user may enter."""
        for folder in (self.data, self.sockets):
            with _explained(folder):
                _make(folder, 0o700)
                if self.user and folder.stat().st_uid != self.user.uid:
                    os.chown(folder, self.user.uid, self.user.gid)


def locate(kind: str, project: Path) -> Place:
    """Makes what must exist before anybody can look for a running server. Cheap when it exists."""
    project = project.resolve()
    state = project / ".puff"
    with _explained(state):
        if not state.is_dir():
            _make(state, 0o711)
            (state / ".gitignore").write_text("*\n")
            if os.geteuid() == 0:
                owner = project.stat()
                os.chown(state, owner.st_uid, owner.st_gid)
        user = _server_user(kind, state / kind)
        home = state
        if user and not can_enter(state, user):
            home = _home_for_root(kind, state, user)
        run = _run_folder(kind, state, home)
    return Place(kind, state, home, run, user)


def project_folder(project: str | os.PathLike[str] | None) -> Path:
    """`project`, else where PUFF_CONFIG lies, else the current folder (where puff.toml is read)."""
    if project is not None:
        return Path(project)
    config = os.environ.get("PUFF_CONFIG")
    return Path(config).parent if config else Path.cwd()


def can_enter(path: Path, user: User) -> bool:
    """Whether `user` may go down to `path`, by the mode bits (an access list is not looked at)."""
    for folder in (path, *path.parents):
        s = folder.stat()
        bit = 0o100 if s.st_uid == user.uid else 0o010 if s.st_gid == user.gid else 0o001
        if not s.st_mode & bit:
            return False
    return True


def _server_user(kind: str, data: Path) -> User | None:
    if kind != "postgres" or os.geteuid() != 0:
        return None
    if data.is_dir() and data.stat().st_uid != 0:
        with contextlib.suppress(KeyError):
            return _user(pwd.getpwuid(data.stat().st_uid))
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return _user(pwd.getpwnam(name))
    raise EmbeddedError(
        "Postgres refuses to run as root, and there is no user `postgres` or `nobody` to run it "
        "as: run puff as another user, or make one (useradd --system postgres)"
    )


def _user(entry: pwd.struct_passwd) -> User:
    return User(entry.pw_uid, entry.pw_gid, entry.pw_name)


def _home_for_root(kind: str, state: Path, user: User) -> Path:
    link = state / kind
    if link.is_dir() and not link.is_symlink():
        raise EmbeddedError(
            f"{link} holds data, but {user.name}, as whom Postgres runs because puff is root, may "
            "not enter a folder above it: chmod o+x that folder, or run puff as the data's owner"
        )
    home = ROOT_HOME / _key(state)
    _make(ROOT_HOME, 0o755)
    _make(home, 0o711)
    _link(link, home / kind)
    return home


def _run_folder(kind: str, state: Path, home: Path) -> Path:
    """Every process must find the same one: a choice that is not obvious is written as a link."""
    link, plain = state / f"{kind}.run", home / f"{kind}.run"
    if _fits(plain):
        if plain.is_symlink():  # the project had a longer name once
            plain.unlink()
        _make(plain, 0o711)
        if plain != link:
            _link(link, plain)
        return plain
    return _short_run_folder(kind, link, state)


def _short_run_folder(kind: str, link: Path, state: Path) -> Path:
    uid = os.geteuid()
    name = f"puff-{uid}-{_key(state)}-{kind}"
    choices = [Path("/tmp") / name]
    if uid and Path(f"/run/user/{uid}").is_dir():
        choices.insert(0, Path(f"/run/user/{uid}") / name)
    if link.is_symlink():
        # A link that came with a copy of somebody's project names another key, and is no choice.
        choices = [c for c in choices if str(c) == os.readlink(link)] or choices
    folder = choices[0]
    # As root the server's user must get through; it cannot list, and its own folder below is 0700.
    _make(folder, 0o711 if uid == 0 else 0o700)
    if not _is_ours(folder):
        raise EmbeddedError(f"{folder} belongs to somebody else: remove it, or give the pool a url")
    _link(link, folder)
    return folder


def _make(folder: Path, mode: int) -> None:
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=mode, parents=True)
        folder.chmod(mode)  # whatever the umask says


def _fits(run: Path) -> bool:
    text = str(run)
    return len(os.fsencode(text)) + LONGEST_SOCKET <= SOCKET_MAX and bool(PLAIN.fullmatch(text))


def _is_ours(folder: Path) -> bool:
    """A real folder that nobody else can write to: /tmp is everybody's."""
    try:
        s = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(s.st_mode) and s.st_uid == os.geteuid() and not s.st_mode & 0o022


def _link(link: Path, target: Path) -> None:
    if link.is_symlink() and os.readlink(link) == str(target):
        return
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    fresh.symlink_to(target)
    fresh.replace(link)  # atomic: two first starts may race


def _key(state: Path) -> str:
    return hashlib.sha256(os.fsencode(state)).hexdigest()[:16]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        reason = f"{e.filename or path}: {e.strerror}"
        raise EmbeddedError(
            f"no place for a private server: {reason}; give the pool a url, or fix the folder"
        ) from None
