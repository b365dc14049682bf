"""The arguments of every command: jsonargparse's parser, with help and errors in plain words."""

import os
import re
import sys

from jsonargparse import ArgumentParser, DefaultHelpFormatter

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
    r'^"(\w+)": Unable to load config .*': r"--\1 takes no value: its keys do, see --help",
    r'^"(\w+)": ': r"--\1: ",
}  # fmt: skip
"""jsonargparse's words, as patterns in the order in which they are looked for, and what users are
told"""


_BOUNDS = {">=": "at least", "<=": "at most", ">": "more than", "<": "less than"}

_HELP = {
    r"type: (?:Literal\[[^\]]*\]|Quality|str|bool|list\[str\])(?: \| null)?(?:, )?": "",  # is seen
    r"type: Union\[Literal\['auto'\], list\[float\]\]": "auto, or two numbers",
    r"type: PositiveInt": "whole number above 0",
    r"type: NonNegativeInt": "whole number",
    r"type: PositiveFloat": "number above 0",
    r"type: (?:NonNegativeFloat|float)": "number",
    r"type: ClosedUnitInterval": "0 to 1",
    r"type: OpenUnitInterval": "between 0 and 1",
    r" \| null(?=[,)])": "",
    r",? ?default: null(?=\))|(?<=\()default: null, ": "",
    r"default: \[(.*)\]\)$": lambda found: f"default: {found[1]})".replace("'", ""),
    r"default: (True|False)\)$": lambda found: f"default: {found[1].lower()})",
    r" \(\)$": "",
}
"""jsonargparse's words for types and defaults at the end of a help text, as patterns, and ours"""


class _Help(DefaultHelpFormatter):
    """Says what values may be in plain words, and not that nothing is a default."""

    def _expand_help(self, action):
        text = super()._expand_help(action)
        for theirs, ours in _HELP.items():
            text = re.sub(theirs, ours, text)
        return text.removesuffix(" (default: false)") if action.nargs == 0 else text


class Parser(ArgumentParser):
    """An argument parser that reports errors in one or two lines, without the list of all flags."""

    quit = True
    """whether an error ends the program with status 2, or raises UserError"""

    def __init__(self, *args, **kwargs):
        version = f"cyclegan_ms {__version__}"
        super().__init__(*args, version=version, formatter_class=_Help, **kwargs)

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
        text = re.sub(
            r"Group '([\w.]+)' does not accept option '([\w.]+)'", r"no setting \1.\2", text
        )
        if " is not " in text:
            for sign, words in _BOUNDS.items():
                text = re.sub(rf"(?<=[ (]){sign}(?=-?[\d.])", f"{words} ", text)
        if not self.quit:
            raise UserError(text if text.startswith(self.prog) else f"{self.prog}: {text}")
        print(f"{self.prog}: error: {text}", file=sys.stderr)
        sys.exit(2)

    def _suggestion(self, text):
        """Suggest what a mistyped key may have meant."""
        if choice := re.search(r"invalid choice: '(.+?)' \(choose from (.*)\)", text):
            near = nearest(choice[1], re.findall(r"[^', ]+", choice[2]))
            return f"; did you mean {near}?" if near else ""
        if bare := re.search(r"unrecognized arguments: ([^-]\S*)$", text):
            config = any(action.dest == "config" for action in self._actions)
            return (
                f"; did you mean --config {bare[1]}?" if config else "; a flag is missing before it"
            )
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
