#!/usr/bin/env python3
"""Holds all crates against deny.toml: licences, sources, crates that must not come, and crates that come twice.

`cargo deny check` does that and asks for advisories, too; to install it takes longer than CI has. This reads the same file, of
which it has to know every key.
"""

import re
import subprocess
import sys
import tomllib
from collections import defaultdict

OURS = "mcp-remote"
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
KNOWN = {
    "graph": {"targets", "all-features"},
    "advisories": {"version", "yanked"},
    "licenses": {"version", "allow"},
    "bans": {"multiple-versions", "wildcards", "deny", "skip"},
    "sources": {"unknown-registry", "unknown-git"},
}


def tree(target, edges):
    """The crates in the tree of this target: their versions and licences by name."""
    command = ["cargo", "tree", "--locked", "--target", target, "--edges", edges]
    command += ["--prefix", "none", "--format", "{p}|{l}"]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    crates = defaultdict(dict)
    for line in set(output.splitlines()):
        package, _, licence = line.removesuffix(" (*)").partition("|")
        name, version = package.split()[:2]
        crates[name][version.removeprefix("v")] = licence
    return crates


def is_allowed(expression, allowed):
    """Whether a licence expression can be met: each name in it is allowed or not, and AND binds more than OR."""
    words = re.findall(r"\(|\)|[^\s()/]+|/", expression.replace(" WITH ", "+WITH+"))
    terms = {"(": "(", ")": ")", "AND": "and", "OR": "or", "/": "or"}
    python = [terms.get(word) or str(word.replace("+WITH+", " WITH ") in allowed) for word in words]
    return eval(" ".join(python))  # of True, False, and, or and brackets


def faults(rules, lock):
    """What deny.toml has against the crates of a release, and against all that Cargo.lock names."""
    for package in lock["package"]:
        if package["name"] != OURS and package.get("source") != REGISTRY:
            yield f"{package['name']} {package['version']} comes from {package.get('source', 'a folder')}"
    allowed = set(rules["licenses"]["allow"])
    for name, versions in tree("all", "normal,build,dev").items():
        for version, licence in versions.items():
            if not is_allowed(licence or "none", allowed):
                yield f"{name} {version} has the licence {licence or 'none'}"
    with open("Cargo.toml", "rb") as file:
        for name, wanted in tomllib.load(file)["dependencies"].items():
            if "*" in (wanted if isinstance(wanted, str) else wanted["version"]):
                yield f"{name} is wanted in any version"
    skipped = {entry["crate"] for entry in rules["bans"]["skip"]}
    for target in rules["graph"]["targets"]:
        shipped = tree(target, "normal,build")
        for ban in rules["bans"]["deny"]:
            if ban["crate"] in shipped:
                yield f"{ban['crate']} must not come"
        for name, versions in shipped.items():
            new = [version for version in sorted(versions) if f"{name}@{version}" not in skipped]
            if len(new) > 1:
                yield f"{name} comes in the versions {', '.join(sorted(versions))}"
    gone = skipped - {f"{package['name']}@{package['version']}" for package in lock["package"]}
    for crate in gone:
        yield f"bans.skip names {crate}, which does not come any more"


def main():
    with open("deny.toml", "rb") as file:
        rules = tomllib.load(file)
    with open("Cargo.lock", "rb") as file:
        lock = tomllib.load(file)
    unknown = [f"{table}.{key}" for table in rules for key in rules[table].keys() - KNOWN.get(table, set())]
    if unknown:
        sys.exit(f"deny.toml has {', '.join(unknown)}, which this check does not know")
    found = sorted(set(faults(rules, lock)))
    if found:
        sys.exit("\n".join(found))
    print(f"crates: {len(lock['package'])} in Cargo.lock: all passed")


if __name__ == "__main__":
    main()
