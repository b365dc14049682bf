"""The arguments of every command: jsonargparse's parser, with help and errors in plain words."""

import os
import re
import sys

from jsonargparse import ArgumentParser

from cyclegan_ms import __version__
from cyclegan_ms.errors import UserError, nearest

__all__ = ["Parser"]

_WORDS = {
    # Of a key that may also be null, with all the types that were tried.
    r"Does not validate against any of the Union subtypes Subtypes: \[.*?\] Errors: - (.+?)"
    r"(?: - Expected a <class 'NoneType'>)? Given value type: <class '\w+'> Given value: (.*)":
        r"\1. Got value: \2",
    r"Parser key ": "",
    r"a typing\.Literal": "one of ",
    r"a <class 'list'>": "a list, such as [one, two]",
    r"(?<=Got value: )(\[[^\]]*)$": r"\1 (a shell wants quotes around it)",
    r"Not of type \w+: invalid literal for int\(\) with base 10: ('.*?'|\".*?\")"
    r"(?:\. Got value: .*)?": r"\1 is no whole number",
    r"Not of type \w+: could not convert string to float: ('.*?'|\".*?\")(?:\. Got value: .*)?":
        r"\1 is no number",
    r"Not of type \w+: (\S+) not an integer": r"\1 is no whole number",
    r"Not of type \w+: (\S+) not a number": r"\1 is no number",
    r"Not of type \w+: int\(\) argument must be .*, not '(\w+)'": r"must be a whole number, not \1",
    r"Not of type \w+: float\(\) argument must be .*, not '(\w+)'": r"must be a number, not \1",
    r"Not of type \w+: does not conform to restriction v(.+?)\. Got value: (.*)": r"\2 is not \1",
    r"Not of type \w+: (\S+) does not conform to restriction v": r"\1 is not ",
    r"(?<=[\d ])and v(?=[<>])": "and ",
    r"Expected a <class 'float'>\. Got value: (.+?)(?:\. Got value: .*)?$": r"\1 is no number",
    r"Expected a <class 'int'>\. Got value: (.+?)(?:\. Got value: .*)?$": r"\1 is no whole number",
    r"Expected a <class 'bool'>\. Got value: (.+)": r"must be true or false, not \1",
    r"Unexpected config:": "the configuration holds no settings",
    r"Expected a <class 'str'>\. Got value: (True|False)": (
        "Expected words (in YAML, yes, no, on and off are not: write them in quotes, 'yes')"
    ),
    r"Expected a <class 'str'>": "Expected words, in quotes",
}  # fmt: skip
"""jsonargparse's words, as patterns in the order in which they are looked for, and what users are
told"""


class Parser(ArgumentParser):
    """An argument parser that reports errors in one or two lines, without the list of all flags."""

    quit = True
    """whether an error ends the program with status 2, or raises UserError"""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, version=f"cyclegan_ms {__version__}", **kwargs)

    def parse_args(self, args=None, *rest, **options):
        """Parse arguments, once they are `_prepared`."""
        args = sys.argv[1:] if args is None else args
        return super().parse_args(self._prepared(args), *rest, **options)

    def _prepared(self, args):
        """Put the home folder for `~` at the start of an argument, or of its value; no URLs."""
        for arg in args:
            if url := re.match(r"(?:--[\w.]+=)?([a-z][a-z0-9+.-]*://.*)", str(arg)):
                self.error(f"{url[1]} is a URL: download it, and give the file or folder")
        home = os.path.expanduser("~")
        return [re.sub(r"^(--[\w.]+=)?~(?=/|$)", rf"\g<1>{home}", str(arg)) for arg in args]

    def format_help(self):
        """Leave out choices where they stand a second time, and that nothing is a default."""
        text = re.sub(r"type:\s+Literal\[[^\]]*\](,\s+)?", "", super().format_help())
        return re.sub(r"\s+\((?:default:\s+null)?\)|,\s+default:\s+null(?=\))", "", text)

    def error(self, message, ex=None):
        """Print or raise an error in this package's words."""
        lines = [line.strip() for line in message.splitlines() if line.strip()]
        text = " ".join(lines)
        for theirs, ours in _WORDS.items():
            text = re.sub(theirs, ours, text)
        if required := re.search(r"arguments are required: (.*)", text):
            flags = ", ".join(f"--{name}" for name in required[1].split(", "))
            text = text.replace(required[1], flags)
        text += self._suggestion(text)
        if not self.quit:
            raise UserError(text if text.startswith(self.prog) else f"{self.prog}: {text}")
        print(f"{self.prog}: error: {text}", file=sys.stderr)
        sys.exit(2)

    def _suggestion(self, text):
        """Suggest what a mistyped key may have meant."""
        unknown = re.search(r"unrecognized arguments: --([\w.]+)", text)
        unknown = unknown or re.search(r"Option '([\w.]+)' is not accepted", text)
        group = re.search(r"Group '([\w.]+)' does not accept option '([\w.]+)'", text)
        dashes = "--" if text.startswith("unrecognized") else ""
        if unknown:
            key = unknown[1]
        elif group:
            key = f"{group[1]}.{group[2]}"
        else:
            return ""
        near = nearest(key, [action.dest for action in self._actions])
        return f"; did you mean {dashes}{near}?" if near else f"; {self.prog} --help lists all keys"
