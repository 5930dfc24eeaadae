"""What an operator is told when something cannot be done.

    Problem                 one clear line; exit 1
     ├─ ConfigError         the configuration file or a key is wrong; exit 78 (EX_CONFIG)
     ├─ InputError          a file or an argument is wrong; exit 65 (EX_DATAERR)
     └─ Unavailable         the database or a socket cannot be had; exit 69 (EX_UNAVAILABLE)
         └─ DatabaseAway    the database cannot be asked now; nothing says that it is the wrong one

The text names the thing and the value. Tracebacks are for defects, so these
never show one unless ``--debug`` asks for it.
"""


class Problem(Exception):
    """Something that the person who typed the command can mend."""

    exit_code = 1


class ConfigError(Problem):
    """The configuration is wrong; restarting will not help (systemd's RestartPreventExitStatus)."""

    exit_code = 78


class InputError(Problem):
    """A file, an argument or a template is wrong; nothing was changed."""

    exit_code = 65


class Unavailable(Problem):
    """Something outside is not there now; trying again later may help."""

    exit_code = 69


class DatabaseAway(Unavailable):
    """The database does not answer, or not yet; what can do without it goes on and waits."""
