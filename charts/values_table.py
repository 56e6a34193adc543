#!/usr/bin/env python3
"""values_table.py [--check]: the table of values in the chart's README, from the comments in its values.yaml. --check:
says whether it is fresh, and writes nothing."""

import pathlib
import re
import sys

CHART = pathlib.Path(__file__).resolve().parent / "quotakeeper"
BEGIN, END = "<!-- begin values -->\n", "<!-- end values -->"


def rows(lines):
    """Name, default and meaning of each value. A comment explains the line below it, which may hold several values."""
    above, comment = [], []
    for line in lines:
        if found := re.match(r"( *)# ?(.*)", line):
            comment.append(found[2])
        elif found := re.match(r"( *)([A-Za-z]+):(.*)", line):
            indent = len(found[1])
            above = [each for each in above if each[0] < indent] + [(indent, found[2])]
            yield ".".join(name for _, name in above), found[3].strip(), " ".join(comment)
            comment = []
        else:
            comment = []


def table(text):
    lines = ["| value | default | meaning |", "|---|---|---|"]
    for name, default, meaning in rows(text.splitlines()):
        escaped = meaning.replace("|", "\\|")
        if default:
            lines.append(f"| `{name}` | `{default}` | {escaped} |")
        elif escaped:
            lines.append(f"| **`{name}`** | | {escaped} |")
    return "\n".join(lines) + "\n"


def main():
    readme = CHART / "README.md"
    text = readme.read_text()
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    fresh = before + BEGIN + table((CHART / "values.yaml").read_text()) + END + after
    if "--check" not in sys.argv:
        readme.write_text(fresh)
    elif fresh != text:
        sys.exit(f"{readme} is stale; run: charts/values_table.py")


if __name__ == "__main__":
    main()
