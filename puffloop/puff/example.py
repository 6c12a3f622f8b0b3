"""The puff.toml that `puff example_config` prints. A test reads it with `puff.config`."""

__all__ = ["TEXT"]

TEXT = """\
# puff.toml: settings of a Puff program. Everything is optional; examples are commented out.
# Precedence: flag, environment, .env, this file, default. docs/config.md lists every key.

# The app that `puff serve` hosts, as package.module:attr or package.module.attr
# asgi = "app:app"          # or wsgi = "app:app"

add_cwd_to_path = true      # import from the current folder
dotenv = true               # read .env from this folder or the nearest above it
# dotenv_path = "secrets/.env"

[server]
bind = "127.0.0.1:7777"     # or "unix:/run/app.sock"; --bind, PUFF_BIND
workers = 1
access_log = false
log_level = "info"
# max_body = 10485760       # bytes; what is longer gets 413
# keep_alive_timeout_ms = 65000

# Without a url a pool uses a private server of its own below .puff/ (docs/embedded.md).
# --default-postgres-url and PUFF_DEFAULT_POSTGRES_URL come first.
[[postgres]]
# url = "postgresql://app@localhost/app"
# max_size = 4              # shared connections
# query_timeout_ms = 0      # none

# puff.postgres.named_client("audit"); --audit-postgres-url, PUFF_AUDIT_POSTGRES_URL
# [[postgres]]
# name = "audit"

[[redis]]
# url = "redis://localhost:6379/0"
# timeout_ms = 10000

# puff greet
# [[commands]]
# function = "app.commands:greet"
# command_name = "greet"
"""
